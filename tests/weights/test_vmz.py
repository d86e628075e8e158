"""The authors' pickles: names and shapes from their files, logits from a plain evaluation of Caffe2's operators."""

import io
import os
import pickle
import pickletools
from collections import OrderedDict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.caffe2 import KINDS, evaluate

from muybridge.models.network import VideoResNet
from muybridge.weights.card import load_network
from muybridge.weights.importing import ImportOptions, import_weights
from muybridge.weights.vmz import convert_blobs, read_blobs

OURS = {"r2df": "f_r2d"}
CLASSES, WIDTH = 5, 4


def blobs_of(name: str, depth: int = 18, **changes: Any) -> tuple[dict[str, torch.Tensor], torch.Tensor, torch.Tensor]:
    """Random blobs of a network, a clip, and its logits."""
    blobs: dict[str, torch.Tensor] = {}
    clips = torch.randn(2, 3, 8, 32, 32, generator=torch.Generator().manual_seed(1))
    options = {"name": name, "depth": depth, "classes": CLASSES, "width": WIDTH, **changes}
    return blobs, clips, evaluate(blobs, clips, **options)


def python2_pickle(blobs: dict[str, np.ndarray], *, wrapped: bool = True) -> bytes:
    """As Python 2's cPickle writes protocol 2, byte by byte: numpy 1's module names, text for bytes."""
    out = io.BytesIO()

    def text(value: str | bytes) -> None:
        data = value.encode("latin1") if isinstance(value, str) else value
        out.write(b"T" + len(data).to_bytes(4, "little") + data)  # BINSTRING: Python 2's str

    def number(value: int) -> None:
        out.write(b"J" + value.to_bytes(4, "little", signed=True))

    out.write(b"\x80\x02")
    if wrapped:
        out.write(b"}(")
        text("blobs")
    out.write(b"}(")
    for name, array in blobs.items():
        text(name)
        out.write(b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\n")
        number(0)
        out.write(b"\x85")
        text("b")
        out.write(b"\x87R(")
        number(1)
        out.write(b"(")
        for size in array.shape:
            number(size)
        out.write(b"tcnumpy\ndtype\n")
        text(array.dtype.str[1:])
        number(0)
        number(1)
        out.write(b"\x87R(")
        number(3)
        text("<")
        out.write(b"NNN")
        number(-1)
        number(-1)
        number(0)
        out.write(b"tb\x89")
        text(array.astype(array.dtype.newbyteorder("<")).tobytes())
        out.write(b"tb")
    out.write(b"u")
    if wrapped:
        out.write(b"u")
    out.write(b".")
    return out.getvalue()


def written(tmp_path: Path, blobs: dict[str, Any], **how: Any) -> Path:
    arrays = {name: np.asarray(blob) for name, blob in blobs.items()}
    (tmp_path / "net.pkl").write_bytes(python2_pickle(arrays, **how))
    return tmp_path / "net.pkl"


def test_the_pickles_written_here_are_what_numpy_reads(tmp_path: Path) -> None:
    blobs = {"a": np.arange(6, dtype=np.float32).reshape(2, 3)}
    loaded = pickle.loads(written(tmp_path, blobs).read_bytes(), encoding="latin1")
    assert np.array_equal(loaded["blobs"]["a"], blobs["a"])


@pytest.mark.parametrize(
    ("name", "depth"), [(name, depth) for name in KINDS for depth in (18, 34)] + [("r2plus1d", 152), ("r3d", 152)]
)
def test_every_network_computes_what_caffe2_computes(tmp_path: Path, name: str, depth: int) -> None:
    blobs, clips, expected = blobs_of(name, depth)
    imported = import_weights(written(tmp_path, blobs), tmp_path / "out.safetensors", ImportOptions(clip_length=8))
    network, card = load_network(tmp_path / "out.safetensors")
    assert imported.format == "Caffe2 pickle of VMZ"
    assert card.specification.name == f"{OURS.get(name, name)}_{depth}"
    assert (card.specification.norm_epsilon, card.specification.mid_channel_rule) == (1e-3, "per_convolution")
    with torch.inference_mode():
        actual = network(clips)
    assert expected.std() > 0.05, "logits so alike would hide a mistake"
    assert torch.allclose(actual, expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


def test_the_pool_after_the_stem_is_taken_from_the_caller(tmp_path: Path) -> None:
    blobs, clips, expected = blobs_of("r2plus1d", 152, pool=True)
    file = written(tmp_path, blobs)
    without = import_weights(file, tmp_path / "out.safetensors", ImportOptions(clip_length=8))
    assert any("--stem-pool" in sentence for sentence in without.assumptions)
    options = ImportOptions(clip_length=8, stem_pool=True)
    assert not any(
        "pool" in sentence for sentence in import_weights(file, tmp_path / "out.safetensors", options).assumptions
    )
    network, _ = load_network(tmp_path / "out.safetensors")
    with torch.inference_mode():
        assert torch.allclose(network(clips), expected, rtol=1e-4, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("depth", [18, 34])
def test_names_and_shapes_are_those_of_the_authors_files(depth: int) -> None:
    """Against the lists that were read from the authors' R(2+1)D files."""
    lines = (Path(__file__).parent / f"vmz_blobs_r2plus1d_{depth}.txt").read_text(encoding="utf-8").splitlines()
    listed = {}
    for line in lines:
        name, _, shape = line.partition("\t")
        listed[name] = tuple(int(size) for size in shape.strip("(),").split(",") if size.strip())
    blobs = {name: np.broadcast_to(np.float32(1), shape) for name, shape in listed.items()}
    tensors = convert_blobs(blobs)
    from muybridge.models.family import build_specification

    with torch.device("meta"):
        expected = VideoResNet(build_specification(f"r2plus1d_{depth}")).state_dict()
    shapes = {name: tuple(tensor.shape) for name, tensor in tensors.items()}
    assert shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
    ours: dict[str, torch.Tensor] = {}
    evaluate(ours, torch.randn(1, 3, 8, 16, 16), name="r2plus1d", depth=depth, classes=400, width=64)
    assert {name: tuple(blob.shape) for name, blob in ours.items()} == listed, "the oracle of these tests is wrong"


@pytest.mark.parametrize("protocol", [2, 3, 5])
@pytest.mark.parametrize("wrap", [lambda blobs: {"blobs": blobs}, lambda blobs: blobs])
def test_pickles_of_any_numpy_are_read(tmp_path: Path, protocol: int, wrap: Any) -> None:
    blobs = {"conv1_w": np.random.default_rng(0).normal(size=(4, 3, 3, 7, 7)).astype(np.float32), "x": np.arange(3.0)}
    if protocol == 5:
        blobs = {name: np.asfortranarray(blob) for name, blob in blobs.items()}
    (tmp_path / "net.pkl").write_bytes(pickle.dumps(wrap(blobs), protocol=min(protocol, 4)))
    actual = read_blobs(tmp_path / "net.pkl")
    assert all(np.array_equal(actual[name], blob) for name, blob in blobs.items())
    assert actual["conv1_w"].dtype == np.float32
    assert np.array_equal(read_blobs(written(tmp_path, blobs, wrapped=False))["conv1_w"], blobs["conv1_w"])


def test_leftovers_of_training_and_name_scopes_are_ignored(tmp_path: Path) -> None:
    blobs, _, _ = blobs_of("r2plus1d")
    noise = {f"{name}_momentum": blob for name, blob in blobs.items() if name.endswith("_w")}
    more = {
        "LR": np.float32([0.1]),
        "ITER": np.array([7]),
        "optimizer_iteration": np.array([7]),
        "SgdOptimizer_1_lr_gpu0": np.float32([1]),
    }
    plain = convert_blobs(read_blobs(written(tmp_path, blobs)))
    scoped = {f"gpu_0/{name}": blob for name, blob in {**blobs, **noise, **more}.items()}
    actual = convert_blobs(read_blobs(written(tmp_path, scoped)))
    assert actual.keys() == plain.keys()
    assert all(torch.equal(actual[name], plain[name]) for name in plain)


def test_nothing_may_be_missing_left_over_or_of_another_shape(tmp_path: Path) -> None:
    blobs, _, _ = blobs_of("mc3")
    cases = (
        ({**blobs, "mystery_w": torch.zeros(3)}, r"no network of the family has the Caffe2 blobs mystery_w \(3,\)"),
        ({**blobs, "comp_0_conv_1_bias": torch.zeros(4)}, "comp_0_conv_1_bias"),
        (
            {**blobs, "conv1_spatbn_relu_rm": torch.zeros(5)},
            r"stem.1.running_mean has the shape \(5,\), expected \(4,\)",
        ),
        (
            {name: blob for name, blob in blobs.items() if name != "comp_2_spatbn_1_riv"},
            "layer2.0.conv1.1.running_var.*missing",
        ),
        ({name: blob for name, blob in blobs.items() if not name.startswith("comp_7_")}, "there are 7 basic blocks"),
        (
            {name: blob for name, blob in blobs.items() if not name.startswith("last")},
            "one classifier, but 0",
        ),
        ({**blobs, "last_out_L7_w": torch.zeros(7, 32)}, "one classifier, but 2"),
        ({"a": torch.zeros(1)}, "no Caffe2 blobs conv1_w"),
        ({**blobs, "fc_x": torch.tensor(0.0), "conv1_w": torch.full((4, 3, 3, 7, 7), torch.inf)}, "fc_x"),
    )
    for wrong, sentence in cases:
        with pytest.raises(ValueError, match=sentence):
            import_weights(written(tmp_path, wrong), tmp_path / "out.safetensors")
    infinite = {**blobs, "conv1_w": torch.full((4, 3, 3, 7, 7), torch.inf)}
    with pytest.raises(ValueError, match=r"stem\.0\.weight holds numbers that are not finite"):
        import_weights(written(tmp_path, infinite), tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


class Hostile:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.target),)


def test_hostile_pickles_are_refused_before_they_run(tmp_path: Path) -> None:
    target, file = tmp_path / "it-ran", tmp_path / "evil.pkl"
    array = np.zeros(3, np.float32)
    for content in (
        {"blobs": {"conv1_w": array, "comp_0_conv_1_w": Hostile(target)}},
        Hostile(target),
        {"conv1_w": np.array([Hostile(target)], dtype=object)},
        {"conv1_w": np.array([(1, 2)], dtype=[("a", "i4"), ("b", "i4")])},
        {"conv1_w": np.array(["text"])},
        {"conv1_w": torch.nn.Linear(1, 1)},
        {"conv1_w": Path("a")},
    ):
        file.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(ValueError, match=r"evil.pkl holds more than arrays of numbers \(.*it was not run"):
            import_weights(file, tmp_path / "out.safetensors")
    for program in (
        b"\x80\x02cbuiltins\neval\n(T\x0b\x00\x00\x00__import__.tR.",
        b"\x80\x02c__builtin__\nfile\n.",
        b"\x80\x02cos\nsystem\n(T\x02\x00\x00\x00lstR.",
        b"\x80\x02}(T\x01\x00\x00\x00aT\x01\x00\x00\x00bQu.",  # a reference outside of the file
        b"\x80\x04\x8c\x12numpy.core.numeric\x8c\x06__dict\x93.",
    ):
        file.write_bytes(program)
        with pytest.raises(ValueError, match=r"holds more than arrays of numbers|is damaged"):
            read_blobs(file)
    assert not target.exists()
    pickle.loads(pickle.dumps(Hostile(target), protocol=2))
    assert target.exists(), "the file was not hostile, so this test shows nothing"


def test_arrays_that_lie_about_their_size_are_refused(tmp_path: Path) -> None:
    content = python2_pickle({"a": np.zeros((2, 3), np.float32)})
    for shape, sentence in (
        ((2, 4), "24 bytes, its shape"),
        ((-2, -3), "a has a shape that no array has"),
        ((2**30, 2**30), "24 bytes"),
    ):
        lying = content
        for old, new in zip((2, 3), shape, strict=True):
            lying = lying.replace(b"J" + old.to_bytes(4, "little") + (b"J" if old == 2 else b"t"),
                                  b"J" + new.to_bytes(4, "little", signed=True) + (b"J" if old == 2 else b"t"), 1)  # fmt: skip
        assert lying != content
        (tmp_path / "net.pkl").write_bytes(lying)
        with pytest.raises(ValueError, match=sentence):
            read_blobs(tmp_path / "net.pkl")


def test_contents_that_are_not_numbers_are_refused(tmp_path: Path) -> None:
    """Found by fuzzing: a truth value where the bytes of the numbers belong."""
    content = python2_pickle({"a": np.zeros((2, 3), np.float32)})
    numbers = b"T" + (24).to_bytes(4, "little") + bytes(24)
    assert numbers in content
    for other in (b"\x88", b"N", b"K\x18", b"}"):
        (tmp_path / "net.pkl").write_bytes(content.replace(numbers, other))
        with pytest.raises(ValueError, match="the blob a is an array without numbers"):
            read_blobs(tmp_path / "net.pkl")
    (tmp_path / "net.pkl").write_bytes(content.replace(numbers, b"X\x03\0\0\0" + "\u20ac".encode()))
    with pytest.raises(ValueError, match="the blob a has characters in place of bytes"):
        read_blobs(tmp_path / "net.pkl")
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"a": 10**400}, protocol=2))
    with pytest.raises(ValueError, match="the blob a is a number that no array holds"):
        read_blobs(tmp_path / "net.pkl")


