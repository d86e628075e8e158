"""The paper's networks at full size on one GPU, in several short sessions:

    python benchmarks/pack_clips.py --data ut_interaction.csv -o clips.npz           # here, with av: real clips as planes
    python benchmarks/gpu_studies.py -o rows.jsonl --clips clips.npz --minutes 8     # there, without av
    python benchmarks/gpu_studies.py -o rows.jsonl --render                          # a table with paired differences

Depth 18, width 64, clips of 8x112x112 from scratch, on generated motions (made there) and on real clips. Seed by seed the most
telling networks come first: R3D, R(2+1)D, f-R2D, R2D, MC3, rMC3, then the other six; after the first seed R3D and R(2+1)D run
four times more with weights moved in the last place, for the noise floor. A row is written as soon as a network is scored. A
session begins with three steps of every network, whose bits are the version of its rows: rows of the same version and data are
not run again, and a table is made of one version. No run begins that is expected to end after --minutes; with 8 a call ends
within 9. `--toy --device cpu` rehearses it in a minute.

It needs torch, numpy, scipy, safetensors, annotated-types, PyYAML and rich, and `src` in PYTHONPATH; no av, no pyarrow.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
from annotated_types import Interval
from numpy.typing import NDArray
from torch.nn import functional

from muybridge.bounds import Percent, Seconds, Seed
from muybridge.files.run_folder import append_json_line, read_json_lines
from muybridge.inference.folded import optimize
from muybridge.kernels.convolution import set_execution
from muybridge.models.family import FAMILIES
from muybridge.models.network import VideoResNet
from muybridge.parsing import parse_record
from muybridge.records import STATISTICS
from muybridge.settings import ClipSettings, NetworkSettings, TrainSettings
from muybridge.studies.intervals import BySeed, difference, estimate_mean
from muybridge.studies.laptop import STUDY_MOTIONS
from muybridge.synthetic.motions import MotionSettings, MotionSplit, create_video_generator
from muybridge.synthetic.scenes import render_frames, sample_scene
from muybridge.text import format_count
from muybridge.training.network import initialize_network, perturb_rounding
from muybridge.training.optimizer import build_optimizer, set_learning_rate
from muybridge.training.schedule import build_schedule
from muybridge.training_settings import TrainingSettings
from muybridge.weights.card import compute_tensors_sha256

FIRST = ("r3d", "r2plus1d", "f_r2d", "r2d", "mc3", "rmc3")
ORDER = (*FIRST, *(family for family in FAMILIES if family not in FIRST))
NOISY = FIRST[:2]
NUM_RERUNS = 5
KIND = ("data", "machine", "torch", "depth", "width", "content", "version")  # what all rows of a table share
MICRO_BATCH = 4
MEAN, STD = (np.array(values, np.float32) for values in STATISTICS["rgb"])


FULL_MOTIONS = replace(STUDY_MOTIONS, height=128, width=128)


@dataclass(frozen=True)
class Size:
    """Networks, clips and length of the training."""

    depth: int = 18
    width: int = 64
    length: int = 8
    frame: int = 128
    crop: int = 112
    clips: int = 12_800
    batch: int = 32
    eval_clips: int = 5
    epochs: int = 5
    motions: MotionSettings = FULL_MOTIONS


TOY = Size(
    depth=10,
    width=4,
    frame=32,
    crop=28,
    clips=16,
    batch=4,
    eval_clips=2,
    motions=MotionSettings(
        classes=2, train_videos_per_class=4, test_videos_per_class=3, num_frames=16, height=32, width=32
    ),
)


@dataclass(frozen=True)
class Videos:
    """Frames uint8 (V, T, H, W, 3) and labels (V,) of training and test."""

    train: NDArray[np.uint8]
    train_labels: NDArray[np.int64]
    test: NDArray[np.uint8]
    test_labels: NDArray[np.int64]


@dataclass(frozen=True)
class Job:
    """One network on one data set."""

    data: str
    family: str
    seed: int
    rounding: int = 0

    @property
    def key(self) -> str:
        return f"{self.data} {self.family} seed {self.seed} rounding {self.rounding}"


def list_jobs(data: tuple[str, ...], seeds: int) -> Iterator[Job]:
    """The most telling first: six networks of a seed on every data set, the reruns after seed 0, then the other six."""
    for families in (FIRST, ORDER[len(FIRST) :]):
        for seed in range(seeds):
            for name in data:
                yield from (Job(name, family, seed) for family in families)
                if seed == 0 and families is FIRST:
                    yield from (Job(name, family, 0, number) for number in range(1, NUM_RERUNS) for family in NOISY)


def render_split(motions: MotionSettings, split: MotionSplit, workers: int) -> tuple[NDArray[np.uint8], Any]:
    """The videos of a split, rendered by processes."""
    counts = {"train": motions.train_videos_per_class, "test": motions.test_videos_per_class}
    wanted = [(label, index) for label in motions.class_names for index in range(counts[split])]
    render = partial(_render, motions, split)
    if workers:
        with ProcessPoolExecutor(workers) as pool:
            frames = list(pool.map(render, wanted, chunksize=8))
    else:
        frames = list(map(render, wanted))
    labels = np.repeat(np.arange(len(motions.class_names)), counts[split])
    return np.stack(frames), labels


def _render(motions: MotionSettings, split: MotionSplit, wanted: tuple[str, int]) -> NDArray[np.uint8]:
    label, index = wanted
    return render_frames(sample_scene(label, create_video_generator(motions, split, label, index), settings=motions))


def load_videos(name: str, clips: Path | None, size: Size, workers: int) -> Videos:
    """Generated motions, or the clips of a packed file."""
    if name == "motions":
        return Videos(*render_split(size.motions, "train", workers), *render_split(size.motions, "test", workers))
    assert clips is not None, "a data set other than the motions is packed"
    with np.load(clips, allow_pickle=False) as arrays:
        frames = convert_planes(arrays["luma"], arrays["chroma"])
        is_test, labels = arrays["is_test"], arrays["labels"]
    return Videos(frames[~is_test], labels[~is_test], frames[is_test], labels[is_test])


def convert_planes(luma_nthw: NDArray[np.uint8], chroma_ncthw: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """4:2:0 planes of BT.601, limited range -> RGB uint8 (N, T, H, W, 3)."""
    y = (luma_nthw.astype(np.float32) - 16) * (255 / 219)
    cb, cr = (chroma_ncthw[:, c].repeat(2, -1).repeat(2, -2).astype(np.float32) - 128 for c in range(2))
    red, blue = y + 1.596 * cr, y + 2.017 * cb
    green = y - 0.392 * cb - 0.813 * cr
    return np.stack([red, green, blue], axis=-1).round().clip(0, 255).astype(np.uint8)


class Loader:
    """Clips on the device: random crops of random positions in training, centred ones in tests."""

    def __init__(self, frames: NDArray[np.uint8], size: Size, device: torch.device) -> None:
        self.size, self.device = size, device
        self.frames = torch.from_numpy(frames).to(device)
        self.mean, self.std = (torch.from_numpy(values).to(device) for values in (MEAN, STD))

    def read(self, videos: list[int], starts: list[int], corners: list[tuple[int, int]]) -> torch.Tensor:
        """Clips (N, 3, T, crop, crop), normalised; frames that are smaller or larger than the size are resized."""
        length, crop = self.size.length, self.size.crop
        clips = []
        for video, start, (top, left) in zip(videos, starts, corners, strict=True):
            clip = self.frames[video, start : start + length].float().permute(0, 3, 1, 2)
            if clip.shape[-1] != self.size.frame:
                clip = functional.interpolate(clip, (self.size.frame,) * 2, mode="bilinear", align_corners=False)
            clips.append(clip[:, :, top : top + crop, left : left + crop])
        return ((torch.stack(clips).permute(0, 1, 3, 4, 2) - self.mean) / self.std).permute(0, 4, 1, 2, 3)


def train(job: Job, videos: Videos, size: Size, device: torch.device) -> VideoResNet:
    """A network from scratch: AdamW, warm-up, cosine, clipped gradients, as studies at laptop scale."""
    training = TrainingSettings(
        optimizer="adamw",
        learning_rate=1e-3,
        batch_size=size.batch,
        epochs=size.epochs,
        warmup_epochs=1.0,
        schedule="cosine",
        clips_per_epoch=size.clips // 5,
    )
    settings = TrainSettings(
        data="",
        model=f"{job.family}_{size.depth}",
        seed=job.seed,
        network=NetworkSettings(width=size.width),
        clips=ClipSettings(length=size.length, scale=(size.frame, size.frame), crop=size.crop, mirror=False),
        training=training,
    )
    network = initialize_network(settings, int(videos.train_labels.max()) + 1)
    if job.rounding:
        perturb_rounding(network, job.rounding)
    network.to(device)
    set_execution(network, "fast")
    optimizer, schedule = build_optimizer(network, training), build_schedule(training, num_videos=len(videos.train))
    loader, rng, order = Loader(videos.train, size, device), np.random.default_rng(1000 + job.seed), []
    for step in range(schedule.num_steps):
        while len(order) < size.batch:
            order += rng.permutation(len(videos.train)).tolist()
        chosen, order = order[: size.batch], order[size.batch :]
        starts = rng.integers(0, videos.train.shape[1] - size.length + 1, size.batch).tolist()
        corners = rng.integers(0, size.frame - size.crop + 1, (size.batch, 2)).tolist()
        clips, labels = loader.read(chosen, starts, corners), torch.from_numpy(videos.train_labels[chosen]).to(device)
        set_learning_rate(optimizer, schedule.compute_learning_rate(step))
        network.train()
        optimizer.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = network(clips)
        functional.cross_entropy(logits.float(), labels).backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
    return network


def score(network: VideoResNet, videos: Videos, size: Size, device: torch.device) -> NDArray[np.bool_]:
    """Whether each test video is right by the mean over uniform centre crops."""
    scorer, loader = optimize(network.eval()), Loader(videos.test, size, device)
    num_frames, margin = videos.test.shape[1], (size.frame - size.crop) // 2
    starts = [round(x) for x in np.linspace(0, num_frames - size.length, size.eval_clips)]
    right = []
    with torch.inference_mode():
        for first in range(0, len(videos.test), 16):
            chosen = list(range(first, min(first + 16, len(videos.test))))
            total: Any = 0
            for start in starts:
                clips = loader.read(chosen, [start] * len(chosen), [(margin, margin)] * len(chosen))
                total = total + torch.softmax(scorer(clips).float(), 1)
            right.append(total.argmax(1).cpu().numpy() == videos.test_labels[chosen])
    return np.concatenate(right)


def compute_version(size: Size, device: torch.device) -> str:
    """SHA-256 of every network's weights and logits after three steps on small motions: equal where the arithmetic is."""
    torch.backends.cudnn.deterministic = True  # else two runs of one version differ
    digest, micro = hashlib.sha256(repr(size).encode()), replace(size, clips=3 * 5 * MICRO_BATCH, batch=MICRO_BATCH)
    videos = load_videos("motions", None, replace(micro, motions=TOY.motions), 0)
    for family in FAMILIES:
        network = train(Job("motions", family, 0), videos, replace(micro, epochs=1), device)
        digest.update(compute_tensors_sha256(network.state_dict()).encode())
        digest.update(score(network, videos, micro, device).tobytes())
    return digest.hexdigest()[:16]


