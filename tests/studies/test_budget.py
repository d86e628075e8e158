"""Hours that runs will take: the views of an evaluation count with their number, length and size."""

from __future__ import annotations

import pytest

from muybridge.studies.budget import DECODE_SECONDS_PER_CLIP, estimate_budget
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.plan import EvaluationSpec
from muybridge.studies.run import build_config


def test_views_of_evaluations_count_with_their_number_length_and_size() -> None:
    study = STUDIES["table2"]
    config = build_config(study, scale="laptop", seeds=1, data=None, others={}, split=None)
    planned = next(run for run in study.runs(config) if run.settings.model == "r2plus1d_10")
    clips, motions = planned.settings.clips, planned.source.motions
    assert motions is not None
    assert (clips.length, clips.crop, clips.scale) == (8, 40, (48, 48))

    def count_hours(**changes: int) -> float:
        """The evaluation alone, without decoding."""
        evaluation = EvaluationSpec(**{"clips": 4, "length": 8, **changes})  # type: ignore[arg-type]
        runs = [planned.with_evaluations(evaluations) for evaluations in ([evaluation], [])]
        hours = [estimate_budget([run], "laptop").hours for run in runs]
        num_views = len(motions.class_names) * motions.test_videos_per_class * evaluation.clips * evaluation.crops
        return hours[0] - hours[1] - num_views * DECODE_SECONDS_PER_CLIP / 3600

    usual = count_hours()
    assert usual > 0
    assert count_hours(clips=8) == pytest.approx(2 * usual)
    assert count_hours(crops=3) == pytest.approx(3 * usual)
    assert count_hours(length=16) == pytest.approx(2 * usual, rel=0.01)
    assert 1.2 * usual < count_hours(crop_size=48) < 1.44 * usual  # maps are rounded up
    assert estimate_budget([planned], "laptop", jobs=2).hours == pytest.approx(
        estimate_budget([planned], "laptop").hours / 2
    )
