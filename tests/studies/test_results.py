"""docs/reproduction.md shows what the committed rows give."""

import re
import shlex
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from muybridge.models.family import PAPER_NAMES
from muybridge.studies.catalogue import STUDIES
from muybridge.studies.laptop import STREAM_MOTIONS, STUDY_DEPTHS, STUDY_MOTIONS, build_laptop_settings
from muybridge.studies.plan import RunGroup
from muybridge.studies.rows import read_rows
from muybridge.studies.run import build_config
from muybridge.studies.study import StudyConfig

ROOT = Path(__file__).parents[2]
FOLDERS = sorted((ROOT / "benchmarks" / "results").glob("studies*"))  # one for each kind of machine
SHOWN = re.compile(
    r"```sh\n(muybridge study \S+ -o benchmarks/results/studies\w*(?: --seeds 5)? --render)\n```\n\n```text\n(.*?)\n```",
    re.DOTALL,
)
PAGE = (ROOT / "docs" / "reproduction.md").read_text(encoding="utf-8")
BLOCKS = {shlex.split(command)[2]: (command, shown) for command, shown in SHOWN.findall(PAGE)}


def plan(name: str, seeds: int) -> StudyConfig:
    return build_config(STUDIES[name], scale="laptop", seeds=seeds, data=None, others={}, split="test")


def test_every_study_whose_rows_are_all_there_is_shown() -> None:
    """What is shown of those that have rows is compared in tests/bench/test_study_docs.py."""
    whole = {
        name
        for rows in map(read_rows, FOLDERS)
        for name, study in STUDIES.items()
        if set(study.row_keys(plan(name, 3))) <= rows.keys()
    }
    assert "table1" in whole
    assert whole <= BLOCKS.keys()


def test_the_page_shows_the_study_that_counts(cli: Callable[..., Any], tmp_path: Path) -> None:
    command, shown = BLOCKS["table1"]
    result = cli(*[word.replace("benchmarks/results", str(tmp_path)) for word in shlex.split(command)[1:]])
    assert result.code == 0, result.err
    assert result.out.rstrip() == shown


def test_the_first_screen_has_a_verdict_and_a_command_for_every_claim() -> None:
    table = PAGE[: PAGE.index("## Claim by claim")]
    lines = [line.strip("|").split(" | ") for line in table.splitlines() if line.startswith("| ")]
    assert all(len(line) == 6 for line in lines) and len(lines) >= 10
    commands = [re.findall(r"`([^`]+)`", line[5]) for line in lines[1:]]
    assert all(commands)
    words = [shlex.split(command) for line in commands for command in line]
    assert all(command[0] in ("muybridge", "python") for command in words)
    assert {command[2] for command in words if command[1] == "study"} <= STUDIES.keys()
    for line in lines[1:]:
        if line[2].strip(" *").startswith("not run"):
            assert line[3].strip() == "none"


def test_the_recipe_is_told_as_it_is() -> None:
    section = PAGE.partition("### What laptop scale is")[2].partition("\n\n")[2].partition("\n\n")[0].replace("\n", " ")
    settings = build_laptop_settings("r2plus1d_10", 8)
    training, clips, motions = settings.training, settings.clips, STUDY_MOTIONS
    num_test_videos = motions.test_videos_per_class * len(motions.classes)
    for words in (
        f"Depth {STUDY_DEPTHS[0]} ({STUDY_DEPTHS[1]} where",
        f"width {settings.network.width}, {clips.crop}x{clips.crop} of {clips.scale[0]}x{clips.scale[1]} pixels",
        f"{training.epochs * training.clips_per_epoch:,.0f} clips of AdamW in batches of {training.batch_size}",
        f"at {1000 * training.learning_rate:g}e-3, warmed up for a fifth of the run",
        f"clipped to norm {training.max_gradient_norm:g}; {settings.evaluation.clips} clips a video",
        f"{len(motions.classes)} classes of generated motions",
        f"{motions.train_videos_per_class} training and {motions.test_videos_per_class} test videos",
        f"({num_test_videos:,}), two distractors, opacity {motions.contrast:g}, noise {motions.noise:g}",
        f"chance is {100 / len(motions.classes):.1f}",
        f"theirs have four distractors and noise {STREAM_MOTIONS.noise:g}",
    ):
        assert words in section
    assert (training.optimizer, training.schedule) == ("adamw", "cosine")
    assert training.warmup_epochs / training.epochs == 1 / 5
    assert (motions.distractors, STREAM_MOTIONS.distractors) == (2, 4)
    assert STREAM_MOTIONS.contrast == motions.contrast