def test_truncated_and_foreign_files_are_refused_in_words(tmp_path: Path) -> None:
    blobs, _, _ = blobs_of("r2d")
    whole = written(tmp_path, blobs).read_bytes()
    torn = tmp_path / "torn.pkl"
    places = {place for _, _, place in pickletools.genops(whole) if place is not None}
    for length in [*sorted(places)[2:400:7], *range(3, len(whole), len(whole) // 30)]:
        torn.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"torn.pkl is (damaged|neither)"):
            import_weights(torn, tmp_path / "out.safetensors")
    for content, sentence in (
        ([1], "holds a list"),
        ({"a": "text"}, "'a' is a str"),
        ({}, "holds a dict"),
        (3, "holds a int"),
    ):
        torn.write_bytes(pickle.dumps(content, protocol=2))
        with pytest.raises(ValueError, match=sentence):
            import_weights(torn, tmp_path / "out.safetensors")
    assert not (tmp_path / "out.safetensors").exists()


def test_arrays_that_share_their_numbers_are_refused(tmp_path: Path) -> None:
    """A pickle may name one array often, and each blob would be a copy."""
    array = np.zeros(100_000, np.float32)
    (tmp_path / "net.pkl").write_bytes(pickle.dumps({f"b{index}": array for index in range(1000)}, protocol=2))
    with pytest.raises(ValueError, match="the blob b1 shares its numbers with others"):
        read_blobs(tmp_path / "net.pkl")


def test_ordered_dictionaries_of_python_2_are_read(tmp_path: Path) -> None:
    """They were pickled as a call with a list of pairs."""

    class Pairs:
        def __reduce__(self) -> Any:
            return OrderedDict, ([["conv1_w", np.arange(3.0)], ["b", np.float32(2)]],)

    (tmp_path / "net.pkl").write_bytes(pickle.dumps({"blobs": Pairs()}, protocol=2))
    assert {name: blob.tolist() for name, blob in read_blobs(tmp_path / "net.pkl").items()} == {
        "conv1_w": [0.0, 1.0, 2.0],
        "b": 2.0,
    }


@pytest.mark.parametrize("dtype", [">f4", ">f8", ">f2", ">i4"])
def test_big_endian_blobs_have_the_same_numbers(tmp_path: Path, dtype: str) -> None:
    numbers = np.array([[1.5, -2, 3], [4, 256, -513]])
    file = tmp_path / "big.pkl"
    file.write_bytes(pickle.dumps({"blobs": {"conv1_w": numbers.astype(dtype)}}, protocol=2))
    (blob,) = read_blobs(file).values()
    assert blob.dtype.isnative
    assert np.array_equal(blob, numbers.astype(dtype))


def test_a_blob_in_two_name_scopes_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "two.pkl"
    arrays = {"gpu_0/conv1_w": np.zeros(2, np.float32), "gpu_1/conv1_w": np.ones(2, np.float32)}
    file.write_bytes(pickle.dumps({"blobs": arrays}, protocol=2))
    with pytest.raises(ValueError, match="holds the blob conv1_w twice, in different name scopes"):
        read_blobs(file)
