"""The initial network: random weights by seed, or pretrained ones as far as they fit."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from muybridge.models.family import build_specification
from muybridge.models.heads import Head, make_ordinal_outputs
from muybridge.models.network import VideoResNet, create_model
from muybridge.records import Preprocessing
from muybridge.training.checkpointer import save_weights
from muybridge.training.job import prepare_job
from muybridge.training.network import initialize_network
from muybridge.weights.card import load_card, save
from runs import save_job, tiny_run
from task_data import write_task_data

TINY_CLIPS = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)


def same(ours: VideoResNet, theirs: VideoResNet, name: str) -> bool:
    return torch.equal(ours.state_dict()[name], theirs.state_dict()[name])


def test_the_seed_alone_decides_the_first_weights(motions: Path, tmp_path: Path) -> None:
    settings = tiny_run(motions, tmp_path)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = initialize_network(settings, 2)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.manual_seed(2)
    assert same(first, initialize_network(settings, 2), "stem.0.weight")
    assert not same(first, initialize_network(tiny_run(motions, tmp_path, {"seed": 1}), 2), "stem.0.weight")


@pytest.fixture
def weights(tmp_path: Path) -> Callable[..., Path]:
    def write(classes: tuple[str, ...], model: str = "r2plus1d_10", **changes: Any) -> Path:
        with torch.random.fork_rng():
            torch.manual_seed(99)
            described = build_specification(model, num_classes=len(classes), width=4, clip_length=4, **changes)
            network = VideoResNet(described)
        path = tmp_path / f"{'_'.join(classes)}.safetensors"
        save(network, path, classes=classes, preprocessing=TINY_CLIPS, source="a test")
        return path

    return write


def init_job(motions: Path, tmp_path: Path, path: Path) -> Any:
    return prepare_job(tiny_run(motions, tmp_path / "run", {"init": str(path)}))


def test_weights_of_the_same_classes_bring_their_classifier(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    """The rows of the classifier follow the classes' names, whatever their order and spelling there."""
    path = weights(("Right", "LEFT"))
    job = init_job(motions, tmp_path, path)
    theirs = create_model_from(path)
    assert same(job.network, theirs, "layer4.0.conv2.0.0.weight")
    assert torch.equal(job.network.fc.weight, theirs.fc.weight.flip(0))
    assert torch.equal(job.network.fc.bias, theirs.fc.bias.flip(0))
    assert job.notes[0] == f"starting from {path} (a test) with their classifier"


def create_model_from(path: Path) -> VideoResNet:
    from muybridge.weights.address import load_weights

    return load_weights(path)[0]


def test_weights_keep_the_licence_of_those_they_start_from(motions: Path, tmp_path: Path) -> None:
    network = create_model("r2plus1d_10", num_classes=2, width=4, clip_length=4)
    path, licence = tmp_path / "theirs.safetensors", "CC BY-NC 4.0"
    save(network, path, classes=["a", "b"], preprocessing=TINY_CLIPS, licence=licence)
    settings = tiny_run(motions, tmp_path / "run", {"init": str(path)})
    last = tmp_path / "run" / "last.safetensors"
    for resume in (False, True):
        job = prepare_job(settings, resume=resume)
        save_weights(job, last.name)
        card = load_card(last)
        assert (card.licence, card.source) == (licence, f"trained by muybridge on {motions}, starting from {path}")
        save_job(job)
        path.unlink(missing_ok=True)  # a resumed run does not read it
    again = prepare_job(tiny_run(motions, tmp_path / "again", {"init": str(last)}))
    assert again.licence == licence
    plain = prepare_job(tiny_run(motions, tmp_path / "plain"))
    save_weights(plain, "last.safetensors")
    card = load_card(tmp_path / "plain" / "last.safetensors")
    assert (card.licence, card.source) == ("unknown", f"trained by muybridge on {motions}")


