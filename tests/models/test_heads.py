"""Heads: outputs become what people read, and a wrong head is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from muybridge.models.heads import (
    Head,
    choose_levels,
    compute_level_probabilities,
    make_ordinal_outputs,
    recover_boundaries,
)
from muybridge.parsing import parse_record


def test_each_link_is_inverted() -> None:
    labels = Head("multi_label", ("a", "b"), "sigmoid")
    assert labels.invert_link(np.array([[0.0, np.log(3)]])) == pytest.approx(np.array([[0.5, 0.75]]))
    numbers = Head("regression", ("ef",), "identity", ("%",), (55.0,), (10.0,))
    assert numbers.invert_link(np.array([[0.5], [-2.0]])) == pytest.approx(np.array([[60.0], [35.0]]))
    # The second output is above the first: P(level > 1) is at most P(level > 0).
    levels = Head("ordinal", make_ordinal_outputs(("low", "mid", "high")), "cumulative_sigmoid")
    assert levels.invert_link(np.array([[0.0, np.log(3)]])) == pytest.approx(np.array([[0.5, 0.5]]))
    assert labels.invert_link(np.array([[1000.0, -1000.0]])) == pytest.approx(np.array([[1.0, 0.0]]))


def test_levels_have_probabilities_that_sum_to_one() -> None:
    above = np.array([[0.9, 0.6, 0.2], [0.3, 0.1, 0.0]])
    probabilities = compute_level_probabilities(above)
    assert probabilities == pytest.approx(np.array([[0.1, 0.3, 0.4, 0.2], [0.7, 0.2, 0.1, 0.0]]))
    assert recover_boundaries(probabilities) == pytest.approx(above)
    assert choose_levels(above).tolist() == [2, 0]  # medians: 0.1 + 0.3 < 0.5 <= 0.1 + 0.3 + 0.4


def test_a_head_survives_json() -> None:
    head = Head("regression", ("ef", "esv"), "identity", ("%", "ml"), (55.0, 40.0), (12.0, 9.0))
    assert parse_record(Head, json.loads(json.dumps(head.to_json())), "the head") == head


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"task": "single_label", "link": "sigmoid"}, "head.link is sigmoid for the task single_label"),
        ({"task": "multi_label", "link": "identity"}, "expected sigmoid for multi_label"),
        (
            {"task": "multi_label", "link": "sigmoid", "thresholds": (0.5,)},
            "head.thresholds has 1 value for 2 outputs",
        ),
        ({"task": "ordinal", "link": "cumulative_sigmoid", "units": ("a", "b")}, "head.units has 2 values"),
        ({"task": "ordinal", "link": "cumulative_sigmoid", "thresholds": (0.5, 0.5)}, "head.thresholds has 2 values"),
        ({"task": "regression", "link": "identity"}, "needs target_mean and target_std"),
        ({"task": "multi_label", "link": "sigmoid", "thresholds": (0.5, 1.5)}, "thresholds"),
        (
            {"task": "regression", "link": "identity", "target_mean": (0.0, 0.0), "target_std": (1.0, 0.0)},
            "target_std",
        ),
    ],
)
def test_a_wrong_head_is_refused(values: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        Head(outputs=("a", "b"), **values)  # type: ignore[arg-type]