def describe_data(name: str, clips: Path | None, size: Size) -> str:
    """What a data set holds, as a short hash."""
    content = repr(size.motions).encode() if name == "motions" or clips is None else clips.read_bytes()
    return hashlib.sha256(content).hexdigest()[:16]


def run_jobs(args: argparse.Namespace) -> None:
    """Runs what has no row of this version yet, as long as the time lasts."""
    size, device = TOY if args.toy else Size(), torch.device(args.device)
    deadline = time.monotonic() + 60 * args.minutes
    names = ("motions", *(("real",) if args.clips else ()))
    contents = {name: describe_data(name, args.clips, size) for name in names}
    version = compute_version(size, device)
    own = [row for row in read_rows(args.output) if row.get("version") == version]
    done = {row["key"] for row in own if row["content"] == contents.get(row["data"])}
    longest_seconds = max((row["seconds"] for row in own), default=0.0)
    machine = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    loaded: dict[str, Videos] = {}
    for job in list_jobs(names, args.seeds):
        if job.key in done:
            continue
        if time.monotonic() + longest_seconds > deadline:
            print(f"no time left; next is {job.key}")
            return
        if job.data not in loaded:
            loaded[job.data] = load_videos(job.data, args.clips, size, args.workers)
        start = time.perf_counter()
        right = score(train(job, loaded[job.data], size, device), loaded[job.data], size, device)
        row = {
            "key": job.key,
            **vars(job),
            "version": version,
            "content": contents[job.data],
            "video_top1": 100 * float(right.mean()),
            "right": np.packbits(right).tobytes().hex(),
            "num_videos": len(right),
            "seconds": round(time.perf_counter() - start, 1),
            "depth": size.depth,
            "width": size.width,
            "torch": torch.__version__,
            "machine": machine,
        }
        longest_seconds = max(longest_seconds, row["seconds"])
        append_json_line(args.output, row)
        print(json.dumps({name: row[name] for name in ("key", "video_top1", "seconds")}), flush=True)
    print("everything is done")


