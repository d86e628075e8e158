"""Runs matched for a comparison: the same split, the same videos, the same labels.

Input: run records with scores. Output: a `ComparedRun` for each and a `PairedTest` for each pair. Runs without a common video,
or that give a video different labels, raise ValueError, because their accuracies cannot be compared.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from muybridge.datasets.classes import normalize_class_name
from muybridge.evaluation.metrics import compute_video_ranks
from muybridge.evaluation.statistics import PairedTest, run_paired_test
from muybridge.report.sources import EvaluationRecord, RunRecord

FindGroup = Callable[[str], str | None]


@dataclass(frozen=True)
class ComparedRun:
    """One run's score file of the common split; `labels` (class names) and `is_correct` hold its labelled videos."""

    name: str
    run: RunRecord
    evaluation: EvaluationRecord
    labels: dict[str, frozenset[str]]
    is_correct: dict[str, bool]

    def gather_correct(self, videos: Sequence[str]) -> NDArray[np.bool_]:
        """Whether each of `videos` (V,) is classified correctly, (V,)."""
        return np.array([self.is_correct[video] for video in videos], np.bool_)


def match_runs(runs: Sequence[RunRecord]) -> list[ComparedRun]:
    """Take from each run its first score file of a split and fold that all runs have.

    Raises ValueError if a run has no scores or no split is common.
    """
    for run in runs:
        if not run.evaluations:
            raise ValueError(f"{run.name} has no scores to compare; run `muybridge evaluate` on it")
    for candidate in runs[0].evaluations:
        evaluations = [_find_evaluation(run, candidate) for run in runs]
        matched = [evaluation for evaluation in evaluations if evaluation is not None]
        if len(matched) == len(runs):
            return [_make_compared_run(run, evaluation) for run, evaluation in zip(runs, matched, strict=True)]
    available_splits = "; ".join(
        f"{run.name} has {', '.join(evaluation.accuracy.split for evaluation in run.evaluations)}" for run in runs
    )
    raise ValueError(
        f"the runs have no scores of the same split and fold: {available_splits}; evaluate them on one split"
    )


def _find_evaluation(run: RunRecord, like: EvaluationRecord) -> EvaluationRecord | None:
    split_and_fold = like.accuracy.split, like.accuracy.fold
    return next((one for one in run.evaluations if (one.accuracy.split, one.accuracy.fold) == split_and_fold), None)


def _make_compared_run(run: RunRecord, evaluation: EvaluationRecord) -> ComparedRun:
    scores = evaluation.video_scores
    classes = [normalize_class_name(name) for name in scores.header.classes]
    correct = compute_video_ranks(scores) < 1  # an unreadable video counts as wrong
    labels = {
        video: frozenset(classes[label] for label in video_labels)
        for video, video_labels in zip(scores.videos, scores.labels, strict=True)
        if video_labels
    }
    is_correct = dict(zip(scores.videos, correct.tolist(), strict=True))
    return ComparedRun(run.name, run, evaluation, labels, {video: is_correct[video] for video in labels})


def run_paired_tests(compared_runs: Sequence[ComparedRun], find_group: FindGroup | None) -> list[PairedTest]:
    """Test each pair of runs on their common videos; `find_group` gives the group of a video, if the data is available.

    Raises ValueError if two runs have no common video, or give a video different labels.
    """
    return [_run_paired_test(first, second, find_group) for first, second in combinations(compared_runs, 2)]


def _run_paired_test(first: ComparedRun, second: ComparedRun, find_group: FindGroup | None) -> PairedTest:
    common = [video for video in first.labels if video in second.labels]
    for video in common:
        if first.labels[video] != second.labels[video]:
            raise ValueError(
                f"{video} has other labels in {first.name} than in {second.name}; compare runs on the same data"
            )
    groups = [find_group(video) for video in common] if find_group else [None]
    known_groups = [group for group in groups if group is not None]
    return run_paired_test(
        (first.name, second.name),
        first.gather_correct(common),
        second.gather_correct(common),
        groups=known_groups if len(known_groups) == len(common) else None,
    )
