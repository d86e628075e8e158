"""A wheel of the package works outside the checkout: recipes, templates and other package data are in it."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from scripts import ROOT, make_environment


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the package installed from its wheel, without dependencies."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a copy, since building writes beside the sources
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        source.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, source)
    ignored = shutil.ignore_patterns("*.egg-info", "__pycache__")
    shutil.copytree(ROOT / "src", source / "src", ignore=ignored)
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source], check=True)
    (wheel,) = folder.glob("*.whl")
    target = folder / "installed"
    subprocess.run([*pip, "install", "--no-deps", "--target", target, wheel], check=True)
    return target


def run(installed: Path, cwd: Path, *argv: str) -> str:
    environment = make_environment(installed)
    return subprocess.run(
        [sys.executable, *argv], cwd=cwd, env=environment, check=True, capture_output=True, text=True
    ).stdout


@pytest.mark.long
def test_an_installed_wheel_works_outside_the_checkout(installed: Path, motions: Path, tmp_path: Path) -> None:
    where = run(installed, tmp_path, "-c", "import muybridge; print(muybridge.__file__)")
    assert Path(where.strip()).is_relative_to(installed)
    assert "r2plus1d_18" in run(installed, tmp_path, "-m", "muybridge", "models")
    study = ("-m", "muybridge", "study", "table2", "-o", "studies", "--dry-run", "--json")
    assert (
        json.loads(run(installed, tmp_path, *study))["runs"] == 72 + 16
    )  # 24 networks of three seeds; reruns that differ by rounding
    paper = (*study, "--scale", "paper", "--data", str(motions), "--seeds", "1")  # reads every recipe of Table 2
    assert json.loads(run(installed, tmp_path, *paper))["runs"] == 24
    recipes = ROOT / "src" / "muybridge" / "recipes"
    packed = installed / "muybridge" / "recipes"
    assert {path.relative_to(packed) for path in packed.rglob("*.yaml")} == {
        path.relative_to(recipes) for path in recipes.rglob("*.yaml")
    }
