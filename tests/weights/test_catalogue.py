"""Public weights: every address and hash once more, as their publishers' files give them.

The addresses can hardly be asked during a test, and a letter that is wrong in one shows to the one person who wants that file.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from muybridge.models.family import list_models
from muybridge.weights.catalogue import ENTRIES, find_entry, suggest_init, suggest_names

with Path(__file__).with_name("published.csv").open(encoding="utf-8") as file:
    PUBLISHED = {row["name"]: row for row in csv.DictReader(file)}


def test_every_entry_is_as_published() -> None:
    for entry in ENTRIES:
        assert PUBLISHED[entry.name] == {
            "name": entry.name,
            "network": entry.network,
            "address": entry.url,
            "clip_length": str(entry.clip_length),
            "num_classes": "" if entry.num_classes is None else str(entry.num_classes),
            "sha256_prefix": entry.sha256_prefix or "",
        }
    assert len(ENTRIES) == len(PUBLISHED), "names are given once"


@pytest.mark.parametrize("name", PUBLISHED)
def test_an_entry_agrees_with_itself(name: str) -> None:
    entry = find_entry(name)
    assert entry is not None
    assert entry.network in list_models()
    assert entry.file_name in entry.url.replace("%20", " ")
    assert (entry.classes_file is not None) == entry.has_class_names
    if entry.classes_file is not None:
        assert len(entry.classes_file.read_text(encoding="utf-8").splitlines()) == entry.num_classes == 400
    if entry.sha256_prefix is not None:  # torchvision and ig65m put it into the name
        assert entry.file_name.endswith(f"-{entry.sha256_prefix}.pth")
    assert entry.preprocessing.input_channels == (2 if entry.is_flow else 3)
    assert entry.to_json()["address"] == entry.address


def test_the_three_of_torchvision_have_its_numbers() -> None:
    accuracies = {entry.network: entry.published_accuracy for entry in ENTRIES if entry.name.endswith("-torchvision")}
    assert {network: text.split(",")[0] for network, text in accuracies.items()} == {
        "r2plus1d_18": "Kinetics-400 video@1 67.463",
        "r3d_18": "Kinetics-400 video@1 63.200",
        "mc3_18": "Kinetics-400 video@1 63.960",
    }


def test_preprocessing_is_that_of_the_publisher() -> None:
    entry = find_entry("r2plus1d_18-howto100m-gdt")
    assert entry is not None
    assert (entry.preprocessing.clip_length, entry.preprocessing.frames_per_second) == (30, 30.0)
    assert (entry.preprocessing.mean, entry.preprocessing.std) == ((114.75,) * 3, (57.375,) * 3)


def test_names_near_a_mistyped_one() -> None:
    assert find_entry("r2plus1d_18-kinetics400-torchvisoin") is None
    assert suggest_names("r2plus1d_18-kinetics400-torchvisoin")[0] == "r2plus1d_18-kinetics400-torchvision"
    assert suggest_init("mc3_18") == "mc3_18-kinetics400-torchvision"
    assert suggest_init("r2plus1d_34") == "r2plus1d_34-ig65m-ig65m-8f"
    assert suggest_init("r2d_10") == "r2plus1d_18-kinetics400-torchvision"
