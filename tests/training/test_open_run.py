"""Run folders: new ones, runs that are resumed, and folders of something else."""

from __future__ import annotations

from pathlib import Path
from shutil import copytree, ignore_patterns
from typing import Any

import pytest
import torch
import yaml

from muybridge.models.network import VideoResNet
from muybridge.training.job import prepare_job, write_description
from runs import save_job, tiny_run


def same(ours: VideoResNet, theirs: VideoResNet, name: str) -> bool:
    return torch.equal(ours.state_dict()[name], theirs.state_dict()[name])


def refusal(settings: Any, *, resume: bool = False) -> str:
    with pytest.raises(ValueError) as raised:
        prepare_job(settings, resume=resume)
    return str(raised.value)


def test_run_folders_of_every_kind(motions: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    assert "file is a file; name a folder" in refusal(tiny_run(motions, tmp_path / "file"))
    (tmp_path / "foreign").mkdir()
    (tmp_path / "foreign" / "thesis.tex").write_text("mine")
    for resume in (False, True):
        assert "contains something other than a run" in refusal(tiny_run(motions, tmp_path / "foreign"), resume=resume)
    assert [path.name for path in (tmp_path / "foreign").iterdir()] == ["thesis.tex"]
    (tmp_path / "empty").mkdir()
    write_description(prepare_job(tiny_run(motions, tmp_path / "empty")))
    # Nothing was learnt there yet: the same folder serves for another try, with other settings.
    write_description(prepare_job(tiny_run(motions, tmp_path / "empty", {"training.epochs": 3})))
    assert yaml.safe_load((tmp_path / "empty" / "settings.yaml").read_text())["training"]["epochs"] == 3


def test_a_run_is_not_overwritten_and_not_mixed_with_another(motions: Path, tmp_path: Path) -> None:
    save_job(prepare_job(tiny_run(motions, tmp_path / "run")))
    assert "already contains a run; add --resume" in refusal(tiny_run(motions, tmp_path / "run"))
    changed = tiny_run(motions, tmp_path / "run", {"training.epochs": 3, "model": "r3d_10"})
    message = refusal(changed, resume=True)
    assert "model is r3d_10, the run has r2plus1d_10; training.epochs is 3, the run has 2" in message
    # What changes nothing about the result may change.
    free = {"loading.workers": 1, "checkpoints.keep": 5, "device": "cpu", "evaluation.batch_size": 7}
    assert prepare_job(tiny_run(motions, tmp_path / "run", free), resume=True).settings.loading.workers == 1


def test_weights_of_a_run_whose_checkpoints_were_deleted_are_not_replaced(
    motions: Path, finished_run: Path, tmp_path: Path
) -> None:
    run = Path(copytree(finished_run, tmp_path / "run", ignore=ignore_patterns("checkpoints")))
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    for changes, resume in ((None, False), (None, True), ({"training.epochs": 4}, True), ({"model": "r3d_10"}, False)):
        message = refusal(tiny_run(motions, run, changes), resume=resume)
        assert "has the best.safetensors and last.safetensors of a run but no checkpoint to resume it from" in message
        assert f"add --init {run} and name another folder with -o" in message
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    (run / "best.safetensors").unlink()
    assert "has the last.safetensors of a run" in refusal(tiny_run(motions, run), resume=True)


def test_the_time_origin_is_saved_and_kept_on_resume(motions: Path, tmp_path: Path) -> None:
    for name, given, saved in (("player", "container", "container"), ("picture", None, "picture")):
        folder = tmp_path / name
        job = prepare_job(tiny_run(motions, folder, {"time_origin": given}))
        save_job(job)
        assert yaml.safe_load((folder / "settings.yaml").read_text())["time_origin"] == saved
        assert job.train_manifest.time_origin == saved
        assert prepare_job(tiny_run(motions, folder), resume=True).train_manifest.time_origin == saved
        other = {"container": "picture", "picture": "container"}[saved]
        assert f"time_origin is {other}, the run has {saved}" in refusal(
            tiny_run(motions, folder, {"time_origin": other}), resume=True
        )
    settings = yaml.safe_load((tmp_path / "picture" / "settings.yaml").read_text())
    del settings["time_origin"]  # of an earlier version
    (tmp_path / "picture" / "settings.yaml").write_text(yaml.safe_dump(settings))
    assert prepare_job(tiny_run(motions, tmp_path / "picture"), resume=True).settings.time_origin == "picture"


@pytest.mark.parametrize("content", ["[1", "", "text", "\x00"])
def test_damaged_settings_of_a_run_are_named(content: str, motions: Path, tmp_path: Path) -> None:
    save_job(prepare_job(tiny_run(motions, tmp_path / "run")))
    (tmp_path / "run" / "settings.yaml").write_text(content)
    assert "settings.yaml" in refusal(tiny_run(motions, tmp_path / "run"), resume=True)


def test_a_folder_that_cannot_be_written(motions: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(NotADirectoryError):
        write_description(prepare_job(tiny_run(motions, tmp_path / "file" / "run")))

    def read_only(*arguments: Any, **options: Any) -> Any:  # root may write anywhere
        raise PermissionError(13, "Permission denied", str(tmp_path / "run"))

    monkeypatch.setattr("muybridge.training.open_run.write_text", read_only)
    with pytest.raises(PermissionError):
        write_description(prepare_job(tiny_run(motions, tmp_path / "run")))
    assert not (tmp_path / "run" / "settings.yaml").exists()
