"""What cannot be trained is refused before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import yaml

from muybridge.records import Preprocessing
from muybridge.settings import settings_to_dict
from muybridge.training.job import prepare_job
from runs import tiny_run

TINY_CLIPS = Preprocessing(clip_length=4, scale_height=32, scale_width=32, crop=28)


def test_a_job_is_all_that_a_run_needs(motions: Path, tmp_path: Path) -> None:
    job = prepare_job(tiny_run(motions, tmp_path / "deep" / "run"))
    assert (len(job.train_manifest), len(job.validation_manifest), job.train_manifest.classes) == (
        16,
        4,
        ("left", "right"),
    )
    assert (job.schedule.num_steps, job.schedule.global_batch) == (12, 4)
    assert job.preprocessing == TINY_CLIPS
    assert all(note.startswith("training in fp32") for note in job.notes)
    found = yaml.safe_load((tmp_path / "deep" / "run" / "settings.yaml").read_text())
    assert found == settings_to_dict(job.settings)
    assert sorted(path.name for path in (tmp_path / "deep" / "run").iterdir()) == [
        "environment.json",
        "network.json",
        "settings.yaml",
        "videos.parquet",
    ]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"model": "r2plus1d_19"}, r"r2plus1d_19.*did you mean r2plus1d_18"),
        (
            {"clips.length": 14},
            r"a clip spans 14 frames, but the longest .* has 13; lower clips\.length or clips\.stride",
        ),
        ({"clips.stride": 5}, r"a clip spans 16 frames"),
        ({"clips.frames_per_second": 6.0}, r"the longest .* has 3;"),  # 13 frames at 24 a second last 0.54 s
        ({"device": "cuda:99"}, r"device cuda:99 does not exist"),
        ({"data": "nowhere"}, r"there is no folder or CSV file 'nowhere'"),
        ({"init": "nowhere.safetensors"}, r"nowhere\.safetensors"),
        ({"fold": 2}, r"no official folds"),
    ],
)
def test_what_does_not_fit_is_refused_and_leaves_nothing(
    changes: dict[str, Any], words: str, motions: Path, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words) as raised:
        prepare_job(tiny_run(motions, tmp_path / "run", changes))
    assert "\n" not in str(raised.value)
    assert not (tmp_path / "run").exists()


def test_an_unknown_model_is_refused_before_the_data_is_read(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="r2plus1d_19"):
        prepare_job(tiny_run("nowhere", tmp_path / "run", {"model": "r2plus1d_19"}))


def test_a_folder_without_training_videos(motions: Path, tmp_path: Path) -> None:
    rows = "\n".join(
        f"{motions}/test/{label}/0000{n}.mp4,{label},test" for label in ("left", "right") for n in range(3)
    )
    (tmp_path / "test_only.csv").write_text(f"path,label,split\n{rows}\n")
    with pytest.raises(ValueError, match=r"test_only\.csv has no training videos; it has test"):
        prepare_job(tiny_run(tmp_path / "test_only.csv", tmp_path / "run"))


def test_drawn_splits_are_told(motions: Path, tmp_path: Path) -> None:
    shutil.copytree(motions / "train", tmp_path / "data")
    (tmp_path / "data" / "left").rename(tmp_path / "data" / "west")
    job = prepare_job(tiny_run(tmp_path / "data", tmp_path / "run"))
    notes = [note for note in job.notes if not note.startswith("training in fp32")]
    assert [note.partition(":")[0] for note in notes] == ["No split given", "No validation split given"]