QUOTED = re.compile(
    r"(?P<gap>[+-]\d+\.\d)(?: \[(?P<low>[+-]\d+\.\d), (?P<high>[+-]\d+\.\d)\])?|(?P<behind>behind by [^|;]+\])"
)
FOUND = re.compile(
    r"\((?:(?P<gap>[+-]\d+\.\d) points(?:, 95 % (?P<low>\S+) to (?P<high>[^,)]+))?|(?P<behind>behind by .*?\])).*?\): "
    r"(?P<word>\w+)"
)


def test_the_first_screen_quotes_what_the_studies_found() -> None:
    """Differences with their intervals and verdicts, and the number of seeds, as the blocks below have them."""
    quoted = set()
    for line in PAGE[: PAGE.index("## Claim by claim")].splitlines():
        command = re.search(r"`muybridge study (\S+) -o studies(?: --seeds \d)?`", line)
        if command is None or "--scale" in line:
            continue
        name, (_, _, _, ours, verdict, sure, _, _) = command[1], line.split("|")
        shown = " ".join(BLOCKS[name][1].split())
        found = {match.group("gap", "low", "high", "behind"): match["word"] for match in FOUND.finditer(shown)}
        gaps = [match.group("gap", "low", "high", "behind") for match in QUOTED.finditer(ours)]
        assert set(gaps) <= found.keys(), (name, ours, found)
        words = re.findall(r"yes|no\b|undecided", verdict)
        assert not gaps or set(words) == {found[gap] for gap in gaps}, (name, ours, verdict)
        if "seeds" in sure and " of " not in sure:
            assert sure.split()[0] == ("5" if "--seeds 5" in BLOCKS[name][0] else "3"), line
            assert ("--seeds 5" in command[0]) == ("--seeds 5" in BLOCKS[name][0]), line
        for floor in re.findall(r"floor (\S+)", sure):
            assert re.search(rf"(deviation of|,) {floor} (points )?of", shown), line
        quoted |= {name} if gaps else set()
    assert quoted == STUDIES.keys() - {"table1"}


CLAIMS_OF_REAL_VIDEO = (
    "networks that see motion above 2-D ones",
    "r2plus1d above r3d: factorized convolutions help",
    "MCx on average above r3d: mixed convolutions help",
)


def test_the_summary_of_real_video_quotes_its_tables() -> None:
    section = PAGE[PAGE.index("### On real video") : PAGE.index("### Which rows")]
    lines = [line for line in section.splitlines() if re.search(r"\| (scratch|motions) \|", line)]
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines]
    assert len(rows) >= 6
    [first_screen] = [line for line in PAGE.splitlines() if line.startswith("| [the same on real video]")]
    for name, start, frames, accuracies, *gaps in rows:
        block = PAGE.partition(f"<!-- real_data {name.lower().replace(' ', '_').replace('-', '_')} -->")[2]
        block = block[: block.index("<!-- end of")]
        for claim, gap in zip(CLAIMS_OF_REAL_VIDEO, gaps, strict=True):
            assert f"| {claim} | {frames} | {start} | 3 | {gap.replace('+', '')} | undecided |" in block, gap
        # Of the table that has all networks; another kind of machine may have run some of them.
        found = [
            re.findall(rf"\| {frames} \| {start} \| (\d+) of \1 \| (\d+\.\d)", part)
            for part in block.split("Differences")
        ]
        [shown] = [[float(value) for _, value in values] for values in found if len(values) == 12]
        assert accuracies == f"{min(shown)} to {max(shown)}"
        assert start != "scratch" or gaps[0] in first_screen


