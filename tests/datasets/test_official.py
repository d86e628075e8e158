"""The official lists, in the layouts and with the traps in which they come."""

from __future__ import annotations

from pathlib import Path

import pytest

from muybridge.prepared.source_listing import read_source


def write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text, encoding="utf-8")
    return str(root)


KINETICS = {
    "annotations/train.csv": "label,youtube_id,time_start,time_end,split,is_cc\n"
    "air drumming,aaaaaaaaaa1,5,15,train,0\nabseiling,_-aaaaaaaa2,10,20,train,0\nabseiling,aaaaaaaaaa5,0,10,train,0\n",
    "annotations/validate.csv": "label,youtube_id,time_start,time_end,split\nabseiling,aaaaaaaaaa3,1,11,validate\n",
    "annotations/test.csv": "youtube_id,time_start,time_end,split\naaaaaaaaaa4,100,110,test\n",
}


@pytest.mark.parametrize(
    "paths",
    [
        (
            "train/air drumming/aaaaaaaaaa1_000005_000015.mp4",
            "train/abseiling/_-aaaaaaaa2_000010_000020.mp4",
            "val/abseiling/aaaaaaaaaa3_000001_000011.mkv",
            "test/aaaaaaaaaa4_000100_000110.mp4",
        ),
        ("v/aaaaaaaaaa1_5_15.mp4", "v/_-aaaaaaaa2_10_20.mp4", "v/aaaaaaaaaa3_1_11.mkv", "v/aaaaaaaaaa4_100_110.mp4"),
    ],
    ids=["class folders", "flat"],
)
def test_kinetics_in_both_layouts(tmp_path: Path, paths: tuple[str, ...]) -> None:
    source = read_source(write(tmp_path, {**KINETICS, **dict.fromkeys(paths, "")}), "kinetics")
    assert source.classes == ("abseiling", "air drumming")
    rows = {row.path: (row.split, row.labels) for row in source.rows}
    assert rows[paths[0]] == ("train", ("air drumming",))
    assert rows[paths[1]] == ("train", ("abseiling",))
    assert rows[paths[2]] == ("validation", ("abseiling",))
    assert rows[paths[3]] == ("test", ())
    assert rows["aaaaaaaaaa5_000000_000010.mp4"] == ("train", ("abseiling",))
    assert len(rows) == 5
    assert source.notes == ()


def test_a_clip_in_two_splits_is_two_rows(tmp_path: Path) -> None:
    listing = "label,youtube_id,time_start,time_end,split\na,aaaaaaaaaa1,5,15,train\na,aaaaaaaaaa1,5,15,validate\n"
    source = read_source(write(tmp_path, {"all.csv": listing, "aaaaaaaaaa1_5_15.mp4": ""}), "kinetics")
    assert source.names == ("aaaaaaaaaa1_5_15.mp4#train", "aaaaaaaaaa1_5_15.mp4#validation")


UCF = {
    "lists/classInd.txt": "1 Archery\n2 HandstandPushups\n",
    "UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi": "",
    "UCF-101/HandstandPushups/v_HandStandPushups_g02_c01.avi": "",
    "UCF-101/Archery/v_Archery_g01_c01.avi": "",
    "UCF-101/Archery/v_Archery_g02_c01.avi": "",
    **{
        f"lists/trainlist0{fold}.txt": f"Archery/v_Archery_g0{a}_c01.avi 1\n"
        f"HandStandPushups/v_HandStandPushups_g0{a}_c01.avi 2\n"
        for fold, a in ((1, 1), (2, 2), (3, 1))
    },
    **{
        f"lists/testlist0{fold}.txt": f"Archery/v_Archery_g0{a}_c01.avi\nHandstandPushups/v_HandstandPushups_g0{a}_c01.avi\n"
        for fold, a in ((1, 2), (2, 1), (3, 2))
    },
}


def test_ucf101_with_its_clash_of_spelling(tmp_path: Path) -> None:
    source = read_source(write(tmp_path, UCF), "ucf101")
    assert len(source.rows) == 4
    assert len(source.classes) == 2
    assert all((tmp_path / row.path).is_file() for row in source.rows)
    folds = {row.path: row.folds for row in source.rows}
    assert folds["UCF-101/HandstandPushups/v_HandStandPushups_g01_c01.avi"] == ("train", "test", "train")
    assert folds["UCF-101/Archery/v_Archery_g02_c01.avi"] == ("test", "train", "test")
    assert {row.group for row in source.rows if row.labels == ("Archery",)} == {"v_Archery_g01", "v_Archery_g02"}


def test_ucf101_lacking_a_list(tmp_path: Path) -> None:
    files = {name: text for name, text in UCF.items() if "testlist03" not in name}
    with pytest.raises(ValueError, match=r"lacks the official list testlist03\.txt"):
        read_source(write(tmp_path, files), "ucf101")


