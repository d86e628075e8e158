"""What cannot be trained is refused before anything is written."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from muybridge.models.heads import Head
from muybridge.records import Preprocessing, Task
from muybridge.settings import settings_to_dict
from muybridge.training.job import prepare_job, write_description
from runs import save_job, tiny_run
from task_data import write_task_data

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
    assert not (tmp_path / "deep").exists()
    write_description(job)
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


@pytest.mark.parametrize("task", ["single_label", "multi_label", "ordinal", "regression"])
def test_a_run_is_not_resumed_with_other_labels_or_targets(task: Task, tmp_path: Path) -> None:
    data = write_task_data(tmp_path / "data", task, num_videos={"train": 6, "validation": 3, "test": 2})
    content = data.read_text()
    changes = {"training.task": task}
    if task == "ordinal":
        changes["training.levels"] = ("still", "slow", "fast")
    settings = tiny_run(data, tmp_path / "run", changes)
    save_job(prepare_job(settings))
    header, *rows = content.splitlines()
    *start, label = rows[1].split(",")
    other = {"regression": f"{label}1", "ordinal": "fast", "multi_label": "lower", "single_label": "still"}[task]
    edited = [*rows]
    edited[1] = ",".join([*start, other])

    def resume(lines: list[str]) -> Head | None:
        data.write_text("\n".join([header, *lines]) + "\n")
        job = prepare_job(settings, resume=True)
        write_description(job)
        return job.head

    for _ in range(2):
        what = "targets" if task == "regression" else "labels"
        with pytest.raises(ValueError, match=f"{task}.csv has other {what} for the run's videos .* --init .*/run and"):
            resume(edited)
    head = resume(rows)
    shutil.copy(data.parent / "train-000.mp4", data.parent / "new.mp4")
    test = ",".join([*rows[-1].split(",")[:3], other])  # a test video is none of the run's
    grown = ["new.mp4,train,g9," + label, *reversed(rows[:-1]), test]
    assert resume(grown) == head
    videos = pq.read_table(tmp_path / "run" / "videos.parquet")
    header_values = json.loads(videos.schema.metadata[b"muybridge"])
    assert header_values.pop("labels_sha256")
    metadata = {"muybridge": json.dumps(header_values)}  # as an earlier version wrote it
    pq.write_table(videos.replace_schema_metadata(metadata), tmp_path / "run" / "videos.parquet")
    resume(edited)
    with pytest.raises(ValueError, match="has other"):  # it is recorded then
        resume(rows)


def test_a_run_is_not_resumed_with_other_bounds_of_its_segments(motions: Path, tmp_path: Path) -> None:
    folders = {name: motions / name for name in ("train", "validation")}
    videos = [(name, path) for name, folder in folders.items() for path in sorted(folder.rglob("*.mp4"))]
    data, settings = tmp_path / "list.csv", tiny_run(tmp_path / "list.csv", tmp_path / "run")

    def resume(*, resume: bool = True, **changed: str) -> None:
        bounds = {"start": "0.1", "end": ""} | changed
        lines = [f"{path},{path.parent.name},{name},{bounds['start']},{bounds['end']}" for name, path in videos]
        data.write_text("\n".join(["path,label,split,start_seconds,end_seconds", *lines]) + "\n")
        job = prepare_job(settings, resume=resume)
        (save_job if not resume else write_description)(job)

    resume(resume=False)
    for changed in ({"start": "0.2"}, {"start": ""}, {"end": "0.5"}):
        with pytest.raises(
            ValueError, match=r"list.csv has other starts or ends for the run's videos .* --init .*/run and"
        ):
            resume(**changed)
    resume(start="0.10")


def test_drawn_splits_are_told(motions: Path, tmp_path: Path) -> None:
    shutil.copytree(motions / "train", tmp_path / "data")
    (tmp_path / "data" / "left").rename(tmp_path / "data" / "west")
    job = prepare_job(tiny_run(tmp_path / "data", tmp_path / "run"))
    notes = [note for note in job.notes if not note.startswith("training in fp32")]
    assert [note.partition(":")[0] for note in notes] == ["No split given", "No validation split given"]
