"""What tests of reports share: runs and studies in which every name that can come from outside is hostile."""

from __future__ import annotations

import json
from pathlib import Path
from shutil import copytree

import numpy as np
import pytest
import yaml

from muybridge.records import Preprocessing
from scored import Video, certain, write_score_file

SCRIPT = "<script>window.hurt=1</script>"
BREAKOUT = '"><img src=x onerror="window.hurt=2">'
LONG = "a_class_whose_name_has_no_place_to_break_and_goes_on_and_on_and_on_and_on_and_on_and_on"
CLASSES = (SCRIPT, BREAKOUT, LONG, "$\\frac{1$", "日本語", "{{ 7 * 7 }}", "javascript:alert(1)", "</style></svg>")


def hostile_videos(seed: int) -> list[Video]:
    """Ten videos a class, some taken for a neighbour, one unreadable."""
    rng = np.random.default_rng(seed)
    videos: list[Video] = []
    for label in range(len(CLASSES)):
        for number in range(10):
            first = (label + (rng.random() < 0.4)) % len(CLASSES)
            views = [certain(first, len(CLASSES), 1 + rng.random()) for _ in range(2)]
            videos.append((f"{CLASSES[label]}/{number}.mp4", (label,), views))
    videos.append((f"{BREAKOUT}.mp4", (0,), [None, None]))
    return videos


def write_hostile_run(folder: Path, seed: int) -> Path:
    """A run folder of which everything that people or files may name is hostile."""
    reason = f"{SCRIPT} \udcff\u202e"
    write_score_file(folder / "scores" / "test.parquet", hostile_videos(seed), CLASSES, reason=SCRIPT)
    settings = {
        "model": SCRIPT,
        "data": BREAKOUT,
        "seed": seed,
        "training": {"batch_size": 4, BREAKOUT: [LONG, SCRIPT]},
    }
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings))
    (folder / "environment.json").write_text(json.dumps({"command": [SCRIPT, LONG * 3], "packages": {BREAKOUT: "1"}}))
    (folder / "failures.jsonl").write_text(
        json.dumps({"step": 1, "video": LONG * 2, "status": SCRIPT, "reason": reason}) + "\n"
    )
    lines = [
        {"kind": "train", "step": step, "epoch": step / 4, "rate": 0.1, "loss": 2 / step, "clip_accuracy": step / 20}
        | {"clips_per_second": 5.0 + step, "waiting_share": 0.5 / step}
        for step in range(1, 13)
    ]
    lines += [{"kind": "validation", "step": step, "video_top1": step / 20, "video_top5": 1.0} for step in (4, 8, 12)]
    lines += [{"kind": SCRIPT, "step": SCRIPT}, {"kind": "train", "step": None, "loss": BREAKOUT}]
    (folder / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"kind": "tr')
    return folder


def write_hostile_study(folder: Path) -> Path:
    """A study whose words are hostile."""
    study = {
        "format": 1,
        "name": SCRIPT,
        "title": f"Study {SCRIPT}",
        "claim": BREAKOUT,
        "verdict": {"text": SCRIPT, "supported": None},
        "scale": BREAKOUT,
        "environment": {SCRIPT: {BREAKOUT: 1}},
        "tables": [
            {"title": BREAKOUT, "columns": [SCRIPT, LONG], "rows": [[SCRIPT, 1.5], [LONG, None]], "note": SCRIPT}
        ],
        "figures": [
            {
                "title": SCRIPT,
                "x_label": BREAKOUT,
                "y_label": "$x",
                "series": [
                    {"label": SCRIPT, "x": [1, 2], "y": [1, None], "low": None, "high": None, "style": "line"},
                    {"label": LONG, "x": [1, 2], "y": [1, 3], "low": [0, 2], "high": [2, 4], "style": "points"},
                ],
                "alt": BREAKOUT,
            }
        ],
        "images": [
            {"title": SCRIPT, "pixels": [[0, 255], [255, 0]], "alt": BREAKOUT},
            {"title": LONG, "pixels": [[[255, 0, 0]] * 8], "alt": "red"},
        ],
        "rows": [{"run": SCRIPT, "settings": {BREAKOUT: LONG}}, {"run": 2}],
        "missing": [SCRIPT],
    }
    folder.mkdir(parents=True)
    (folder / "study.json").write_text(json.dumps(study))
    return folder


@pytest.fixture(scope="session")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the hostile runs `first` and `second` and the hostile `study`."""
    folder = tmp_path_factory.mktemp("hostile")
    write_hostile_run(folder / "first", 0)
    write_hostile_run(folder / "second", 1)
    write_hostile_study(folder / "study")
    return folder


@pytest.fixture(scope="session")
def mistaken_run(finished_run: Path, motions: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose test scores take every `left` of the generated motions for a `right`."""
    folder = tmp_path_factory.mktemp("mistaken") / "run"
    copytree(finished_run, folder, ignore=lambda folder, names: ["checkpoints", "tensorboard"])
    settings = yaml.safe_load((folder / "settings.yaml").read_text())
    videos = [
        (f"test/{name}/{video.name}", (label,), [certain(1, 2)] * 2)
        for label, name in enumerate(("left", "right"))
        for video in sorted((motions / "test" / name).iterdir())
    ]
    clips = settings["clips"]
    preprocessing = Preprocessing(
        clip_length=clips["length"], scale_height=clips["scale"][0], scale_width=clips["scale"][1], crop=clips["crop"]
    )
    write_score_file(folder / "scores" / "test.parquet", videos, ("left", "right"), preprocessing=preprocessing)
    return folder