def test_hmdb51_with_odd_names(tmp_path: Path) -> None:
    odd = "#20_Rhythm_(a)_[b];&_brush_hair_u_nm_np1_fr_goo_0.avi"
    plain = "April_09_brush_hair_u_nm_np1_ba_goo_1.avi"
    files = {
        f"brush_hair/{odd}": "",
        f"videos/brush_hair/{plain}": "",
        "wave/x_wave_1.avi": "",
        "wave/y_wave_1.avi": "",
    }
    for fold in (1, 2, 3):
        files[f"splits/brush_hair_test_split{fold}.txt"] = f"{odd} {1 if fold == 1 else 2} \n{plain} {fold - 1} \n"
        files[f"splits/wave_test_split{fold}.txt"] = "x_wave_1.avi 1\ny_wave_1.avi 2\nz_wave_1.avi 2\n"
    source = read_source(write(tmp_path, files), "hmdb51")
    rows = {row.path: row for row in source.rows}
    assert rows[f"brush_hair/{odd}"].folds == ("train", "test", "test")
    assert rows[f"videos/brush_hair/{plain}"].folds == ("unused", "train", "test")
    assert rows[f"videos/brush_hair/{plain}"].group == "April_09"
    assert rows["wave/z_wave_1.avi"].split == "test"
    assert source.classes == ("brush_hair", "wave")


def test_sports1m_with_several_labels(tmp_path: Path) -> None:
    files = {
        "labels.txt": "bodybuilding\nmotocross\nrafting\n",
        "original/train_partition.txt": "http://www.youtube.com/watch?v=abcdefghij1 0,2\n"
        + "".join(f"http://www.youtube.com/watch?v=abcdefghi{n}x 1\n" for n in range(9)),
        "original/test_partition.txt": "https://www.youtube.com/watch?v=-_cdefghij3 2\n",
        "videos/ab/abcdefghij1.mkv": "",
        "videos/-_cdefghij3.mp4": "",
    }
    source = read_source(write(tmp_path, files), "sports1m")
    rows = {row.path: row for row in source.rows}
    assert rows["videos/ab/abcdefghij1.mkv"].labels == ("bodybuilding", "rafting")
    assert rows["videos/-_cdefghij3.mp4"].split == "test"
    assert rows["abcdefghi0x.mp4"].labels == ("motocross",)
    assert len(source.notes) == 1
    (tmp_path / "original" / "test_partition.txt").write_text("https://www.youtube.com/watch?v=-_cdefghij3 7\n")
    with pytest.raises(ValueError, match="expected a YouTube URL and label indices below 3"):
        read_source(str(tmp_path), "sports1m")


@pytest.mark.parametrize(
    ("source_format", "sentence"),
    [("kinetics", "has no list of Kinetics"), ("hmdb51", "has no lists of HMDB51"), ("sports1m", r"labels\.txt")],
)
def test_folders_without_lists(tmp_path: Path, source_format: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        read_source(str(tmp_path), source_format)
    with pytest.raises(ValueError, match="is not a folder"):
        read_source(str(tmp_path / "nowhere"), source_format)


@pytest.mark.parametrize("start", ["", "x", "inf", "1e999", "1_0", "9" * 400])
def test_kinetics_seconds_are_numbers(tmp_path: Path, start: str) -> None:
    files = {"all.csv": f"label,youtube_id,time_start,time_end,split\na,aaaaaaaaaa1,{start},15,train\n"}
    with pytest.raises(ValueError, match=r"all\.csv has the video aaaaaaaaaa1 from .* to '15', expected seconds"):
        read_source(write(tmp_path, files), "kinetics")


def test_kinetics_clips_of_any_length(tmp_path: Path) -> None:
    """Clips at the end of a video are shorter than ten seconds, and two may begin at the same second."""
    rows = ("a,aaaaaaaaaa1,5,12", "b,aaaaaaaaaa1,5,15", "c,aaaaaaaaaa2,3,7")
    listing = "label,youtube_id,time_start,time_end,split\n" + "".join(f"{row},train\n" for row in rows)
    files = {"all.csv": listing, "aaaaaaaaaa1_000005_000012.mp4": "", "aaaaaaaaaa1_000005_000015.mp4": ""}
    labels = {row.path: row.labels for row in read_source(write(tmp_path, files), "kinetics").rows}
    assert labels == {
        "aaaaaaaaaa1_000005_000012.mp4": ("a",),
        "aaaaaaaaaa1_000005_000015.mp4": ("b",),
        "aaaaaaaaaa2_000003_000007.mp4": ("c",),
    }


def test_other_lists_in_other_encodings_are_passed_over_and_empty_lists_named(tmp_path: Path) -> None:
    files = {"train.csv": "label,youtube_id,time_start,time_end,split\n", "train/a_000001_000002.mp4": ""}
    root = write(tmp_path, files)
    (tmp_path / "notes.csv").write_bytes("préparé,par\n".encode("latin-1"))
    with pytest.raises(ValueError, match=r"no list of Kinetics|lists no videos"):
        read_source(root, "kinetics")
    row = "hug,a,1,2,train\nkick,b,1,2,train\n"
    (tmp_path / "train.csv").write_text(files["train.csv"] + row)
    assert len(read_source(root, "kinetics").rows) == 2
    (tmp_path / "train.csv").write_bytes((files["train.csv"] + row.replace("kick", "coup de tête")).encode("latin-1"))
    with pytest.raises(ValueError, match=r"train\.csv is not a text file in UTF-8"):
        read_source(root, "kinetics")
