"""Everything that reads foreign bytes: what it reads, how, and a corpus made by code to begin from.

A reader takes a file that anybody may have written and ends in one of two ways: with a value, or with a ValueError or
VideoError of this package, which has a sentence. Anything else is a fault: another exception, memory, a hang, a crash.
"""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import tarfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import yaml
from PIL import Image

import muybridge
from caffe2 import evaluate
from muybridge.datasets.manifest import ShardMember
from muybridge.datasets.video_list import read_video_list
from muybridge.evaluation.scores import read_scores
from muybridge.evaluation.video_scores import read_video_scores
from muybridge.files.run_folder import read_json_lines
from muybridge.inference.onnx_checks import check_onnx_file
from muybridge.prepared.dataset import DESCRIPTION, MANIFEST, open_prepared
from muybridge.prepared.mp4 import parse_header_length
from muybridge.prepared.shards import ShardFrameSource, format_shard_path
from muybridge.prepared.tar_shards import is_intact
from muybridge.records import Preprocessing, VideoError
from muybridge.training.given_settings import build_settings, read_saved_settings
from muybridge.video.bitstream import BitstreamParser
from muybridge.video.media import MediaFiles
from muybridge.video.truncation import find_missing_end, read_promised_seconds
from muybridge.weights.card import load_network
from muybridge.weights.torch_file import flatten_tensors, read_torch_file
from muybridge.weights.vmz import convert_blobs, read_blobs
from stored import HEIGHT, WIDTH, stored_video
from videos import write_video

SIZE = {"scale_height": 16, "scale_width": 16}


@dataclass(frozen=True)
class Reader:
    """One way in: file names that it takes, what reads such a file, and files to begin from, by name."""

    names: tuple[str, ...]
    read: Callable[[Path], object]
    make_seeds: Callable[[Path], dict[str, bytes]]


def is_expected(error: BaseException) -> bool:
    """Whether an exception is an answer: a sentence of this package, not of a library or of Python."""
    return type(error) in (ValueError, VideoError) and len(str(error)) > 10


