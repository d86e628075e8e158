"""Settings from options and files: what counts, and what is said about what does not fit."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from muybridge.cli.main import VERBS, find_verb
from muybridge.cli.options import build_parser, parse_arguments, parse_settings
from muybridge.cli.predict import EnsembleArguments, TimelineArguments, predict
from muybridge.cli.train import train
from muybridge.settings import ClipSettings, TrainSettings, settings_to_dict


def parsed(*words: object) -> TrainSettings:
    return parse_settings(train, TrainSettings, [str(word) for word in words])


def test_options_of_groups_and_defaults() -> None:
    settings = parsed(
        "--data", "d", "-o", "run", "--clips.scale", "[64,80]", "--clips.crop=56", "--network.stem_pool=true"
    )
    assert settings.output == "run"
    assert settings.clips == ClipSettings(scale=(64, 80), crop=56)
    assert settings.network.stem_pool is True
    assert settings.training == TrainSettings(data="d").training


def test_hyphens_and_underscores_are_the_same() -> None:
    hyphens = parsed("--data", "my-data", "--training.learning-rate=0.5", "--clips.flow-gap", 2, "--modality", "flow")
    assert hyphens == parsed(
        "--data", "my-data", "--training.learning_rate=0.5", "--clips.flow_gap", 2, "--modality", "flow"
    )
    assert (hyphens.data, hyphens.clips.flow_gap) == ("my-data", 2)


@pytest.mark.parametrize("text", ["[%, px/frame]", '["%", "px/frame"]'])
def test_a_list_of_texts_needs_no_quotes(text: str) -> None:
    for argv in (["--training.units", text], [f"--training.units={text}"]):
        settings = parsed("--data", "d", "--training.task", "regression", *argv)
        assert settings.training.units == ("%", "px/frame")


def test_a_value_may_look_like_an_option() -> None:
    assert parsed("--data=--my_data", "-o=--out_put").data == "--my_data"


def test_every_kind_of_parameter() -> None:
    arguments = parse_arguments(predict, "muybridge predict", ["r", "a", "b", "--with", "s", "--weights", "1", "2"])
    assert (arguments["run"], arguments["videos"]) == ("r", ["a", "b"])
    assert arguments["ensemble"] == EnsembleArguments("s", (1.0, 2.0))
    assert arguments["timeline"] == TimelineArguments()
    timeline = ["--timeline", "--minimum-seconds", "0.5"]
    parsed = parse_arguments(predict, "muybridge predict", ["r", "a", *timeline])["timeline"]
    assert (parsed.timeline, parsed.minimum_seconds) == ("text", 0.5)


@pytest.mark.parametrize("place", [0, 2])
def test_options_count_more_than_the_file_wherever_they_stand(place: int, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("model: r3d_18\nclips: {length: 8, crop: 100}\n")
    words: list[object] = ["--data", "d", "--model", "mc3_18", "--clips.crop", "90"]
    words[place:place] = ["--config", tmp_path / "a.yaml"] if place else [f"--config={tmp_path / 'a.yaml'}"]
    settings = parsed(*words)
    assert (settings.model, settings.clips.length, settings.clips.crop) == ("mc3_18", 8, 90)


def test_the_settings_of_a_run_are_enough_to_run_it_again(tmp_path: Path) -> None:
    settings = parsed("--data", "d", "--training.decay_epochs", "[1,2.5]", "--clips.frames_per_second=15", "--fold=1")
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings_to_dict(settings)))
    assert parsed("--config", tmp_path / "settings.yaml") == settings


OPTIONS = [
    ("", r"--data must be given"),
    ("--data", r"argument --data: expected one argument"),
    ("--data d --config", r"argument --config: expected one argument"),
    ("--data d extra", r"extra belongs to no option"),
    ("--data d -dash.mp4", r"-dash.mp4 belongs to no option; a file of this name is given as \./-dash.mp4"),
    ("--data d --epochs 3", r"there is no option --epochs \(did you mean --training\.epochs\?\)"),
    (
        "--data d --training.lerning_rate 3",
        r"there is no option --training\.lerning-rate \(did you mean --training\.learning-rate",
    ),
    ("--data d --xyzzy 3", r"there is no option --xyzzy"),
    ("--data d --lr 3", r"there is no option --lr \(did you mean --training\.learning-rate\?\)"),
    ("--data d --batch-size 3", r"there is no option --batch-size \(did you mean --training\.batch-size\?\)"),
    ("--data d --pretrained x", r"there is no option --pretrained \(did you mean --init\?\)"),
    ("two", r"two belongs to no option; a data set is given as --data two"),
    ("--dat d", r"there is no option --dat \(did you mean --data\?\)"),
    (
        "--data d --training.learning 3",
        r"there is no option --training\.learning \(did you mean --training\.learning-rate\?",
    ),
    ("--data d --training.learning-rate", r"argument --training\.learning-rate: expected one argument"),
    ("--data d --training.batch_size many", r"training\.batch_size is many, expected a whole number"),
    ("--data d --training.batch_size 1.5", r"training\.batch_size is 1\.5, expected a whole number"),
    ("--data d --training.learning_rate fast", r"training\.learning_rate is fast, expected a number"),
    ("--data d --training.clips_per_epoch x", r"training\.clips_per_epoch is x, expected a whole number"),
    ("--data d --clips.frames_per_second no", r"clips\.frames_per_second is no, expected a number"),
    ("--data d --clips.mirror perhaps", r"clips\.mirror is perhaps, expected true or false"),
    ("--data d --clips.stride=", r"--clips\.stride is empty; give it a value"),
    ("--data d --clips.scale 128", r"clips\.scale is 128, expected a list such as \[8,8\]"),
    ("--data d --training.multigrid [[0.5,4]]", r"\[0\.5, 4\], expected a list such as \[\[0\.5,8,8\]\]"),
    ("--data d --clips.scale [1,2,3]", r"clips\.scale is \[1, 2, 3\], expected a list"),
    ("--data d --training.decay_epochs soon", r"training\.decay_epochs is soon, expected a list"),
    ("--data d --training.optimizer adam", r"training\.optimizer is adam, expected sgd or adamw"),
    ("--data d --modality depth", r"modality is depth, expected rgb or flow"),
    ("--data d --config none.yaml", r"there is no file of settings 'none\.yaml'"),
]


@pytest.mark.parametrize(("line", "words"), OPTIONS, ids=[line for line, _ in OPTIONS])
def test_options_that_do_not_fit(line: str, words: str, cli: Callable[..., Any]) -> None:
    told = cli("train", *line.split())
    assert (told.code, told.out) == (2, "")
    assert told.err.count("\n") == 1
    assert told.err.endswith("; muybridge train --help lists the options\n")
    assert re.search(words, told.err), told.err


NUMBERS = [
    ("--training.batch_size -3", r"training\.batch_size is -3, expected a whole number from 1 to 1,000,000"),
    (
        "--training.learning_rate=-1",
        r"training\.learning_rate is -1\.0, expected a finite number above 0 and at most 1,000",
    ),
    ("--training.epochs 0", r"training\.epochs is 0\.0, expected a finite number above 0"),
    ("--training.weight_decay=-1", r"training\.weight_decay is -1\.0, expected a finite number from 0"),
    ("--clips.length 0", r"clips\.length is 0, expected a whole number from 1"),
    ("--clips.crop 999", r"clips\.crop 999 does not fit into clips\.scale 128x171"),
    ("--network.width 0", r"network\.width is 0, expected a whole number from 1 to 4,096"),
    ("--loading.workers=-1", r"loading\.workers is -1, expected a whole number from 0"),
    ("--checkpoints.keep 0", r"checkpoints\.keep is 0, expected a whole number from 1"),
    ("--evaluation.clips=-10", r"evaluation\.clips is -10, expected a whole number from 1"),
    ("--seed=-1", r"seed is -1, expected a whole number from 0"),
    ("--fold 7", r"fold is 7, expected a whole number from 1 to 3"),
]


@pytest.mark.parametrize(("line", "words"), NUMBERS, ids=[line for line, _ in NUMBERS])
def test_numbers_that_make_no_sense(line: str, words: str, cli: Callable[..., Any]) -> None:
    told = cli("train", "--data", "d", *line.split())
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert re.search(rf"^muybridge: {words}", told.err), told.err


FILES = [
    ("training: {batch_size: many}", r"training\.batch_size is many, expected a whole number"),
    ("training: {batchsize: 3}", r"there is no setting training\.batchsize \(did you mean training\.batch_size\?\)"),
    ("trainin: {epochs: 3}", r"there is no setting trainin\.epochs \(did you mean training\.epochs\?\)"),
    ("epochs: 3", r"there is no setting epochs"),
    ("clips: 3", r"clips is 3, expected a group of settings such as clips\.NAME"),
    ("training: null", r"training is None, expected a group of settings"),
    ("training: {optimizer: adam}", r"training\.optimizer is adam, expected sgd or adamw"),
    ("model: [r3d_18]", r"model is \['r3d_18'\], expected text"),
    ("", r"a\.yaml holds no settings; expected lines such as"),
    ("just text", r"a\.yaml holds no settings"),
    ("training: [3", r"a\.yaml is not a YAML file: .* line 1"),
    ("\udcff", r"a\.yaml is not a YAML file: .*utf-8"),
    (
        "training: {epochs: 3}\nmodel: r3d_18\ntraining: {batch_size: 4}",
        r"a\.yaml is not a YAML file: it has the key training in line 1 and again in line 3",
    ),
    (
        "training.batch_size: 4\ntraining: {epochs: 3}",
        r"a\.yaml has both training and training\.batch_size, of which one would be lost",
    ),
]


@pytest.mark.parametrize(("content", "words"), FILES, ids=[ascii(content) for content, _ in FILES])
def test_files_that_do_not_fit(content: str, words: str, cli: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(content, encoding="utf-8", errors="surrogateescape")
    told = cli("train", "--data", "d", "--config", tmp_path / "a.yaml")
    assert (told.code, told.out, told.err.count("\n")) == (2, "", 1)
    assert pytest.raises(AssertionError, match=rf"^muybridge train: .*{words}").matches(AssertionError(told.err)), (
        told.err
    )


def test_plain_options_are_refused_in_the_same_manner(cli: Callable[..., Any]) -> None:
    assert (
        cli("predict").err
        == "muybridge predict: RUN and VIDEOS must be given; muybridge predict --help lists the options\n"
    )
    assert "--output must be given" in cli("extract", "run", "a.mp4").err
    assert "did you mean --top?" in cli("predict", "run", "a.mp4", "--topp", "3").err
    assert "there is no option --lr; muybridge demo --help" in cli("demo", "--lr", "3").err
    assert "top is x, expected a whole number" in cli("predict", "run", "a.mp4", "--top", "x").err
    assert (
        "split is tests, expected train or validation or test"
        in cli("evaluate", "r", "--data", "d", "--split", "tests").err
    )


def test_every_argument_of_every_verb_has_a_help_text() -> None:
    for name in VERBS:
        found = find_verb(name)
        for verb in found.values() if isinstance(found, dict) else [found]:
            bare = [action.dest for action in build_parser(verb, "muybridge")._actions if not action.help]
            assert not bare, f"{name}: {bare}"
