"""The printed numbers against each other, against the prose, and against the networks."""

import csv
from dataclasses import astuple
from pathlib import Path

import pytest
import torch

from muybridge.models.cost import cost
from muybridge.models.family import FAMILIES
from muybridge.models.network import create_model
from muybridge.studies.paper import (
    FIGURE4_GAIN,
    FIGURE5A,
    FIGURE5A_LENGTHS,
    TABLE2,
    TABLE3,
    TABLE4,
    TABLE5,
    TABLE6,
)

OF = {row.family: row for row in TABLE2}


def test_the_tables_are_those_of_a_second_transcription() -> None:
    """Tables 2 to 6, typed from the paper once more: number of the table, then its row; empty is not printed."""
    with Path(__file__).with_name("paper_tables.csv").open(encoding="utf-8") as file:
        typed = list(csv.reader(file))
    for number, table in enumerate((TABLE2, TABLE3, TABLE4, TABLE5, TABLE6), 2):
        rows = [["" if value is None else str(value) for value in astuple(row)] for row in table]
        assert rows == [row[1:] for row in typed if row[0] == str(number)], f"Table {number}"


def test_table_2_has_every_family_in_order() -> None:
    assert [row.family for row in TABLE2] == list(FAMILIES)


@pytest.mark.parametrize("family", FAMILIES)
def test_printed_parameters_are_those_of_the_network(family: str) -> None:
    with torch.device("meta"):
        network = create_model(f"{family}_18", clip_length=8)
    counted = round(cost(network, (3, 8, 112, 112)).weights / 1e6, 1)
    printed = OF[family].parameters_millions
    assert counted == (16.8 if family == "mc5" else printed)  # 16.9 is printed, and reachable by no way of counting


@pytest.mark.parametrize(
    ("length", "over_2d", "over_others", "over_single_frames"),
    [(8, (1.3, 4.0), (2.1, 3.4), (4.7, 6.1)), (16, (1.8, 6.7), (3.1, 4.7), (6.5, 9.8))],
)
def test_the_gaps_of_the_prose_come_out_of_table_2(
    length: int, over_2d: tuple[float, float], over_others: tuple[float, float], over_single_frames: tuple[float, float]
) -> None:
    """Section 4.2, clip@1: networks that see motion over 2-D ones, R(2+1)D over them and over 2-D ones (said 6.3 for 6.5)."""
    of = {family: getattr(row, f"clip_top1_{length}f") for family, row in OF.items()}
    best, flat = of.pop("r2plus1d"), [of.pop("r2d"), of.pop("f_r2d")]
    others = of.values()
    assert (round(min(others) - max(flat), 1), round(max(others) - min(flat), 1)) == over_2d
    assert (round(best - max(others), 1), round(best - min(others), 1)) == over_others
    assert (round(best - max(flat), 1), round(best - min(flat), 1)) == over_single_frames


def test_the_gain_of_figure_4_is_that_of_table_2() -> None:
    gains = [
        round(getattr(OF["r2plus1d"], f"video_top1_{length}f") - getattr(OF["r3d"], f"video_top1_{length}f"), 1)
        for length in (8, 16)
    ]
    assert (min(gains), max(gains)) == FIGURE4_GAIN


def test_table_3_and_figure_5_repeat_table_2() -> None:
    short, stretched, long, tuned = TABLE3
    assert (short.clip_top1, short.video_top1) == (OF["r2plus1d"].clip_top1_8f, OF["r2plus1d"].video_top1_8f)
    assert FIGURE5A[8] == (short.clip_top1, short.video_top1)
    assert FIGURE5A[16] == (OF["r2plus1d"].clip_top1_16f, OF["r2plus1d"].video_top1_16f)
    assert FIGURE5A[32] == (long.clip_top1, long.video_top1)
    assert stretched.train_hours == short.train_hours
    assert (tuned.train, tuned.finetune) == (8, 32)
    assert set(FIGURE5A) < set(FIGURE5A_LENGTHS)


def test_two_streams_beat_each_of_theirs() -> None:
    of_4 = {row.method: row.video_top1 for row in TABLE4}
    for length in (8, 32):
        both = of_4[f"R(2+1)D-Two-Stream-{length}frame"]
        assert both is not None
        assert all(both > (of_4[f"R(2+1)D-{stream}-{length}frame"] or 0) for stream in ("RGB", "Flow"))
    of_5 = {(row.method, row.pretraining): row.video_top1 for row in TABLE5}
    of_6 = {(row.method, row.pretraining): row for row in TABLE6}
    for start in ("none", "Sports-1M"):
        assert of_5["R(2+1)D-Two-Stream", start] > max(of_5[f"R(2+1)D-{stream}", start] for stream in ("RGB", "Flow"))
    for start in ("Kinetics", "Sports-1M"):
        assert of_6["R(2+1)D-TwoStream", start].ucf101 > of_6["R(2+1)D-RGB", start].ucf101
