"""Numbers that every network depends on, in the order of the channels."""

from fractions import Fraction

import numpy as np
import pytest

from muybridge.records import FLOW_MEAN, FLOW_STD, RGB_MEAN, RGB_STD, FrameTimes, Preprocessing
from muybridge.weights.catalogue import ENTRIES


def test_rgb_is_normalised_as_the_authors_did() -> None:
    """Red, green, blue; torchvision publishes the same numbers as shares of 255 (its VideoClassification preset)."""
    assert RGB_MEAN == (110.201, 100.64, 95.9966)
    assert RGB_STD == (58.1489, 56.4701, 55.3324)
    assert [value / 255 for value in RGB_MEAN] == pytest.approx([0.43216, 0.394666, 0.37645], abs=1e-5)
    assert [value / 255 for value in RGB_STD] == pytest.approx([0.22803, 0.22145, 0.216989], abs=1e-5)


def test_flow_is_normalised_as_the_authors_did() -> None:
    """X to the right, then y down (Caffe2's video_input_op.h); the deviations differ, the means nearly do not."""
    assert FLOW_MEAN == (0.0046635, 0.0046261)
    assert FLOW_STD == (0.972347, 0.755146)


# Weights by others: MMAction2's ActionDataPreprocessor in its configuration, PyTorchVideo's 0.45 and 0.225 of 255.
OTHERS = {
    "mmaction2": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
    "pytorchvideo": ((114.75,) * 3, (57.375,) * 3),
    "gdt": ((114.75,) * 3, (57.375,) * 3),
}


def test_the_default_and_public_weights_use_these_numbers() -> None:
    assert (Preprocessing().mean, Preprocessing().std) == (RGB_MEAN, RGB_STD)
    for entry in ENTRIES:
        expected = (FLOW_MEAN, FLOW_STD) if entry.is_flow else (RGB_MEAN, RGB_STD)
        expected = OTHERS.get(entry.name.split("-")[2], expected)
        assert (entry.preprocessing.mean, entry.preprocessing.std) == expected, entry.name


def test_frames_begin_at_their_ticks_alone() -> None:
    times = FrameTimes(np.array([0, 10, 25], np.int64), Fraction(1, 100), 30)
    assert times.has_frames_at(np.array([25, 0, 0, 10]))
    for tick in (-1, 5, 24, 26, 30, 1000):
        assert not times.has_frames_at(np.array([0, tick])), tick