@dataclass(frozen=True)
class _Row:
    """A row as `run_jobs` writes it. ValueError where its values contradict each other."""

    key: str
    data: str
    family: str
    seed: Seed
    rounding: Annotated[int, Interval(ge=0, le=1000)]
    version: str
    content: str
    video_top1: Percent
    right: str
    num_videos: Annotated[int, Interval(ge=1, le=1_000_000_000)]
    seconds: Seconds
    depth: int
    width: int
    torch: str
    machine: str

    def __post_init__(self) -> None:
        job = Job(self.data, self.family, self.seed, self.rounding)
        if self.family not in FAMILIES or self.key != job.key:
            raise ValueError(f"key is {self.key!r}, and its values are those of {job.key!r}")
        if not self.num_videos <= 4 * len(self.right) < self.num_videos + 8:
            raise ValueError(f"right is not of {self.num_videos} videos")
        mean = float(unpack_right(self.right, self.num_videos).mean())
        if not np.isclose(mean, self.video_top1):
            raise ValueError(f"video_top1 is {self.video_top1:g}, and the results by video give {mean:g}")


def unpack_right(text: str, num_videos: int) -> NDArray[np.float64]:
    """Right or not in percent, float64 (V,)."""
    packed = np.frombuffer(bytes.fromhex(text), np.uint8)
    return 100.0 * np.unpackbits(packed, count=num_videos).astype(np.float64)


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of former sessions. ValueError for one that cannot be used, or that contradicts another of the same version."""
    rows: dict[tuple[Any, ...], dict[str, Any]] = {}
    for number, row in enumerate(read_json_lines(path), 1):
        parse_record(_Row, row, f"row {number} of {path}", unknown="ignore")
        first = rows.setdefault((row["key"], *(row[name] for name in KIND)), row)
        if first["right"] != row["right"]:
            raise ValueError(
                f"row {number} of {path} has other results than an earlier row of {row['key']}; take one away"
            )
    return list(rows.values())


def render(rows: list[dict[str, Any]]) -> list[str]:
    """Accuracy of every network, the noise floor, and differences from R3D beyond it. One version, machine and size a table."""
    lines = []
    for kind in sorted({tuple(row[name] for name in KIND) for row in rows}):
        data, machine, version, depth, width, *_ = kind
        own = [row for row in rows if tuple(row[name] for name in KIND) == kind]
        cells = {family: _collect(own, family) for family in ORDER}
        reruns = [
            {row["rounding"]: row["video_top1"] for row in own if (row["family"], row["seed"]) == (f, 0)} for f in NOISY
        ]
        floors = [float(np.std(list(each.values()), ddof=1)) for each in reruns if len(each) >= NUM_RERUNS]
        floor = max(floors) if floors else None
        lines += [f"{data}: depth {depth}, width {width}, torch {version}, {machine}, version {kind[-1]} of the code"]
        lines += [f"  noise floor: {'not measured' if floor is None else f'{floor:.1f} points'}"]
        for family, cell in cells.items():
            estimate, gap = estimate_mean(list(cell.values())), difference(cell, cells["r3d"], floor)
            if estimate is not None:
                verdict = (
                    "" if gap is None or family == "r3d" else f"  from R3D {gap.format()}: {_decide(gap.is_positive)}"
                )
                lines.append(
                    f"  {family:<9} {estimate.clip(0, 100).format()} ({format_count(estimate.num, 'seed')}){verdict}"
                )
    return lines


def _collect(rows: list[dict[str, Any]], family: str) -> BySeed:
    """seed -> right or not in percent, by video."""
    return {
        row["seed"]: unpack_right(row["right"], row["num_videos"])
        for row in rows
        if row["family"] == family and row["rounding"] == 0
    }


def _decide(is_positive: bool | None) -> str:
    return {True: "above", False: "below", None: "undecided"}[is_positive]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True, help="the file of rows, to which a session adds")
    parser.add_argument("--clips", type=Path, help="real clips that pack_clips.py has written")
    parser.add_argument("--minutes", type=float, default=8.0, help="start no run that would end later (8)")
    parser.add_argument("--seeds", type=int, default=5, help="seeds of each network (5)")
    parser.add_argument("--device", default="cuda", help="cuda, or cpu for a rehearsal")
    parser.add_argument("--workers", type=int, default=12, help="processes that render motions")
    parser.add_argument("--toy", action="store_true", help="small networks and videos, to rehearse a session")
    parser.add_argument("--render", action="store_true", help="run nothing: print the table of the rows")
    args = parser.parse_args(argv)
    try:
        run_and_render(args, parser)
    except (ValueError, OSError) as error:
        parser.error(str(error))


def run_and_render(args: argparse.Namespace, parser: argparse.ArgumentParser) -> None:
    """Runs what is missing, and prints the table."""
    if not args.render:
        if args.seeds < 1:
            parser.error(f"--seeds is {args.seeds}, expected a number from 1")
        if args.clips and not args.clips.is_file():
            parser.error(f"there is no file {args.clips}; benchmarks/pack_clips.py writes it")
        if torch.device(args.device).type == "cuda" and not torch.cuda.is_available():
            parser.error("torch finds no GPU here; --toy --device cpu rehearses the session")
        run_jobs(args)
    print("\n".join(render(read_rows(args.output))) or f"{args.output} has no rows yet")


if __name__ == "__main__":
    main()
