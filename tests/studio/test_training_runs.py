"""The list of the runs of a project."""

from __future__ import annotations

from pathlib import Path

import yaml

from muybridge.studio.training_runs import list_runs


def test_a_damaged_run_does_not_hide_the_others(tmp_path: Path) -> None:
    for name, settings in (("good", {"model": "r3d_18"}), ("bad", {"model": 3}), ("torn", "model: [")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "settings.yaml").write_text(
            settings if isinstance(settings, str) else yaml.safe_dump(settings)
        )
    runs = {run.name: (run.state, run.model) for run in list_runs(tmp_path, [])}
    assert runs == {"good": ("stopped", "r3d_18"), "bad": ("damaged", None), "torn": ("damaged", None)}
