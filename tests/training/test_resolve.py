"""Where the settings of a run come from: precedence, the card of --init, recipes, and runs that are resumed or extended."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from shutil import copytree
from typing import Any

import pytest
import yaml

from muybridge.files.run_folder import read_json_lines
from muybridge.models.network import create_model
from muybridge.records import Preprocessing
from muybridge.settings import TrainSettings, settings_to_dict
from muybridge.training.given_settings import GivenSettings
from muybridge.training.job import prepare_job, write_description
from muybridge.training.recipes import build_train_settings, read_training_recipe
from muybridge.training.resolve import resolve_settings
from muybridge.training_settings import TrainingSettings
from muybridge.weights.card import save

PREPROCESSING = Preprocessing(
    clip_length=6,
    frame_stride=2,
    frames_per_second=15.0,
    scale_height=40,
    scale_width=50,
    crop=36,
    mean=(0.1, 0.2, 0.3),
)


@pytest.fixture
def weights(tmp_path: Path) -> str:
    """Weights of a network and a preprocessing of which nothing is a default."""
    network = create_model(
        "mc3_10", num_classes=2, clip_length=6, width=4, mid_channel_rule="per_block", norm_epsilon=1e-5
    )
    save(network, tmp_path / "w.safetensors", classes=["a", "b"], preprocessing=PREPROCESSING)
    return str(tmp_path / "w.safetensors")


def resolve(values: Mapping[str, Any], *, resume: bool = False) -> TrainSettings:
    return resolve_settings(GivenSettings(values), resume=resume).settings


def test_network_and_preprocessing_are_those_of_the_weights(weights: str) -> None:
    settings = resolve({"data": "d", "init": weights})
    assert settings.preprocessing == PREPROCESSING
    assert (settings.model, settings.network.width, settings.network.norm_epsilon) == ("mc3_10", 4, 1e-5)
    assert settings.network.mid_channel_rule == "per_block"


def test_options_replace_what_the_weights_say_and_both_are_named(weights: str) -> None:
    given = GivenSettings({"data": "d", "init": weights, "clips": {"length": 8, "crop": 32}})
    resolved = resolve_settings(given, resume=False)
    assert (resolved.settings.clips.length, resolved.settings.clips.crop, resolved.settings.clips.stride) == (8, 32, 2)
    assert resolved.notes[-1].endswith("clips.crop is 32, theirs is 36; clips.length is 8, theirs is 6")
    assert "clips.frames_per_second 15" in resolved.notes[-2]
    assert "clips.length" not in resolved.notes[-2]


def test_statistics_of_another_modality_are_not_those_of_the_weights(weights: str) -> None:
    settings = resolve({"data": "d", "init": weights, "modality": "flow"})
    assert (settings.modality, settings.clips.length) == ("flow", 6)
    assert len(settings.preprocessing.mean) == 2


def test_settings_of_a_run_need_not_suit_the_modality_of_its_weights(weights: str) -> None:
    clips = {"length": 8, "scale": [80, 80], "crop": 64}
    groups = {"network": {"input_channels": 2}, "clips": clips, "training": {"multigrid": [[0.5, 8, 64]]}}
    given = GivenSettings({"data": "d", "init": weights, "modality": "flow", **groups})
    resolved = resolve_settings(given, resume=False)
    assert (resolved.settings.network.input_channels, resolved.settings.training.multigrid) == (2, ((0.5, 8, 64),))
    assert "clips.scale is [80, 80], theirs is [40, 50]; modality is flow, theirs is rgb" in resolved.notes[-1]


def test_recipes_by_start_and_by_name(weights: str) -> None:
    own = read_training_recipe("own_videos")["training"]
    tuned = resolve({"data": "d", "init": weights})
    assert (tuned.recipe, tuned.training.learning_rate) == ("own_videos", own["learning_rate"])
    assert tuned.training.rate_factors[-1] > 1
    assert resolve({"data": "d"}).training == TrainingSettings()
    assert resolve({"data": "d", "init": weights, "recipe": "paper"}).training == TrainingSettings()
    scratch = resolve({"data": "d", "recipe": "scratch", "training": {"learning_rate": 0.5}})
    assert (scratch.training.optimizer, scratch.training.learning_rate) == ("adamw", 0.5)
    assert not build_train_settings(read_training_recipe("scratch")).training.phases


def test_the_schedule_of_a_recipe_keeps_its_shares(weights: str) -> None:
    whole = resolve({"data": "d", "init": weights}).training
    half = resolve({"data": "d", "init": weights, "training": {"epochs": whole.epochs / 2}}).training
    assert half.decay_epochs == tuple(decay / 2 for decay in whole.resolved_decay_epochs)
    assert half.resolved_warmup_epochs == whole.resolved_warmup_epochs / 2


def run_line(data: object, output: Path, tmp_path: Path) -> list[object]:
    """A training of 12 steps of a small network, with a file of settings."""
    from runs import tiny_run

    plain = settings_to_dict(tiny_run("", output))
    for name in ("data", "output", "recipe"):
        del plain[name]
    (tmp_path / "tiny.yaml").write_text(yaml.safe_dump(plain))
    return ["train", "--data", data, "--config", tmp_path / "tiny.yaml", "-o", output]


def test_resume_alone_and_with_moved_data(
    motions: Path, finished_run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run = tmp_path / "run"
    copytree(finished_run, run)
    assert "all 12 steps of the run are done" in cli("train", "-o", run, "--resume").err
    copytree(motions, tmp_path / "moved")
    extra = tmp_path / "moved" / "train" / "left" / "0extra.mp4"  # sorts before all others
    extra.write_bytes((tmp_path / "moved" / "train" / "left" / "00003.mp4").read_bytes())
    told = cli("train", "-o", run, "--resume", "--data", tmp_path / "moved")
    assert told.code == 0, told.err
    assert "16 training and 4 validation videos" in told.err
    (tmp_path / "moved" / "train" / "left" / "00003.mp4").unlink()
    told = cli("train", "-o", run, "--resume", "--data", tmp_path / "moved")
    assert told.code == 2
    assert "lacks 1 video of the run" in told.err
    assert "train/left/00003.mp4" in told.err
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    told = cli("train", "-o", run, "--resume")
    assert (told.code, told.out) == (2, "")
    assert "moved, the data of the run, is not there; if it has moved, add --data with its new place" in told.err


def test_a_run_on_a_list_goes_on_with_what_was_prepared_of_it(
    motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    data, run, prepared = tmp_path / "clips.csv", tmp_path / "run", tmp_path / "prepared"
    videos = [path for path in sorted(motions.rglob("*.mp4")) if path.parts[-3] != "test"]
    lines = [f"{path},0.1,0.9,{path.parent.name},{path.parts[-3]}" for path in videos]
    data.write_text("\n".join(["file,from,to,action,part", *lines]))
    columns = "path=file,start_seconds=from,end_seconds=to,label=action,split=part"
    assert cli(*run_line(data, run, tmp_path), "--columns", columns).code == 0
    assert cli("prepare", data, "-o", prepared, "--columns", columns, "--scale", 32, 32).code == 0
    told = cli("train", "-o", run, "--resume", "--data", prepared, "--columns", columns)
    assert (told.code, told.out) == (2, "")
    assert "--columns is for lists" in told.err
    told = cli("train", "-o", run, "--resume", "--data", prepared)
    assert told.code == 0, told.err
    assert "all 12 steps of the run are done" in told.err
    assert cli("train", "-o", run, "--resume").code == 0
    told = cli("evaluate", run, "--data", prepared, "--split", "validation")
    assert told.code == 0, told.err
    told = cli("train", "-o", run, "--resume", "--data", data, "--columns", columns)
    assert told.code == 0, told.err


def test_resume_with_other_files_of_the_same_names(
    motions: Path, finished_run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run, other = tmp_path / "run", tmp_path / "other"
    copytree(finished_run, run)
    copytree(motions, other)
    videos = sorted(other.rglob("*.mp4"))

    def resume(changed: list[Path]) -> Any:
        for video in changed:
            video.write_bytes(video.read_bytes() + b"\0" * 16)  # of another size, and still a video
        before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
        told = cli("train", "-o", run, "--resume", "--data", other)
        return told, before == {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}

    told, _ = resume(sorted((other / "train").rglob("*.mp4"))[:1])
    assert told.code == 0, told.err
    assert f"1 file under {other} changed in size since the run began" in told.err
    told, is_unchanged = resume(videos)
    assert (told.code, told.out, is_unchanged) == (2, "", True)
    assert "has other files under the names of the run's videos: none has the size" in told.err


def test_resume_without_a_run_says_what_is_missing(tmp_path: Path, cli: Callable[..., Any]) -> None:
    told = cli("train", "-o", tmp_path / "none", "--resume")
    assert (told.code, told.out) == (2, "")
    assert "--data must be given" in told.err
    assert "contains no run to resume" in told.err


def test_a_run_is_extended_as_a_phase_of_its_own(motions: Path, tmp_path: Path, cli: Callable[..., Any]) -> None:
    run = tmp_path / "run"
    line = run_line(motions, run, tmp_path)
    assert cli(*line).code == 0
    more = [*line, "--resume", "--training.epochs", "3", "--training.learning-rate", "0.001"]
    told = cli(*more)
    assert told.code == 0, told.err
    assert "resuming at step 12 of 18" in told.err
    lines = [row for row in read_json_lines(run / "log.jsonl") if row["kind"] == "train"]
    assert [row["step"] for row in lines] == list(range(1, 19))
    peak = 0.001 * 4 / 32
    assert max(row["rate"] for row in lines[12:]) == pytest.approx(peak)
    saved = yaml.safe_load((run / "settings.yaml").read_text())["training"]
    assert (saved["epochs"], saved["phases"]) == (2, [[1.0, 0.001]])
    assert "all 18 steps of the run are done" in cli(*more).err  # the same line resumes and does not extend again
    assert "all 18 steps of the run are done" in cli("train", "-o", run, "--resume").err
    fewer = cli("train", "-o", run, "--resume", "--training.epochs", "1")
    assert fewer.code == 2
    assert "training.epochs is 1.0, the run has 2.0" in fewer.err


def begun_run(folder: Path, motions: Path, **training: Any) -> Path:
    """A run of two epochs at 0.02 that has a checkpoint."""
    from runs import save_job, tiny_run

    changes = {f"training.{name}": value for name, value in training.items()}
    save_job(prepare_job(tiny_run(motions, folder, changes)))
    return folder


def test_phases_that_are_given_are_used(motions: Path, tmp_path: Path) -> None:
    run = begun_run(tmp_path / "run", motions, phases=((1.0, 0.01),))

    def resume(**training: Any) -> tuple[tuple[float, float], ...]:
        settings = resolve({"data": str(motions), "output": str(run), "training": training}, resume=True)
        job = prepare_job(settings, resume=True)
        write_description(job)
        return job.settings.training.phases

    assert resume() == resume(phases=[]) == resume(phases=[[1, 0.01]]) == ((1, 0.01),)
    assert resume(phases=[[1, 0.01]], epochs=2) == resume(phases=[[1, 0.01]], epochs=3) == ((1, 0.01),)
    for phases in ([[5, 0.5]], [[2, 0.01]], [[1, 0.01 + 1e-9], [1, 0.1]]):
        with pytest.raises(ValueError, match=r"phases can only be added to it"):
            resume(phases=phases)
    for epochs in (4, 5, 1):
        with pytest.raises(ValueError, match=r"training\.epochs is \d and training\.phases is .*leave one of them out"):
            resume(phases=[[1, 0.01], [1, 0.001]], epochs=epochs)
    with pytest.raises(ValueError, match=r"training\.learning_rate is 0\.5, the run has 0\.02"):
        resume(phases=[[1, 0.01], [1, 0.001]], learning_rate=0.5)
    assert resume(phases=[[1, 0.01], [1, 0.001]]) == ((1, 0.01), (1, 0.001))
    assert resume() == resume(phases=[[1, 0.01], [1, 0.001]], epochs=2) == ((1, 0.01), (1, 0.001))
    with pytest.raises(ValueError, match=r"phases can only be added to it"):
        resume(phases=[[1, 0.01]])


def test_the_rate_of_a_phase_is_not_changed_without_a_word(motions: Path, tmp_path: Path) -> None:
    def resume(run: Path, **training: Any) -> tuple[tuple[float, float], ...]:
        return resolve({"output": str(run), "training": training}, resume=True).training.phases

    run = begun_run(tmp_path / "run", motions, phases=((2.0, 0.01),))
    assert resume(run, epochs=4) == resume(run, epochs=4, learning_rate=0.01) == ((2, 0.01),)
    sentence = r"training\.learning_rate is 1e-05, the last phase of the run has 0\.01; leave it out"
    with pytest.raises(ValueError, match=sentence):
        resume(run, epochs=4, learning_rate=0.00001)
    assert resume(run, epochs=5, learning_rate=0.00001) == ((2, 0.01), (1, 0.00001))
    fraction = begun_run(tmp_path / "fraction", motions, epochs=0.1, phases=((0.2, 0.01),))
    assert resume(fraction, epochs=0.3) == ((0.2, 0.01),)  # whose sum differs from it in the last place


def test_few_videos_from_random_weights_are_pointed_to_init(
    motions: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    told = cli(*run_line(motions, tmp_path / "run", tmp_path), "--training.epochs", "0.1")
    assert "16 videos are few for training from random weights" in told.err
    assert "--init r2plus1d_18-kinetics400-torchvision" in told.err


def test_saved_settings_hold_every_resolved_value(weights: str) -> None:
    settings = resolve({"data": "d", "init": weights})
    plain = yaml.safe_load(yaml.safe_dump(settings_to_dict(settings)))
    assert build_train_settings(plain) == replace(settings)


def test_a_run_on_a_folder_goes_on_with_what_was_prepared_of_it(
    motions: Path, finished_run: Path, tmp_path: Path, cli: Callable[..., Any]
) -> None:
    run, prepared = tmp_path / "run", tmp_path / "prepared"
    copytree(finished_run, run)
    assert cli("prepare", motions, "-o", prepared, "--scale", 32, 32).code == 0
    told = cli("train", "-o", run, "--resume", "--data", prepared)
    assert told.code == 0, told.err