def _read_media(path: Path) -> None:
    source = MediaFiles(str(path.parent), **SIZE)
    ticks = source.read_frame_times(path.name).ticks
    source.read(path.name, ticks[[0, len(ticks) // 2, -1]])


_VIDEOS: dict[str, dict[str, Any]] = {
    "a.mp4": {"options": {"bf": "2"}},
    "b.mp4": {"container_options": {"movflags": "frag_keyframe+empty_moov"}},
    "a.mkv": {"codec": "mpeg4", "audio": True},
    "a.webm": {"codec": "libvpx", "options": {"deadline": "realtime"}},
    "a.ts": {"codec": "mpeg2video"},
    "a.mpg": {"codec": "mpeg2video", "options": {"bf": "2"}},
    "a.avi": {"codec": "mpeg4", "options": {"bf": "2"}},
    "a.flv": {"codec": "flv1"},
    "a.wmv": {"codec": "wmv2", "container": "asf"},
    "a.gif": {"codec": "gif", "pixel_format": "rgb8"},
}


def _make_videos(folder: Path) -> dict[str, bytes]:
    return {
        name: write_video(folder / name, 6, height=16, width=16, gop=3, **options).read_bytes()
        for name, options in _VIDEOS.items()
    }


def _make_picture_files(folder: Path) -> dict[str, bytes]:
    frames = np.arange(3 * 8 * 8 * 3, dtype=np.uint8).reshape(3, 8, 8, 3)
    files = {name: io.BytesIO() for name in ("a.npy", "a.npz", "a.zip", "a.tar", "a.webp", "a.png")}
    np.save(files["a.npy"], frames)
    np.savez_compressed(files["a.npz"], frames=frames)
    pictures = [Image.fromarray(frame) for frame in frames]
    encoded = io.BytesIO()
    pictures[0].save(encoded, "png")
    with zipfile.ZipFile(files["a.zip"], "w") as archive:
        for number in range(2):
            archive.writestr(f"{number}.png", encoded.getvalue())
    with tarfile.open(fileobj=files["a.tar"], mode="w") as tar:
        for number in range(2):
            member = tarfile.TarInfo(f"{number}.png")
            member.size = len(encoded.getvalue())
            tar.addfile(member, io.BytesIO(encoded.getvalue()))
    for name in ("a.webp", "a.png"):
        pictures[0].save(files[name], name[2:], save_all=True, append_images=pictures[1:])
    return {name: file.getvalue() for name, file in files.items()}


def _read_stored_video(path: Path) -> None:
    """A stored video whose checksum is right: whoever writes the frames writes the checksum as well."""
    content = path.read_bytes()
    length = parse_header_length(content) or 0
    sha256 = hashlib.sha256(content[:length]).hexdigest()
    is_intact(content, sha256)
    shard = path.parent / format_shard_path(0)
    shard.parent.mkdir(exist_ok=True)
    shard.write_bytes(content)
    source = ShardFrameSource(str(path.parent), scale_height=HEIGHT, scale_width=WIDTH)
    member = str(ShardMember(0, 0, len(content), sha256))
    ticks = source.read_frame_times(member).ticks
    source.read(member, ticks[[0, -1]])


def _read_stream_parts(path: Path) -> None:
    data = path.read_bytes()
    names = ("matroska,webm", "avi", "mpegts", "mpeg", "asf", "flv", "ogg", "mov,mp4", "gif", "apng")
    for name in names:
        find_missing_end(str(path), name)
        read_promised_seconds(str(path), name)
    half = len(data) // 2
    for codec in ("h264", "hevc", "mpeg4", "mpeg2video"):
        parser = BitstreamParser(codec, data[:half])
        parser.parse(data[half:], is_key=True)
        parser.parse(data, is_key=False)


def _make_streams(folder: Path) -> dict[str, bytes]:
    raw = {"a.h264": {"container": "h264"}, "a.m4v": {"codec": "mpeg4"}, "a.m2v": {"codec": "mpeg2video"}}
    streams = {
        name: write_video(folder / name, 4, height=16, width=16, **options).read_bytes()
        for name, options in raw.items()
    }
    return {**streams, **_make_videos(folder)}


def _read_torch(path: Path) -> None:
    for tensor in flatten_tensors(read_torch_file(path).content).values():
        if hasattr(tensor, "read"):
            tensor.read(path)


def _make_torch_files(folder: Path) -> dict[str, bytes]:
    state = {"conv.weight": torch.arange(6.0).reshape(2, 3), "bn": torch.ones(2, dtype=torch.int64)}
    files = {"zip.pth": io.BytesIO(), "old.pth": io.BytesIO()}
    torch.save({"state_dict": state, "epoch": 3}, files["zip.pth"])
    torch.save(state, files["old.pth"], _use_new_zipfile_serialization=False)
    return {name: file.getvalue() for name, file in files.items()}


def _make_blobs(folder: Path) -> dict[str, bytes]:
    tensors: dict[str, torch.Tensor] = {}
    evaluate(tensors, torch.zeros(1, 3, 2, 16, 16), name="r2d", depth=18, classes=2, width=1)
    blobs = {**{name: tensor.numpy() for name, tensor in tensors.items()}, "lr": 0.1}
    return {f"{n}.pkl": pickle.dumps({"blobs": blobs}, protocol=protocol) for n, protocol in enumerate((2, 4))}


def _make_weights(folder: Path) -> dict[str, bytes]:
    network = muybridge.create_model("r2d_10", num_classes=2, width=1, clip_length=2)
    path = folder / "a.safetensors"
    muybridge.save(network, path, classes=["a", "b"], preprocessing=Preprocessing(clip_length=2))
    return {path.name: path.read_bytes()}


def _read_tables(path: Path) -> None:
    errors = []
    for read in (read_scores, read_video_scores):
        try:
            read(path)
        except ValueError as error:
            errors.append(error)
    if len(errors) == 2:
        raise errors[0] if not is_expected(errors[0]) else errors[1]


def _make_tables(folder: Path) -> dict[str, bytes]:
    scores = Path(__file__).parent / "compatibility" / "data"
    return {path.name: path.read_bytes() for path in sorted(scores.rglob("*.parquet")) if path.stat().st_size < 20_000}


def _read_prepared(path: Path) -> None:
    """dataset.json, or the manifest with a description whose checksum of it is right."""
    folder = path.parent / "prepared"
    folder.mkdir(exist_ok=True)
    for name, content in _PREPARED.items():
        (folder / name).write_bytes(content)
    (folder / path.name).write_bytes(path.read_bytes())
    if path.name == MANIFEST:
        description = json.loads(_PREPARED[DESCRIPTION])
        description["manifest_sha256"] = hashlib.sha256(path.read_bytes()).hexdigest()
        (folder / DESCRIPTION).write_text(json.dumps(description))
    open_prepared(str(folder))


_PREPARED: dict[str, bytes] = {}


def _make_prepared(folder: Path) -> dict[str, bytes]:
    data = next((Path(__file__).parent / "compatibility" / "data").rglob(DESCRIPTION)).parent
    _PREPARED.update({name: (data / name).read_bytes() for name in (DESCRIPTION, MANIFEST)})
    return dict(_PREPARED)


def _read_settings(path: Path) -> None:
    if path.suffix == ".jsonl":
        read_json_lines(path)
        return
    build_settings(read_saved_settings(path))


def _make_settings(folder: Path) -> dict[str, bytes]:
    text = yaml.safe_dump(
        {"data": "x", "model": "r3d_18", "clips": {"length": 8, "scale": [64, 80]}, "training": {"epochs": 3.5}}
    )
    line = json.dumps({"kind": "train", "step": 1, "loss": 0.5})
    return {"settings.yaml": text.encode(), "log.jsonl": f"{line}\n{line}\n".encode()}


def _make_lists(folder: Path) -> dict[str, bytes]:
    video = {"annotations": [{"segment": [0.5, 2], "label": "run"}], "subset": "training", "duration": 9.5}
    entries = [{"id": "7", "label": "x", "template": "Moving [thing]"}]
    return {
        "a.csv": b'path,label,split,start_seconds\na.mp4,"run, fast",train,0.5\nb.mp4,walk|run,test,\n',
        "b.csv": "a b.mp4;3\nc.mp4;1\n".encode("utf-16"),
        "a.txt": b"a.mp4 0\nb/c.mp4 12\n",
        "a.tsv": b"video\tclass\na.mp4\trun\n",
        "a.json": json.dumps({"database": {"abc": video}}).encode(),
        "b.json": json.dumps(entries).encode(),
        "a.jsonl": b'{"path": "a.mp4", "label": "run", "start": 0.5}\n\n{"path": 7}\n[]\n',
        "c.csv": b"sep=;\r\npath;label\r\na.mp4;run\r\n",
    }


def _make_onnx(folder: Path) -> dict[str, bytes]:
    shape = [1, 3, 2, 4, 4]
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name in ("clips", "logits")]
    weights = onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1, 1), np.float32), "w")
    node = onnx.helper.make_node("Conv", ["clips", "w"], ["logits"])
    graph = onnx.helper.make_graph([node], "g", values[:1], values[1:], [weights])
    return {"a.onnx": onnx.helper.make_model(graph).SerializeToString()}


