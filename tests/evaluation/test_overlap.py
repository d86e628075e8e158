"""Training videos among the evaluated ones: found by file, by content and by segment, and said beside the number."""

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
import yaml
from rich.console import Console

from muybridge.datasets.manifest import Manifest
from muybridge.datasets.run_videos import RunVideos, is_run_data, write_run_videos
from muybridge.datasets.splits import ValidationSplit
from muybridge.evaluation.overlap import Overlap, find_overlap
from muybridge.evaluation.scores import read_remarks
from muybridge.files.atomic import write_json
from muybridge.files.hashing import hash_ends
from muybridge.files.run_folder import read_addresses
from muybridge.loading.open_data import open_data
from muybridge.synthetic.dataset import write_motion_dataset
from muybridge.training.fit import fit
from muybridge.training.job import prepare_job
from muybridge.weights.card import load_card, load_network, save
from runs import MOTIONS, tiny_run
from scored import certain, write_score_file

Cli = Callable[..., Any]
PUBLIC_SHA256 = "91a641e6".ljust(64, "0")  # begins as a published one of the catalogue


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run trained on a list of segments and whole files; no network is needed to compare."""
    videos = tmp_path / "videos"
    videos.mkdir()
    for number in range(8):
        (videos / f"{number}.mp4").write_bytes(bytes([number]) * 3_000_000)
    rows = [
        "path,label,split,start_seconds,end_seconds",
        "videos/0.mp4,a,train,0,5",
        "videos/0.mp4,b,train,5,9",
        *(f"videos/{number}.mp4,{'ab'[number % 2]},train,," for number in range(1, 5)),
        "videos/5.mp4,a,validation,,",
        "videos/6.mp4,b,test,,",
    ]
    (tmp_path / "list.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    folder = tmp_path / "run"
    folder.mkdir()
    settings = {"data": str(tmp_path / "list.csv"), "seed": 0, "columns": None, "validation": "auto"}
    (folder / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    write_run_videos(folder, RunVideos.from_manifest(open_data(str(tmp_path / "list.csv"))))
    return folder


def evaluate_rows(folder: Path, *rows: str) -> Manifest:
    path = folder / "other.csv"
    lines = ["path,label,split,start_seconds,end_seconds", *rows]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return open_data(str(path)).select_split("test")


def test_the_runs_own_test_split_has_no_training_videos(run: Path, tmp_path: Path) -> None:
    own = open_data(str(tmp_path / "list.csv"))
    assert find_overlap(run, own.select_split("test")) == Overlap()
    assert find_overlap(run, own.select_split("validation")) == Overlap(0, 1)
    assert find_overlap(run, own.select_split("train")).num_training == 6


def test_the_same_file_under_another_address_is_found(run: Path, tmp_path: Path) -> None:
    (tmp_path / "link.mp4").symlink_to(tmp_path / "videos" / "1.mp4")
    scored = evaluate_rows(tmp_path, "videos/1.mp4,b,test,,", "link.mp4,b,test,,", "videos/7.mp4,b,test,,")
    assert find_overlap(run, scored) == Overlap(2, 0)


def test_a_copy_is_found_by_size_and_both_ends(run: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "videos" / "2.mp4", tmp_path / "copy.mp4")
    shutil.copy(tmp_path / "videos" / "5.mp4", tmp_path / "held_out.mp4")
    for name, position in (("other_end.mp4", -1), ("other_start.mp4", 0)):
        content = bytearray((tmp_path / "videos" / "2.mp4").read_bytes())
        content[position] ^= 1
        (tmp_path / name).write_bytes(content)
    names = ("copy.mp4", "held_out.mp4", "other_end.mp4", "other_start.mp4")
    scored = evaluate_rows(tmp_path, *(f"{name},a,test,," for name in names))
    assert find_overlap(run, scored) == Overlap(1, 1)


def test_segments_of_one_file_overlap_where_they_share_time(run: Path, tmp_path: Path) -> None:
    scored = evaluate_rows(
        tmp_path,
        "videos/0.mp4,a,test,9,12",  # after both training segments
        "videos/0.mp4,a,test,4,6",
        "videos/0.mp4,a,test,8.5,",
    )
    assert find_overlap(run, scored) == Overlap(2, 0)


def test_a_copy_counts_beside_segments_of_the_file_itself(run: Path, tmp_path: Path) -> None:
    """0.mp4 is trained on up to 9 s; a copy of it, under another name, between 20 and 30 s."""
    shutil.copy(tmp_path / "videos" / "0.mp4", tmp_path / "videos" / "copy.mp4")
    with (tmp_path / "list.csv").open("a", encoding="utf-8") as file:
        file.write("videos/copy.mp4,a,train,20,30\n")
    write_run_videos(run, RunVideos.from_manifest(open_data(str(tmp_path / "list.csv"))))
    scored = evaluate_rows(tmp_path, "videos/0.mp4,a,test,22,24", "videos/0.mp4,b,test,40,44")
    assert find_overlap(run, scored) == Overlap(1, 0)


def test_groups_are_names_of_one_data_set(run: Path, tmp_path: Path) -> None:
    (tmp_path / "other.csv").write_text("path,label,split,group\nvideos/7.mp4,a,test,1.mp4\nvideos/6.mp4,b,test,1\n")
    assert find_overlap(run, open_data(str(tmp_path / "other.csv"))) == Overlap()


def store(videos: Manifest, *, with_sources: bool) -> Manifest:
    """The videos as prepared data has them: nothing else of the shards is needed to compare."""
    table, num_rows = videos.table, len(videos)
    paths = [Path(videos.root, videos.get_path(row)) for row in range(num_rows)]
    bounds = [videos.get_bounds(row) for row in range(num_rows)]
    stored = {
        "shard": pa.array([0] * num_rows, pa.int32()),
        "source_num_bytes": pa.array([path.stat().st_size if with_sources else None for path in paths], pa.int64()),
        "source_sha256": pa.array([hash_ends(path) if with_sources else None for path in paths], pa.string()),
        "source_start_seconds": pa.array([start for start, _ in bounds], pa.float64()),
        "source_end_seconds": pa.array([end for _, end in bounds], pa.float64()),
    }
    for name, column in stored.items():
        table = table.append_column(name, column)
    checksums = pa.array([f"{path.name} {bound}" for path, bound in zip(paths, bounds, strict=True)])
    return videos.replace_table(table.set_column(table.column_names.index("sha256"), "sha256", checksums))


def test_prepared_videos_are_compared_with_files_by_what_they_were_made_of(run: Path, tmp_path: Path) -> None:
    shutil.copy(tmp_path / "videos" / "2.mp4", tmp_path / "copy.mp4")
    rows = ("copy.mp4,a,test,,", "videos/5.mp4,a,test,,", "videos/7.mp4,b,test,,", "videos/0.mp4,a,test,9,12")
    scored = evaluate_rows(tmp_path, *rows, "videos/0.mp4,a,test,4,6")
    assert find_overlap(run, store(scored, with_sources=True)) == Overlap(2, 1)
    unknown = find_overlap(run, store(scored, with_sources=False))
    assert (unknown.num_training, unknown.num_validation) == (0, 0)
    assert unknown.problem.startswith("5 prepared videos without a hash of the file")


def test_a_run_on_prepared_videos_is_compared_with_files(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    scored = evaluate_rows(tmp_path, "videos/1.mp4,b,test,,", "videos/0.mp4,a,test,4,6", "videos/7.mp4,b,test,,")
    for with_sources, expected in ((True, Overlap(2, 0)), (False, None)):
        own = store(open_data(str(tmp_path / "list.csv")), with_sources=with_sources)
        monkeypatch.setattr("muybridge.evaluation.overlap.open_data", lambda *_, own=own, **__: own)
        found = find_overlap(run, scored)
        assert found == expected if expected else found.problem.startswith("7 prepared videos")


def test_the_same_file_prepared_in_two_ways_is_found(run: Path, tmp_path: Path, monkeypatch: Any) -> None:
    own = store(open_data(str(tmp_path / "list.csv")), with_sources=True)
    monkeypatch.setattr("muybridge.evaluation.overlap.open_data", lambda *_, **__: own)
    scored = store(evaluate_rows(tmp_path, "videos/1.mp4,b,test,,", "videos/7.mp4,b,test,,"), with_sources=True)
    for table in (
        scored.table,
        scored.table.set_column(scored.table.column_names.index("sha256"), "sha256", pa.array(["x", "y"])),
    ):
        assert find_overlap(run, scored.replace_table(table)) == Overlap(1, 0)


def test_data_that_is_gone_is_said_to_be(run: Path, tmp_path: Path) -> None:
    scored = evaluate_rows(tmp_path, "videos/7.mp4,a,test,,")
    (tmp_path / "list.csv").unlink()
    found = find_overlap(run, scored)
    assert "the data of the run cannot be opened" in found.problem
    assert found.format_sentences("best")[0].startswith("not compared with every training video: ")


def test_a_run_that_does_not_record_its_videos_is_read_from_its_data(run: Path, tmp_path: Path) -> None:
    (run / "videos.parquet").unlink()
    scored = evaluate_rows(tmp_path, "videos/1.mp4,b,test,,", "videos/6.mp4,b,test,,")
    assert find_overlap(run, scored) == Overlap(1, 0)


def test_the_split_is_drawn_by_the_rule_of_the_run(tmp_path: Path) -> None:
    """Trained on everything: what another rule would hold out is a training video too."""
    for number in range(20):
        path = tmp_path / "data" / "train" / "ab"[number % 2] / f"{number}.mp4"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(os.urandom(100))
    data = str(tmp_path / "data")
    held_out = open_data(data).select_split("validation")
    assert len(held_out) == 2
    for rule, expected in (("auto", Overlap(0, 2)), ("none", Overlap(2, 0))):
        folder = tmp_path / rule
        folder.mkdir()
        (folder / "settings.yaml").write_text(yaml.safe_dump({"data": data, "validation": rule}), encoding="utf-8")
        write_run_videos(folder, RunVideos.from_manifest(open_data(data, validation=ValidationSplit(0, rule))))
        assert find_overlap(folder, held_out) == expected


def test_videos_that_are_gone_are_counted(run: Path, tmp_path: Path) -> None:
    scored = evaluate_rows(tmp_path, "videos/7.mp4,a,test,,")
    (tmp_path / "videos" / "1.mp4").unlink()  # the file
    assert find_overlap(run, scored).problem == "1 of 7 videos of the run can no longer be found"
    listed = (tmp_path / "list.csv").read_text(encoding="utf-8").splitlines()
    (tmp_path / "list.csv").write_text("\n".join(row for row in listed if "/2.mp4" not in row) + "\n", encoding="utf-8")
    found = find_overlap(run, scored)  # and the row of another one
    assert found.problem == "2 of 7 videos of the run can no longer be found"
    (run / "failures.jsonl").write_text('{"step": 1, "video": "videos/1.mp4", "status": "missing"}\n', encoding="utf-8")
    assert find_overlap(run, scored).problem == "1 of 7 videos of the run can no longer be found"  # one was never read
    sentence = f"not compared with every training video: {found.problem}"
    assert found.format_sentences("last") == [sentence]


@pytest.fixture
def moved_away(run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A run trained on the relative address list.csv; the current folder has another list.csv, of the same names."""
    (run / "settings.yaml").write_text("data: list.csv\nseed: 0\n", encoding="utf-8")
    write_json(run / "environment.json", {"addresses": {"data": str(tmp_path / "list.csv")}})
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "videos").mkdir(parents=True)
    for number in range(8):
        (elsewhere / "videos" / f"{number}.mp4").write_bytes(bytes([100 + number]) * 1000)
    shutil.copy(tmp_path / "list.csv", elsewhere)
    monkeypatch.chdir(elsewhere)
    return run