@pytest.mark.parametrize("classes", [("a", "b", "c"), ("left", "up")])
def test_weights_of_other_classes_bring_all_but_their_classifier(
    classes: tuple[str, ...], motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    path = weights(classes)
    job = init_job(motions, tmp_path, path)
    fresh, theirs = initialize_network(job.settings, 2), create_model_from(path)
    assert same(job.network, theirs, "stem.0.weight")
    assert same(job.network, theirs, "stem.1.running_mean")
    assert same(job.network, fresh, "fc.weight")
    assert job.notes[0] == f"starting from {path} (a test) with a new classifier of 2 classes"


@pytest.mark.parametrize(
    ("names", "units", "is_kept"), [(("b", "LABEL"), (), True), (("label",), ("mm",), False), (("ef",), (), False)]
)
def test_a_regression_keeps_its_head_where_targets_have_their_names(
    names: tuple[str, ...], units: tuple[str, ...], is_kept: bool, tmp_path: Path
) -> None:
    count = len(names)
    theirs = Head("regression", names, "identity", units or None, (7.0, 5.0)[:count], (2.0, 4.0)[:count])
    network = create_model("r2plus1d_10", num_classes=count, width=4, clip_length=4).eval()
    path = tmp_path / "old.safetensors"
    save(network, path, classes=names, preprocessing=TINY_CLIPS, head=theirs)
    data = write_task_data(tmp_path / "data", "regression", num_videos={"train": 6, "validation": 2, "test": 2})
    changes = {"init": str(path), "training.task": "regression", "training.units": ("px",)}
    job = prepare_job(tiny_run(data, tmp_path / "run", changes))
    assert ("their head for regression (label), scaled to" in job.notes[0]) == is_kept
    clips = torch.randn(2, 3, 4, 28, 28)
    assert job.head is not None
    with torch.no_grad():
        old = theirs.invert_link(network(clips).double().numpy())[:, -1:]
        new = job.head.invert_link(job.network.eval()(clips).double().numpy())
    assert (abs(old - new).max() < 1e-4) == is_kept
    assert job.head.target_mean != (7.0,)  # the new targets have statistics of their own
    if not is_kept:
        assert f"a new head of 1 output for regression (label; theirs is for {names[0]})" in job.notes[0]


NAMES, NUMBERS = ("still", "slow", "fast"), ("0", "1", "2")


@pytest.mark.parametrize(
    ("ours", "levels", "is_kept"),
    [
        (NAMES, NAMES, True),
        (NAMES, ("Still", "slow ", "FAST"), True),
        (NAMES, ("still", "slow", "faster"), False),  # no output is called after the highest level
        (NAMES, ("still", "fast", "slow"), False),
        (NAMES, ("still", "slow"), False),
        (NUMBERS, NUMBERS, True),
        (NUMBERS, ("0", "1", "3"), False),
    ],
)
def test_an_ordinal_target_keeps_its_head_where_all_levels_have_their_names(
    ours: tuple[str, ...], levels: tuple[str, ...], is_kept: bool, tmp_path: Path
) -> None:
    theirs = Head("ordinal", make_ordinal_outputs(levels), "cumulative_sigmoid")
    network = create_model("r2plus1d_10", num_classes=len(theirs.outputs), width=4, clip_length=4)
    path = tmp_path / "old.safetensors"
    save(network, path, classes=levels, preprocessing=TINY_CLIPS, head=theirs)
    data = write_task_data(
        tmp_path / "data",
        "ordinal",
        num_videos={"train": 6, "validation": 2, "test": 2},
        describe=lambda task, speeds: {"label": ours[round(speeds[0])]},
    )
    changes = {"init": str(path), "training.task": "ordinal", "training.levels": ours if ours == NAMES else ()}
    job = prepare_job(tiny_run(data, tmp_path / "run", changes))
    if is_kept:
        assert f"with their head for ordinal ({', '.join(levels)})" in job.notes[0]
        assert same(job.network, network, "fc.weight")
    else:
        new = f"a new head of 2 outputs for ordinal ({', '.join(ours)}; theirs is for {', '.join(levels)})"
        assert new in job.notes[0]
        assert not torch.equal(job.network.fc.weight[0], network.fc.weight[0])


def test_more_classes_than_needed_still_bring_the_rows_that_are(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    path = weights(("right", "up", "left"))
    job = init_job(motions, tmp_path, path)
    assert torch.equal(job.network.fc.weight, create_model_from(path).fc.weight[[2, 0]])


def test_weights_of_another_body_are_refused_by_shape(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    wider = {"init": str(weights(("a", "b"))), "network.width": 8}
    with pytest.raises(
        ValueError, match=r"r2plus1d_10 do not fit r2plus1d_10 .*stem\.0\.weight \(3, 3, 1, 7, 7\), expected \(6, 3"
    ):
        prepare_job(tiny_run(motions, tmp_path / "run", wider))
    with pytest.raises(ValueError, match=r"are of r3d_10, not of r2plus1d_10; add --model r3d_10"):
        init_job(motions, tmp_path, weights(("c", "d"), "r3d_10"))


def test_what_the_settings_leave_open_is_as_in_the_weights(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    path = weights(("a", "b"), mid_channel_rule="per_block", norm_epsilon=1e-5, stem_pool=True)
    job = init_job(motions, tmp_path, path)
    found = job.network.specification
    assert (found.mid_channel_rule, found.norm_epsilon, found.stem_pool) == ("per_block", 1e-5, True)
    assert prepare_job(tiny_run(motions, tmp_path / "other")).network.specification.norm_epsilon == 1e-3
    save_job(job)
    path.unlink()
    again = prepare_job(job.settings, resume=True).network.specification
    assert again == found
    changes = {"init": str(weights(("a", "b"))), "network.norm_epsilon": 0.01}
    job = prepare_job(tiny_run(motions, tmp_path / "third", changes))
    assert job.network.specification.norm_epsilon == 0.01
    assert "epsilon of 0.01 where they were trained with 0.001" in job.notes[0]


def test_the_inside_of_a_factorised_convolution_is_a_setting(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    changes = {"network.middle_relu": False, "network.stem_mid_channels": 9}
    found = prepare_job(tiny_run(motions, tmp_path / "run", changes)).network.specification
    assert (found.middle_relu, found.stem_mid_channels) == (False, 9)
    usual = prepare_job(tiny_run(motions, tmp_path / "usual")).network.specification
    assert (usual.middle_relu, usual.stem_mid_channels) == (True, 3)
    path = weights(("a", "b"), middle_relu=False, stem_mid_channels=5)
    inherited = prepare_job(tiny_run(motions, tmp_path / "tuned", {"init": str(path)})).network.specification
    assert (inherited.middle_relu, inherited.stem_mid_channels) == (False, 5)


def test_another_length_of_clips_is_free(motions: Path, tmp_path: Path, weights: Callable[..., Path]) -> None:
    """Table 3 of the paper: 8 frames, then 32."""
    path = weights(("a", "b"))
    job = prepare_job(tiny_run(motions, tmp_path / "run", {"init": str(path), "clips.length": 12}))
    theirs = create_model_from(path)
    assert all(same(job.network, theirs, name) for name in theirs.state_dict() if not name.startswith("fc"))
    assert job.network.specification.clip_length == 12


def test_frozen_stages_stay_as_they_were(
    motions: Path, tmp_path: Path, weights: Callable[..., Path], trained: Callable[..., Any]
) -> None:
    path = weights(("a", "b"))
    changes = {"init": str(path), "training.frozen_stages": 2, "training.rate_factors": (1.0, 1.0, 1.0, 0.5, 1.0, 2.0)}
    settings = tiny_run(motions, tmp_path / "run", changes)
    assert "conv1 to conv2 frozen with their batch norm" in prepare_job(settings).notes[0]
    trained(settings, resume=True)
    network = create_model_from(tmp_path / "run" / "last.safetensors")
    theirs, ours = create_model_from(path).state_dict(), network.state_dict()
    for name, tensor in theirs.items():
        if name.startswith(("stem.", "layer1.")):
            assert torch.equal(ours[name], tensor), f"{name} is frozen"
    assert not same(network, create_model_from(path), "layer2.0.conv1.0.0.weight")
    assert not same(network, create_model_from(path), "layer2.0.conv1.1.running_mean")
    with pytest.raises(ValueError, match="name weights with --init"):
        tiny_run(motions, tmp_path, {"training.frozen_stages": 1})


def test_a_run_that_goes_on_needs_its_first_weights_no_more(
    motions: Path, tmp_path: Path, weights: Callable[..., Path]
) -> None:
    path = weights(("a", "b"))
    save_job(init_job(motions, tmp_path, path))
    path.unlink()
    job = prepare_job(tiny_run(motions, tmp_path / "run", {"init": str(path)}), resume=True)
    assert all(note.startswith("training in fp32") for note in job.notes)


def test_a_rounding_seed_moves_weights_by_at_most_one_unit_in_the_last_place(motions: Path, tmp_path: Path) -> None:
    plain, first, again, second = (
        prepare_job(tiny_run(motions, tmp_path / name, {"training.rounding_seed": seed})).network.state_dict()
        for name, seed in (("a", 0), ("b", 1), ("c", 1), ("d", 2))
    )
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["stem.0.weight"], second["stem.0.weight"])
    for name, weights in plain.items():
        if weights.ndim > 1:
            unit = torch.nextafter(weights.abs(), torch.tensor(torch.inf)) - weights.abs()
            moved = (first[name] - weights).abs()
            assert (moved <= unit).all() and 0.5 < (moved > 0).float().mean() < 0.8  # two of three
        else:
            assert torch.equal(first[name], weights)