READERS: dict[str, Reader] = {
    "videos": Reader(tuple(_VIDEOS), _read_media, _make_videos),
    "pictures": Reader(("a.npy", "a.npz", "a.zip", "a.tar", "a.webp", "a.png"), _read_media, _make_picture_files),
    "streams": Reader(("a.bin",), _read_stream_parts, _make_streams),
    "stored_videos": Reader(("a.mp4",), _read_stored_video, lambda _: {"a.mp4": stored_video(num_frames=5)[0]}),
    "torch_files": Reader(("a.pth",), _read_torch, _make_torch_files),
    "blobs": Reader(("a.pkl",), lambda path: convert_blobs(read_blobs(path)), _make_blobs),
    "weights": Reader(("a.safetensors",), load_network, _make_weights),
    "tables": Reader(("a.parquet",), _read_tables, _make_tables),
    "prepared": Reader((DESCRIPTION, MANIFEST), _read_prepared, _make_prepared),
    "settings": Reader(("settings.yaml", "log.jsonl"), _read_settings, _make_settings),
    "lists": Reader(("a.csv", "a.txt", "a.tsv", "a.json", "a.jsonl"), read_video_list, _make_lists),
    "onnx": Reader(("a.onnx",), check_onnx_file, _make_onnx),
}


def make_corpus(reader: Reader, folder: Path) -> list[bytes]:
    """Inputs to begin from: the number of a name in one byte, then the content of a file."""
    inputs = []
    for name, content in reader.make_seeds(folder).items():
        suffix = Path(name).suffix
        number = next((n for n, known in enumerate(reader.names) if known == name), None)
        if number is None:
            number = next((n for n, known in enumerate(reader.names) if Path(known).suffix == suffix), 0)
        inputs.append(bytes([number]) + content)
    return inputs


def read_input(reader: Reader, data: bytes, folder: Path) -> str:
    """Reads an input as a file; `ok` or the sentence. Whatever else is raised is a fault."""
    path = folder / reader.names[data[0] % len(reader.names)]
    path.write_bytes(data[1:])
    try:
        reader.read(path)
    except (ValueError, VideoError) as error:
        if not is_expected(error):
            raise
        return str(error)
    return "ok"