def test_data_is_where_it_was_in_training_and_not_in_the_current_folder(moved_away: Path, tmp_path: Path) -> None:
    own, foreign = (open_data(str(path)).select_split("train") for path in (tmp_path / "list.csv", "list.csv"))
    assert find_overlap(moved_away, own) == Overlap(6, 0)
    assert find_overlap(moved_away, foreign) == Overlap()
    assert is_run_data(moved_away, "list.csv", str(tmp_path / "list.csv"))
    assert not is_run_data(moved_away, "list.csv", "list.csv")


def test_data_that_has_moved_is_known_by_the_sizes_of_its_files(moved_away: Path, tmp_path: Path) -> None:
    (tmp_path / "list.csv").rename(tmp_path / "gone.csv")
    foreign = open_data("list.csv").select_split("train")
    found = find_overlap(moved_away, foreign)
    assert found == Overlap(problem="the data of the run has moved, and list.csv has other files")
    assert not is_run_data(moved_away, "list.csv", "list.csv")
    for number in range(8):
        shutil.copy(tmp_path / "videos" / f"{number}.mp4", Path("videos", f"{number}.mp4"))
    assert find_overlap(moved_away, foreign) == Overlap(6, 0)
    assert is_run_data(moved_away, "list.csv", "list.csv")
    shutil.rmtree("videos")
    assert not is_run_data(moved_away, "list.csv", "list.csv")


