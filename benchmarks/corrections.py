"""Accuracy after n corrections: what the studio suggests looking at next, against random choices, on the ceiling camera.

    MUYBRIDGE_REAL_VIDEO=... python benchmarks/corrections.py NETWORK -o RESULTS.json [--seeds 16] [--jobs 2]
    python benchmarks/corrections.py --render RESULTS.json -o CURVE.svg

NETWORK is a run folder or weights file, such as `demo/r2plus1d_10`, which `muybridge demo` trains on generated motions. Its
features of every window, frozen, feed a linear classifier, which is what changes. For each seed seven of the 21 recordings,
of both rooms, are held out for the scores. A simulated person starts with ten marked segments of the others; the classifier
is trained on the windows in them and run along all of these recordings; its timelines are merged into segments as
`muybridge predict` does, and five of them are chosen by the studio's own `suggest`. The person, who knows the labelled
segments, does what the route for decisions does: mark the labelled segment that a suggestion overlaps most, or reject it.
Then all begins anew. Each decision is a correction, whatever came of it. `random` takes the network's segments in random
order; `browse` marks random labelled segments, as somebody who watches here and there.

Scored is the class of each labelled segment of the held-out recordings, by the mean probabilities of the windows centred in
it: the share that is right, and the mean over classes of that share. All strategies of a seed begin with the same segments.
Nothing was chosen by the scores.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import statistics
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats

import muybridge
from harness import report_results
from muybridge.files.atomic import write_text
from muybridge.prediction.timeline import Window, merge_windows, smooth_windows
from muybridge.report.charts import LineChart, Series
from muybridge.report.drawing import render_files
from muybridge.studio.annotation_records import RejectedMark, SegmentMark, VideoMarks
from muybridge.studio.suggestions import PredictedVideo, Suggestion, suggest
from muybridge.studio.timelines import SegmentInfo, TimelineArrays

Strategy = Literal["doubt", "margin", "rare", "random", "browse"]
STRATEGIES: tuple[Strategy, ...] = ("doubt", "margin", "rare", "random", "browse")
NUM_HELD_OUT = 7  # recordings
NUM_INITIAL, BATCH, NUM_CORRECTIONS = 10, 5, 80
STEP_FRAMES, FRAME_STRIDE = 16, 6  # a window of 1.7 s every 0.64 s
SMOOTHING_SECONDS = MINIMUM_SECONDS = 1.0
PENALTY, NUM_ITERATIONS = 1e-2, 60
PERSON = "person"
DRAWN: dict[Strategy, str] = {
    "doubt": "most doubtful first",
    "random": "random of the network",
    "browse": "random labelled ones",
}
Marks = dict[str, VideoMarks]


@dataclass(frozen=True)
class Truth:
    """A labelled segment."""

    path: str
    label: str
    start_seconds: float
    end_seconds: float


@dataclass(frozen=True)
class Video:
    """The windows of a video, with standardized features (W, D)."""

    starts: NDArray[np.float64]
    ends: NDArray[np.float64]
    features: NDArray[np.float32]

    @property
    def centers(self) -> NDArray[np.float64]:
        return (self.starts + self.ends) / 2

    def find_inside(self, start: float, end: float) -> NDArray[np.int64]:
        """The windows centred between two times, or else the nearest one."""
        inside = np.flatnonzero((self.centers >= start) & (self.centers < end))
        return inside if len(inside) else np.array([np.abs(self.centers - (start + end) / 2).argmin()])


def read_truths(path: Path) -> list[Truth]:
    with path.open() as file:
        return [
            Truth(row["path"], row["label"], float(row["start_seconds"]), float(row["end_seconds"]))
            for row in csv.DictReader(file)
        ]


def extract_features(network: str, folder: Path, paths: Sequence[str]) -> dict[str, Video]:
    """Windows of every video; features standardized over all of them, which needs no labels."""
    source = muybridge.load(network)
    preprocessing = replace(source.card.preprocessing, frame_stride=FRAME_STRIDE)
    with tempfile.TemporaryDirectory() as temporary:
        weights = Path(temporary, "network.safetensors")
        muybridge.save(source.model, weights, classes=source.card.classes, preprocessing=preprocessing)
        recognizer = muybridge.load(weights)
        features = {path: recognizer.features(folder / path, step_frames=STEP_FRAMES) for path in paths}
    everything = np.concatenate([one.features for one in features.values()])
    mean, deviation = everything.mean(axis=0), everything.std(axis=0) + 1e-6
    seconds = preprocessing.clip_span / 25
    return {
        path: Video(one.start_seconds, one.start_seconds + seconds, (one.features - mean) / deviation)
        for path, one in features.items()
    }


def train_classifier(features: NDArray[np.float32], labels: NDArray[np.int64], num_classes: int) -> Any:
    """Multinomial logistic regression in which every class has the same weight; a function features -> probabilities."""
    counts = np.bincount(labels, minlength=num_classes)
    weights = torch.tensor(1 / (counts[labels] * np.count_nonzero(counts)), dtype=torch.float32)
    inputs, targets = torch.tensor(features), torch.tensor(labels)
    linear = torch.nn.Linear(features.shape[1], num_classes)
    torch.nn.init.zeros_(linear.weight)
    torch.nn.init.zeros_(linear.bias)
    optimizer = torch.optim.LBFGS(linear.parameters(), max_iter=NUM_ITERATIONS, line_search_fn="strong_wolfe")

    def compute_loss() -> torch.Tensor:
        optimizer.zero_grad()
        losses = torch.nn.functional.cross_entropy(linear(inputs), targets, reduction="none")
        loss = (losses * weights).sum() + PENALTY * linear.weight.square().sum()
        loss.backward()
        return loss

    optimizer.step(compute_loss)
    return lambda rows: torch.softmax(linear(torch.tensor(rows)), dim=1).detach().numpy()


class Simulation:
    """A person who corrects, and the classifier that learns from it."""

    def __init__(self, videos: Mapping[str, Video], truths: Sequence[Truth], seed: int) -> None:
        self.videos = videos
        self.seed = seed
        self.classes = sorted({truth.label for truth in truths})
        held_out = np.random.default_rng((seed, 1)).choice(sorted(videos), NUM_HELD_OUT, replace=False)
        self.train = [truth for truth in truths if truth.path not in held_out]
        self.test = [truth for truth in truths if truth.path in held_out]
        self.truths = defaultdict(list)
        for truth in self.train:
            self.truths[truth.path].append(truth)

    def run(self, strategy: Strategy) -> list[dict[str, float]]:
        """Scores after 0, 5, 10, ... corrections."""
        rng = np.random.default_rng(self.seed)
        order = [self.train[index] for index in rng.permutation(len(self.train))]
        marks: Marks = defaultdict(VideoMarks)
        for truth in order[:NUM_INITIAL]:
            self.mark(marks, truth, ())
        rows = []
        for num_done in range(0, NUM_CORRECTIONS + 1, BATCH):
            classify = self.fit(marks)
            rows.append({"corrections": num_done, **self.score(classify), "segments": self.count(marks)})
            if strategy == "browse":
                for truth in order[NUM_INITIAL + num_done :][:BATCH]:
                    self.mark(marks, truth, ())
                continue
            chosen = self.choose(classify, marks, strategy, rng)
            for suggestion in chosen:
                self.decide(marks, suggestion)
        return rows

    def count(self, marks: Marks) -> int:
        return sum(len(one.segments) for one in marks.values())

    def fit(self, marks: Marks) -> Any:
        features, labels = [], []
        for path, one in marks.items():
            for segment in one.segments:
                rows = self.videos[path].features[self.videos[path].find_inside(*segment.bounds)]
                features.append(rows)
                labels += [self.classes.index(segment.label)] * len(rows)
        return train_classifier(np.concatenate(features), np.array(labels), len(self.classes))

    def choose(
        self, classify: Any, marks: Marks, strategy: Literal["doubt", "margin", "rare", "random"], rng: Any
    ) -> list[Suggestion]:
        """What the studio suggests; `random` in a random order of this seed."""
        predicted = [self.predict(path, classify, marks[path]) for path in sorted(self.truths)]
        counts = Counter(segment.label for one in marks.values() for segment in one.segments)
        if strategy != "random":
            return suggest(predicted, counts, strategy, BATCH)
        suggestions = suggest(predicted, counts, "doubt", 100_000)
        return [suggestions[index] for index in rng.permutation(len(suggestions))[:BATCH]]

    def predict(self, path: str, classify: Any, marks: VideoMarks) -> PredictedVideo:
        video = self.videos[path]
        probabilities = classify(video.features)
        windows = [
            Window(start, end, tuple(row))
            for start, end, row in zip(video.starts, video.ends, probabilities.tolist(), strict=True)
        ]
        merged = merge_windows(
            smooth_windows(windows, SMOOTHING_SECONDS), self.classes, minimum_seconds=MINIMUM_SECONDS
        )
        segments = tuple(SegmentInfo.model_validate(vars(segment)) for segment in merged)
        arrays = TimelineArrays(video.starts, video.ends, probabilities.T)
        return PredictedVideo(path, "simulated", tuple(self.classes), arrays, segments, marks)

    def decide(self, marks: Marks, suggestion: Suggestion) -> None:
        """Mark the labelled segment that it overlaps most; reject it where there is none, or that is marked already."""
        overlaps = [
            (min(one.end_seconds, suggestion.end_seconds) - max(one.start_seconds, suggestion.start_seconds), one)
            for one in self.truths[suggestion.path]
        ]
        overlap, truth = max(overlaps, key=lambda pair: pair[0])
        known = {(one.label, one.bounds) for one in marks[suggestion.path].segments}
        is_known = (truth.label, (truth.start_seconds, truth.end_seconds)) in known
        rejected = RejectedMark(
            label=suggestion.label,
            start_seconds=suggestion.start_seconds,
            end_seconds=suggestion.end_seconds,
            annotator=PERSON,
        )
        if overlap <= 0 or is_known:
            one = marks[suggestion.path]
            marks[suggestion.path] = one.model_copy(update={"rejected": (*one.rejected, rejected)})
            return
        self.mark(marks, truth, (rejected,) if truth.label != suggestion.label else ())

    def mark(self, marks: Marks, truth: Truth, rejected: tuple[RejectedMark, ...]) -> None:
        segment = SegmentMark(
            label=truth.label, start_seconds=truth.start_seconds, end_seconds=truth.end_seconds, annotator=PERSON
        )
        one = marks[truth.path]
        update = {"segments": (*one.segments, segment), "rejected": (*one.rejected, *rejected)}
        marks[truth.path] = one.model_copy(update=update)

    def score(self, classify: Any) -> dict[str, float]:
        right = defaultdict(list)
        for truth in self.test:
            video = self.videos[truth.path]
            inside = video.find_inside(truth.start_seconds, truth.end_seconds)
            means = classify(video.features[inside]).mean(axis=0)
            right[truth.label].append(self.classes[int(means.argmax())] == truth.label)
        everything = [one for label in right.values() for one in label]
        by_class = [statistics.mean(label) for label in right.values()]
        return {"accuracy": statistics.mean(everything), "class_accuracy": statistics.mean(by_class)}


def summarize(values: Sequence[float]) -> dict[str, float]:
    """The mean over seeds with its 95 % interval (Student's t)."""
    mean = statistics.mean(values)
    half = stats.t.ppf(0.975, len(values) - 1) * statistics.stdev(values) / len(values) ** 0.5
    return {"mean": round(mean, 4), "low": round(mean - half, 4), "high": round(mean + half, 4)}


def simulate(videos: Mapping[str, Video], truths: Sequence[Truth], seed: int) -> dict[str, list[dict[str, float]]]:
    """All strategies of a seed."""
    torch.set_num_threads(1)
    simulation = Simulation(videos, truths, seed)
    return {strategy: simulation.run(strategy) for strategy in STRATEGIES}


def draw_curves(results: Mapping[str, Any]) -> str:
    """Accuracy after n corrections with its intervals as SVG, on white."""
    series = []
    for strategy, label in DRAWN.items():
        curve = results["curves"][strategy]["accuracy"]
        steps = sorted(curve, key=int)
        y, low, high = (tuple(100 * curve[step][key] for step in steps) for key in ("mean", "low", "high"))
        series.append(Series(label, tuple(map(float, steps)), y, low, high))
    labels = ("corrections", "segments whose class is right (%)")
    chart = LineChart("corrections", "Accuracy after n corrections", *labels, tuple(series), alt="")
    head, _, body = render_files(chart)["svg"].decode().partition("<defs>")
    return f'{head}<rect width="100%" height="100%" fill="white"/>\n <defs>{body}'


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("network", nargs="?")
    parser.add_argument("--render", metavar="RESULTS", help="draw the curves of these results")
    parser.add_argument("--seeds", type=int, default=16)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("-o", "--output")
    args = parser.parse_args()
    if args.render:
        write_text(Path(args.output), draw_curves(json.loads(Path(args.render).read_text())["results"]))
        return
    if not args.network:
        parser.error("expected a network, or --render with results")
    folder = Path(os.environ["MUYBRIDGE_REAL_VIDEO"], "ceiling_camera")
    truths = read_truths(folder / "segments.csv")
    videos = extract_features(args.network, folder, sorted({truth.path for truth in truths}))
    with ProcessPoolExecutor(args.jobs, get_context("spawn")) as pool:
        runs = list(pool.map(partial(simulate, videos, truths), range(args.seeds)))
    results: dict[str, Any] = {"seeds": args.seeds, "curves": {}, "difference_to_random": {}}
    for strategy in STRATEGIES:
        curves = results["curves"][strategy] = {"accuracy": {}, "class_accuracy": {}, "segments": {}}
        differences = results["difference_to_random"][strategy] = {"accuracy": {}, "class_accuracy": {}}
        for number, step in enumerate(range(0, NUM_CORRECTIONS + 1, BATCH)):
            for score, curve in curves.items():
                curve[step] = summarize([run[strategy][number][score] for run in runs])
            for score, curve in differences.items():
                curve[step] = summarize([run[strategy][number][score] - run["random"][number][score] for run in runs])
    report_results(results, args.output)


if __name__ == "__main__":
    main()