def test_the_first_screen_quotes_the_tables_of_the_later_recipe() -> None:
    [line] = [line for line in PAGE.splitlines() if line.startswith("| [a later recipe is better]")]
    gaps = [match[0].replace("+", "") for match in QUOTED.finditer(line.split("|")[3])]
    tables = (ROOT / "docs" / "training.md").read_text(encoding="utf-8").partition("<!-- recipe_parts -->")[2]
    shown = [row.split(" | ")[4] for row in tables.splitlines() if row.startswith("| modern |")]
    assert len(gaps) == 6 and set(gaps) == set(shown)


def test_every_row_is_of_a_run_that_a_study_asks_for() -> None:
    """Settings that changed since would leave rows behind that no study finds."""
    environments = []
    for folder in FOLDERS:
        rows = read_rows(folder)
        plans = {name: replace(plan(name, 5), rerun_all=True) for name in STUDIES}
        used = {key for name, study in STUDIES.items() for key in study.find_runs(plans[name], rows)}
        assert rows.keys() == used
        for row in rows.values():
            assert row["commit"] and row["date"] and row["machine"]["processor"] and row["fingerprint"]
        environments += {repr(row["fingerprint"]["environment"]) for row in rows.values()}
    assert len(environments) == len(FOLDERS)


def test_the_number_of_runs_and_what_they_share_are_told() -> None:
    questions = re.findall(r"^\| (\w+) \| [^|]+ \| (\d+) \|([^|]*)\|[^|]*\|$", PAGE, re.MULTILINE)
    assert {name for name, *_ in questions} == STUDIES.keys()
    runs = {name: {run.name for run in study.runs(plan(name, 3))} for name, study in STUDIES.items()}
    seen: set[str] = set()
    for name, number, shared in questions:
        assert int(number) == len(runs[name])
        told = re.findall(r"(\d+|all) with (\w+)", shared)
        assert [len(runs[name] & runs[other]) for _, other in told] == [
            len(runs[name]) if count == "all" else int(count) for count, _ in told
        ]
        assert runs[name] & seen <= set().union(*(runs[other] for _, other in told))
        seen |= runs[name]


def test_the_page_tells_what_rounding_and_what_seeds_do_to_each_network() -> None:
    """Standard deviations over reruns of one seed and over five seeds, with 8 and with 16 frames."""
    config, rows = replace(plan("table2", 5), rerun_all=True), read_rows(FOLDERS[0])
    grid = STUDIES["table2"].grid(config)
    floors = {str(row[0]): row[2] for row in STUDIES["table2"].summarize(config, rows, FOLDERS[0]).tables[-1].rows}

    def measure_seeds(group: RunGroup) -> float:
        numbers = [rows[run.name, group.evaluation.key]["numbers"] for run in group.members]
        return float(np.std([number["video_top1"] for number in numbers], ddof=1))

    told = re.findall(r"^\| (\S+) \| ([\d.]+), ([\d.]+) \| ([\d.]+), ([\d.]+) \|$", PAGE, re.MULTILINE)
    assert len(told) == 12
    for name, *deviations in told:
        groups = [
            grid[next(family for family in PAPER_NAMES if PAPER_NAMES[family] == name), length] for length in (8, 16)
        ]
        rounding = [floors[f"{group.members[0].name} {group.evaluation.key}"] for group in groups]
        assert [float(text) for text in deviations] == [
            *rounding,
            *(round(measure_seeds(group), 1) for group in groups),
        ]