def test_files_that_were_replaced_since_training_are_counted(run: Path, tmp_path: Path) -> None:
    (tmp_path / "videos" / "1.mp4").write_bytes(b"another video")
    found = find_overlap(run, evaluate_rows(tmp_path, "videos/7.mp4,a,test,,"))
    assert found.problem == f"1 file under {tmp_path} changed in size since training"


def test_weights_to_start_from_are_where_they_were_in_training(
    moved_away: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored = open_data(str(tmp_path / "list.csv")).select_split("train")
    second = tmp_path / "second"
    second.mkdir()
    settings = {"data": str(tmp_path / "elsewhere" / "list.csv"), "init": "run"}
    (second / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    write_json(second / "environment.json", {"addresses": {"init": str(moved_away)}})
    assert find_overlap(second, scored) == Overlap(6, 0)
    write_json(second / "environment.json", {})  # of an older version
    assert find_overlap(second, scored) == Overlap(problem="run, from which the run starts, cannot be found")


def test_settings_that_do_not_name_their_data_are_a_problem(run: Path, tmp_path: Path) -> None:
    (run / "settings.yaml").write_text("seed: 0\n", encoding="utf-8")
    found = find_overlap(run, evaluate_rows(tmp_path, "videos/1.mp4,b,test,,"))
    assert found.problem == f"{run / 'settings.yaml'} does not say what the run was trained on"


def test_a_copied_folder_of_frames_is_found(tmp_path: Path) -> None:
    for name, start in (("a", 0), ("b", 10), ("c", 20), ("other", 30)):
        (tmp_path / name).mkdir()
        for number in range(3):
            (tmp_path / name / f"{number}.jpg").write_bytes(bytes([start + number]))
    (tmp_path / "list.csv").write_text("path,label,split\na,x,train\nb,x,validation\nc,y,train\n", encoding="utf-8")
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "settings.yaml").write_text(yaml.safe_dump({"data": str(tmp_path / "list.csv")}), encoding="utf-8")
    for name in ("a", "b"):
        shutil.copytree(tmp_path / name, tmp_path / f"copy_{name}")
    other = tmp_path / "other_root"
    other.mkdir()
    for name in ("copy_a", "copy_b", "other"):
        (tmp_path / name).rename(other / name)
    shutil.copytree(other / "copy_a", other / "ends")
    (other / "ends" / "1.jpg").write_bytes(b"?")  # black at both ends, say, and another video between
    names = ("copy_a", "copy_b", "other", "ends")
    scored = evaluate_rows(other, *(f"{name},x,test,," for name in names))
    assert find_overlap(folder, scored) == Overlap(1, 1)
    (tmp_path / "a" / "notes.txt").write_text("no picture")
    assert find_overlap(folder, scored) == Overlap(1, 1)


def test_training_videos_of_the_weights_that_a_run_starts_from_count(run: Path, tmp_path: Path) -> None:
    (tmp_path / "new.mp4").write_bytes(b"new")
    (tmp_path / "second.csv").write_text("path,label,split\nvideos/7.mp4,a,train\nnew.mp4,b,train\n")
    second = tmp_path / "second"
    second.mkdir()
    (run / "best.safetensors").touch()
    settings = {"data": str(tmp_path / "second.csv"), "init": str(run / "best.safetensors")}
    (second / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    rows = ["videos/1.mp4,b,test,,", "videos/5.mp4,b,test,,", "videos/6.mp4,b,test,,", "videos/7.mp4,b,test,,"]
    scored = evaluate_rows(tmp_path, *rows)
    assert find_overlap(second, scored) == Overlap(2, 0)
    (tmp_path / "list.csv").unlink()
    found = find_overlap(second, scored)
    assert found.num_training == 1 and found.problem.endswith(f", of {run}, from which the run starts")
    (run / "settings.yaml").write_text("training: {batch_size: -3}\n", encoding="utf-8")
    found = find_overlap(second, scored)
    assert found.num_training == 1 and "batch_size" in found.problem
    shutil.rmtree(run)
    found = find_overlap(second, scored)
    assert found == Overlap(1, 0, f"{run / 'best.safetensors'}, from which the run starts, cannot be found")
    settings["init"] = str(second)  # a run that was continued from itself
    (second / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    assert find_overlap(second, scored) == Overlap(1, 0)


def test_weights_to_start_from_outside_a_run_folder_are_said_unless_they_are_public(
    run: Path, finished_run: Path, tmp_path: Path
) -> None:
    scored = evaluate_rows(tmp_path, "videos/6.mp4,b,test,,")
    start = tmp_path / "exported" / "start.safetensors"
    start.parent.mkdir()
    settings = {"data": str(tmp_path / "list.csv"), "seed": 0, "init": str(start)}
    (run / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    shutil.copy(finished_run / "best.safetensors", start)
    problem = f"{start}, from which the run starts, is not in its run folder"
    assert find_overlap(run, scored) == Overlap(problem=problem)
    network, card = load_network(start)
    values: dict[str, Any] = {"classes": card.classes, "preprocessing": card.preprocessing, "head": card.head}
    save(network, start, source_sha256="0" * 64, **values)
    problem = f"{start}, from which the run starts, was imported: its training videos are not known"
    assert find_overlap(run, scored) == Overlap(problem=problem)
    save(network, start, source_sha256=PUBLIC_SHA256, **values)
    assert find_overlap(run, scored) == Overlap()
    start.write_bytes(b"no weights")
    assert find_overlap(run, scored).problem.startswith(f"{start}, from which the run starts, cannot be read")
    settings["init"] = "hf://someone/weights"
    (run / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    problem = "hf://someone/weights, from which the run starts, is on the Hub: its training videos are not known"
    assert find_overlap(run, scored) == Overlap(problem=problem)


@pytest.fixture
def other_address(motions: Path, tmp_path: Path) -> Path:
    """A list of two training videos of the motions and two that are not."""
    names = [motions / "train" / "left" / "00000.mp4", motions / "train" / "right" / "00001.mp4"]
    names += [motions / "test" / label / "00000.mp4" for label in ("left", "right")]
    path = tmp_path / "other.csv"
    path.write_text("path,label,split\n" + "".join(f"{name},{name.parent.name},test\n" for name in names))
    return path


def test_evaluate_says_how_many_training_videos_are_included(
    finished_run: Path, other_address: Path, tmp_path: Path, cli: Cli
) -> None:
    words = ("evaluate", finished_run, "--data", other_address, "-o", tmp_path / "s.parquet", "--loading.workers=0")
    told = cli(*words)
    assert told.code == 0 and "training videos included: 2" in told.out.splitlines()
    assert read_remarks(tmp_path / "s.parquet") == ("training videos included: 2",)
    assert cli("report", tmp_path / "s.parquet", "-o", tmp_path / "page.html").code == 0
    assert "training videos included: 2." in (tmp_path / "page.html").read_text(encoding="utf-8")
    found = json.loads(cli(*words, "--json").out)
    assert found["overlap"] == {"num_training": 2, "num_validation": 0, "problem": ""}
    refused = cli(*words, "--refuse-overlap")
    assert (refused.code, refused.out) == (1, "")
    assert "nothing is scored: training videos included: 2; score other videos" in refused.err


def test_refuse_overlap_lets_other_videos_through(finished_run: Path, motions: Path, tmp_path: Path, cli: Cli) -> None:
    words = ("evaluate", finished_run, "--data", motions, "-o", tmp_path / "s.parquet", "--loading.workers=0")
    told = cli(*words, "--refuse-overlap")
    assert told.code == 0 and "included" not in told.out
    assert read_remarks(tmp_path / "s.parquet") == ()
    loose = shutil.copy(finished_run / "best.safetensors", tmp_path / "loose.safetensors")
    told = cli("evaluate", loose, "--data", motions, "--loading.workers=0", "--refuse-overlap")
    assert told.code == 1 and "the videos it was trained on are not known" in told.err
    told = cli("evaluate", loose, "--data", motions, "--loading.workers=0", "-o", tmp_path / "loose.parquet", "--json")
    found = json.loads(told.out)
    assert found["overlap"] is None and "the weights are not in their run folder" in found["remarks"][0]
    assert read_remarks(tmp_path / "loose.parquet") == tuple(found["remarks"])


def test_the_validation_split_of_best_weights_is_never_a_result(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Cli
) -> None:
    words = ("evaluate", finished_run, "--data", motions, "--split", "validation", "--loading.workers=0")
    best = cli(*words, "-o", tmp_path / "best.parquet")
    assert "not a test result: 4 videos of the validation split by which these weights were chosen" in best.out
    assert cli("report", tmp_path / "best.parquet", "-o", tmp_path / "page.html").code == 0
    assert "not a test result" in (tmp_path / "page.html").read_text(encoding="utf-8")
    last = cli(*words, "-o", tmp_path / "last.parquet", "--checkpoint", "last")
    assert last.code == 0 and "not a test result" not in last.out
    assert "validation videos included: 4, by which these weights were not chosen" in last.out
    assert cli("report", tmp_path / "last.parquet", "-o", tmp_path / "page.html").code == 0
    assert "not a test result" not in (tmp_path / "page.html").read_text(encoding="utf-8")
    found = json.loads(cli(*words, "-o", tmp_path / "best.parquet", "--json").out)
    assert found["checkpoint"] == "best" and found["overlap"]["num_validation"] == 4
    members = (tmp_path / "best.parquet", tmp_path / "last.parquet")
    remark = f"{members[0]}: not a test result: 4 videos of the validation split"
    assert remark in cli("fuse", *members).out
    assert json.loads(cli("fuse", *members, "--json").out)["remarks"][0].startswith(remark)


def test_best_weights_under_another_name_are_still_chosen(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Cli
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    shutil.copy(run / "best.safetensors", run / "mine.safetensors")
    words = ("--data", motions, "--split", "validation", "--loading.workers=0", "-o", tmp_path / "s.parquet")
    told = cli("evaluate", run / "mine.safetensors", *words)
    assert "not a test result: 4 videos of the validation split by which these weights were chosen" in told.out
    for name in ("best", "last"):
        (run / f"{name}.safetensors").unlink()
    told = cli("evaluate", run / "mine.safetensors", *words, "--json")
    (remark,) = json.loads(told.out)["remarks"]
    assert remark.startswith("not a test result: 4 videos of the validation split by which these weights may have been")


def test_a_validation_split_that_cannot_be_compared_is_no_result_either(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Cli
) -> None:
    run, moved = shutil.copytree(finished_run, tmp_path / "run"), tmp_path / "moved"
    moved.symlink_to(motions)
    settings = yaml.safe_load((run / "settings.yaml").read_text(encoding="utf-8"))
    (run / "settings.yaml").write_text(yaml.safe_dump(settings | {"data": str(tmp_path / "gone")}), encoding="utf-8")
    words = ("--data", moved, "--split", "validation", "--loading.workers=0", "-o", tmp_path / "s.parquet", "--json")
    remarks = json.loads(cli("evaluate", run, *words).out)["remarks"]
    assert remarks[0] == "not a test result: a validation split, by which these weights may have been chosen"
    assert remarks[1].startswith("not compared with every training video: the data of the run cannot be opened")
    (remark,) = json.loads(cli("evaluate", run, *words, "--checkpoint", "last").out)["remarks"]
    assert remark.startswith("not compared")
    loose = shutil.copy(run / "best.safetensors", tmp_path / "loose.safetensors")
    assert json.loads(cli("evaluate", loose, *words).out)["remarks"][0] == remarks[0]
    refused = cli("evaluate", finished_run, "--data", motions, "--split", "train", "--refuse-overlap")
    assert refused.code == 1 and "training videos included" in refused.err


def test_weights_that_were_exported_and_imported_are_not_taken_for_public_ones(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Cli
) -> None:
    plain, imported = tmp_path / "plain.pth", tmp_path / "imported.safetensors"
    assert cli("weights", "export", finished_run, "--to", "state-dict", "-o", plain).code == 0
    assert cli("weights", "import", plain, "-o", imported, "--clip-length", 4).code == 0
    network, card = load_network(imported)
    classes = load_card(finished_run / "best.safetensors").classes
    words = ("--data", motions, "--split", "validation", "--loading.workers=0", "-o", tmp_path / "s.parquet", "--json")
    for sha256, expected in ((card.source_sha256, 2), (PUBLIC_SHA256, 0)):
        save(network, imported, classes=classes, preprocessing=card.preprocessing, source_sha256=sha256)
        remarks = json.loads(cli("evaluate", imported, *words).out)["remarks"]
        assert len(remarks) == expected
    save(network, imported, classes=classes, preprocessing=card.preprocessing, source_sha256=card.source_sha256)
    maybe, unknown = json.loads(cli("evaluate", imported, *words).out)["remarks"]
    assert maybe == "not a test result: a validation split, by which these weights may have been chosen"
    assert unknown.endswith("what the imported weights were trained on is not known")


def test_scores_of_training_and_reports_say_what_flatters(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Cli
) -> None:
    validation = finished_run / "scores" / "validation.parquet"
    remark = "not a test result: the validation videos, by which the best weights are chosen"
    assert read_remarks(validation) == (remark,)
    again = shutil.copy(validation, tmp_path / "again.parquet")
    assert f"{validation}: {remark}" in cli("fuse", validation, again).out
    page = tmp_path / "page.html"
    told = cli("report", validation, "-o", page, "--json", "--figures", tmp_path / "figures")
    assert json.loads(told.out)["remarks"] == {"validation": [remark]}
    lead = page.read_text(encoding="utf-8").partition("Measured on")[0]
    assert remark in lead  # before anything else is said
    assert remark in (tmp_path / "figures" / "accuracy-table.md").read_text(encoding="utf-8")
    last = shutil.copytree(finished_run, tmp_path / "last")
    for split in ("test", "validation"):
        words = ("--data", motions, "--split", split, "--checkpoint", "last", "--loading.workers=0")
        cli("evaluate", last, *words, "-o", last / "scores" / f"{split}.parquet")
    cli("report", last, "-o", page)
    text = page.read_text(encoding="utf-8")
    assert "by which these weights were not chosen" in text and "by which the weights were chosen" not in text


def test_validation_scores_of_older_versions_are_no_test_result(tmp_path: Path, cli: Cli) -> None:
    remark = "not a test result, since the best weights are chosen by the validation videos"
    for split, expected in (("validation", (remark,)), ("test", ())):
        videos = [("a.mp4", (0,), [certain(0, 2)]), ("b.mp4", (1,), [certain(0, 2)])]
        files = [
            write_score_file(tmp_path / f"{split}-{name}.parquet", videos, ("x", "y"), split=split) for name in "ab"
        ]
        assert read_remarks(files[0]) == expected
        fused = json.loads(cli("fuse", *files, "--json").out)
        assert fused["remarks"] == [f"{file}: {each}" for file in files for each in expected]


def test_scores_of_other_weights_than_usual_have_a_name_of_their_own(
    finished_run: Path, motions: Path, tmp_path: Path, cli: Cli
) -> None:
    run = shutil.copytree(finished_run, tmp_path / "run")
    words = ("evaluate", run, "--data", motions, "--loading.workers=0", "--json")
    usual, last, best = (
        json.loads(cli(*words, *choice).out)["scores"]
        for choice in ((), ("--checkpoint", "last"), ("--checkpoint", "best"))
    )
    assert Path(usual).name == Path(best).name == "test.parquet"
    assert Path(last).name.startswith("test-data-")


def test_a_relative_address_is_the_same_data_from_everywhere(
    motions: Path, tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trained in one folder, scored and resumed from another one, which has data of the same names."""
    for place in ("first", "second"):
        (tmp_path / place).mkdir()
    (tmp_path / "first" / "data").symlink_to(motions)
    write_motion_dataset(tmp_path / "second" / "data", replace(MOTIONS, num_frames=12))
    monkeypatch.chdir(tmp_path / "first")
    fit(prepare_job(tiny_run(Path("data"), Path("run"))), Console(quiet=True))
    monkeypatch.chdir(tmp_path / "second")
    run, workers = tmp_path / "first" / "run", "--loading.workers=0"
    refused = cli("evaluate", run, "--data", "../first/data", "--split", "train", "--refuse-overlap", workers)
    assert refused.code == 1 and "training videos included: 16" in refused.err
    own = json.loads(cli("evaluate", run, "--data", "../first/data", workers, "--json").out)
    assert Path(own["scores"]).name == "test.parquet" and own["remarks"] == []
    foreign = json.loads(cli("evaluate", run, "--data", "data", "--split", "train", workers, "--json").out)
    assert Path(foreign["scores"]).name.startswith("train-data-") and foreign["overlap"]["num_training"] == 0
    assert cli("train", "-o", run, "--resume", workers).code == 0
    assert read_addresses(run)["data"] == str(tmp_path / "first" / "data")


def test_a_run_of_a_fold_of_its_own_is_compared(run: Path, tmp_path: Path) -> None:
    """A run of `muybridge folds --by video -k 3` is compared by its own fold; its data has no official folds."""
    settings = yaml.safe_load((run / "settings.yaml").read_text(encoding="utf-8"))
    settings |= {"fold": 1, "num_folds": 3, "fold_by": "video"}
    (run / "settings.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    own = open_data(str(tmp_path / "list.csv"), fold=1, num_folds=3, fold_by="video")
    write_run_videos(run, RunVideos.from_manifest(own))
    assert find_overlap(run, own.select_split("test")).problem == ""
    assert find_overlap(run, own.select_split("train")).num_training == len(own.select_split("train")) > 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"addresses": []}', '{"addresses": 3}', '{"addresses": {"data": 3}}'])
def test_a_damaged_environment_names_no_place(tmp_path: Path, text: str) -> None:
    (tmp_path / "environment.json").write_text(text)
    assert read_addresses(tmp_path) == {}
