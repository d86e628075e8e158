import io
import json
import os
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.videos import index_picture, read_indices

from muybridge.records import VideoError
from muybridge.video.media import MediaFiles, probe_media
from muybridge.video.picture_sequence import ASSUMED_RATE, Picture
from muybridge.video.pictures import is_animation, is_frame_folder, open_pictures

NUM_FRAMES = 12  # img_2 comes before img_10 only in natural order
FRAMES = np.stack([index_picture(number, 48, 64) for number in range(NUM_FRAMES)])


def write_folder(folder: Path, extension: str = "jpg") -> Path:
    folder.mkdir(parents=True)
    for number, frame in enumerate(FRAMES):
        Image.fromarray(frame).save(folder / f"img_{number}.{extension}")
    return folder


def write_zip(path: Path) -> Path:
    folder = write_folder(path.parent / "pictures", "png")
    with zipfile.ZipFile(path, "w") as archive:
        for picture in folder.iterdir():
            archive.write(picture, f"deep/{picture.name}")
    return path


def write_tar(path: Path) -> Path:
    folder = write_folder(path.parent / "pictures", "webp")
    with tarfile.open(path, "w") as archive:
        archive.add(folder, "clip")
    return path


def write_npz(path: Path) -> Path:
    np.savez_compressed(path, frames=FRAMES, fps=30.0)
    return path


def write_npy(path: Path) -> Path:
    np.save(path, FRAMES)
    return path


def write_animation(path: Path) -> Path:
    first, *others = map(Image.fromarray, FRAMES)
    first.save(path, save_all=True, append_images=others, duration=[40] * 11 + [60], lossless=True)
    return path


KINDS: dict[str, tuple[Callable[[Path], Path], float | None]] = {
    "folder": (write_folder, None),
    "a.zip": (write_zip, None),
    "a.tar": (write_tar, None),
    "a.npz": (write_npz, 30.0),
    "a.npy": (write_npy, None),
    "a.webp": (write_animation, 25.0),
}


@pytest.mark.parametrize("name", KINDS)
def test_frames_are_read_in_their_order_whatever_holds_them(tmp_path: Path, name: str) -> None:
    write, rate = KINDS[name]
    write(tmp_path / name)
    files = MediaFiles(str(tmp_path), scale_height=32, scale_width=32)
    times = files.read_frame_times(name)
    assert len(times) == NUM_FRAMES
    assert times.has_assumed_rate == (rate is None)
    assert read_indices(files.read(name, times.ticks).luma_thw) == list(range(NUM_FRAMES))
    assert read_indices(files.read(name, times.ticks[[7, 2, 7]]).luma_thw) == [7, 2, 7]
    parts = list(files.read_in_order(name, times.ticks[1:8], 4))
    assert [read_indices(part.luma_thw) for part in parts] == [[1, 2, 3, 4], [5, 6, 7]]
    expected = NUM_FRAMES / (rate or ASSUMED_RATE) if name != "a.webp" else 0.5
    assert times.duration_seconds == pytest.approx(expected)
    assert probe_media(tmp_path / name).height == 48


def test_a_rate_is_used_only_where_the_frames_have_none(tmp_path: Path) -> None:
    write_folder(tmp_path / "frames")
    write_npz(tmp_path / "a.npz")
    files = MediaFiles(str(tmp_path), scale_height=32, scale_width=32, source_fps=10)
    assert files.read_frame_times("frames").tick_seconds == Fraction(1, 10)
    assert files.read_frame_times("a.npz").tick_seconds == Fraction(1, 30)
    assert probe_media(tmp_path / "frames", 10).frames_per_second == pytest.approx(10)


def test_a_mixed_folder_is_named_and_not_read_in_part(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames")
    (folder / "sound.wav").write_bytes(b"x")
    assert not is_frame_folder(folder)
    with pytest.raises(VideoError, match=r"12 pictures and 1 other file, such as sound\.wav") as caught:
        open_pictures(folder)
    assert caught.value.status == "unreadable"


def test_a_folder_of_videos_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"video")
    with pytest.raises(
        VideoError, match=r"holds no pictures.*: give the files in it instead, such as a\.mp4"
    ) as caught:
        open_pictures(tmp_path)
    assert caught.value.status == "no_video"


def test_a_damaged_frame_is_named(tmp_path: Path) -> None:
    folder = write_folder(tmp_path / "frames")
    (folder / "img_3.jpg").write_bytes((folder / "img_3.jpg").read_bytes()[:200])
    files = MediaFiles(str(tmp_path), scale_height=32, scale_width=32)
    ticks = files.read_frame_times("frames").ticks
    assert read_indices(files.read("frames", ticks[:3]).luma_thw) == [0, 1, 2]
    with pytest.raises(VideoError, match=r"the frame img_3\.jpg cannot be read"):
        files.read("frames", ticks)


class Bomb:
    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return exec, ("raise SystemExit('a pickle was run')",)


@pytest.mark.parametrize(
    ("arrays", "reason"),
    [
        ({"frames": FRAMES.astype(np.float32)}, "float32 of shape"),
        ({"frames": FRAMES[0, 0]}, r"shape \(64, 3\)"),
        ({"a": FRAMES, "b": FRAMES}, "the arrays a, b, expected frames"),
        ({"frames": FRAMES, "fps": -1.0}, "its fps is -1"),
        ({"frames": np.array([Bomb()], object)}, "allow_pickle"),
    ],
)
def test_arrays_of_another_kind_are_refused(tmp_path: Path, arrays: dict[str, object], reason: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays)  # type: ignore[arg-type]  # numpy's stub
    with pytest.raises(VideoError, match=reason):
        open_pictures(tmp_path / "a.npz")


@pytest.mark.parametrize("name", ["a.npy", "a"])
def test_pictures_that_change_while_they_are_read_are_named(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if path.suffix:
        np.save(path, FRAMES)
    else:
        path.mkdir()
        for index in range(4):
            Image.fromarray(FRAMES[index]).save(path / f"{index}.png")
    media = MediaFiles(str(tmp_path), scale_height=24, scale_width=32)
    ticks = media.read_frame_times(name).ticks
    assert media.read(name, ticks[:2])
    sequence = next(iter(media._sequences.values()))

    def read_and_change(indices: Sequence[int]) -> Iterator[Picture]:
        yield from sequence.read_pictures(indices)
        os.utime(path, ns=(1, path.stat().st_mtime_ns + 1))

    media._sequences = dict.fromkeys(media._sequences, replace(sequence, read_pictures=read_and_change))
    with pytest.raises(VideoError, match=r"the (file|folder) changed while it was read"):
        media.read(name, ticks[:2])
    assert media.read(name, ticks[:2])


def test_what_takes_more_memory_than_it_may_is_refused_with_the_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "a.npz", frames=np.zeros((4, 40, 50, 3), np.uint8))
    picture, padded = io.BytesIO(), io.BytesIO()
    Image.new("RGB", (50, 40)).save(picture, "png")
    Image.new("RGB", (8, 8)).save(padded, "png")
    contents = {"0.png": picture.getvalue(), "1.png": padded.getvalue() + bytes(20_000)}
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        tarfile.open(tmp_path / "a.tar", "w") as tar,
    ):
        for name, content in contents.items():
            archive.writestr(name, content)
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    Image.new("RGB", (50, 40)).save(
        tmp_path / "a.webp", save_all=True, append_images=[Image.new("RGB", (50, 40), "red")]
    )
    assert len([*open_pictures(tmp_path / "a.zip").read_pictures([0, 1])]) == 2
    monkeypatch.setenv("MUYBRIDGE_MAX_VIDEO_BYTES", "20000")
    with pytest.raises(
        VideoError, match=r"its arrays take 24,128 bytes .* above the limit of 20,000; set MUYBRIDGE_MAX_VIDEO_BYTES"
    ):
        open_pictures(tmp_path / "a.npz")
    monkeypatch.setenv("MUYBRIDGE_MAX_PICTURE_PIXELS", "1999")
    limit = "more than the limit of 1,999 pixels; set MUYBRIDGE_MAX_PICTURE_PIXELS to raise it"
    for name in ("a.zip", "a.tar"):
        stored = open_pictures(tmp_path / name)
        for index, reason in ((0, "a picture has"), (1, "its 20,0.. bytes are those of")):
            with pytest.raises(VideoError, match=rf"the frame {index}\.png cannot be read \({reason} {limit}\)"):
                [*stored.read_pictures([index])]
    with pytest.raises(VideoError, match=rf"a picture has {limit}"):
        open_pictures(tmp_path / "a.webp")
    monkeypatch.delenv("MUYBRIDGE_MAX_PICTURE_PIXELS")
    assert len([*open_pictures(tmp_path / "a.webp").read_pictures([1])]) == 1
    assert Image.MAX_IMAGE_PIXELS == 89_478_485  # of others in this process


def test_an_archive_that_is_none(tmp_path: Path) -> None:
    for name in ("a.zip", "a.tar", "a.npz", "a.npy"):
        (tmp_path / name).write_bytes(b"not an archive" * 100)
        with pytest.raises(VideoError) as caught:
            open_pictures(tmp_path / name)
        assert caught.value.status == "unreadable"
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("list.json", json.dumps([]))
    with pytest.raises(VideoError, match="no pictures"):
        open_pictures(tmp_path / "b.zip")


def test_a_tar_archive_that_ends_between_two_files_is_truncated(tmp_path: Path) -> None:
    path = write_tar(tmp_path / "a.tar")
    with tarfile.open(path) as archive:
        last = archive.getmembers()[-1]
    path.write_bytes(path.read_bytes()[: last.offset])
    with pytest.raises(VideoError, match="the archive lacks its end mark after 11 files") as caught:
        open_pictures(path)
    assert caught.value.status == "truncated"


def test_a_name_that_a_zip_archive_has_twice_is_one_frame(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "a.zip")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr(archive.namelist()[-1], archive.read(archive.namelist()[-1]))
    assert len(open_pictures(path).times.ticks) == NUM_FRAMES


def test_exif_rotation_is_applied(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6  # shown a quarter turn clockwise
    buffer = io.BytesIO()
    Image.fromarray(FRAMES[5]).save(buffer, "jpeg", exif=exif)
    (folder / "a.jpg").write_bytes(buffer.getvalue())
    assert next(open_pictures(folder).read_pictures([0])).shape == (64, 48, 3)


SIGNATURE, HEAD = b"\x89PNG\r\n\x1a\n", b"\0\0\0\x0dIHDR" + bytes(13) + b"crc."
CONTROL, PIXELS, TEXT = b"\0\0\0\x08acTL" + bytes(8) + b"crc.", b"\0\0\0\2IDATxxcrc.", b"\0\0\0\1tEXtxcrc."


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("a.png", SIGNATURE + HEAD + CONTROL + PIXELS, True),
        ("a.PNG", SIGNATURE + HEAD + TEXT + CONTROL + PIXELS, True),
        ("a.png", SIGNATURE + HEAD + PIXELS + CONTROL, False),  # the first chunk of pixels decides
        ("a.png", SIGNATURE + HEAD + TEXT * 63 + CONTROL, False),  # not looked at any further
        ("a.png", SIGNATURE + HEAD + TEXT * 62 + CONTROL, True),
        ("a.png", b"\x88" + SIGNATURE[1:] + HEAD + CONTROL, False),
        ("a.png", SIGNATURE, False),
        ("a.png", b"", False),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x02", True),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\x3d", False),  # all flags but that of an animation
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8L\x0a\0\0\0\x02", False),
        ("a.webp", b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0", False),
        ("a.jpg", SIGNATURE + HEAD + CONTROL + PIXELS, False),
    ],
)
def test_a_picture_of_several_frames_says_so_in_its_head(
    tmp_path: Path, name: str, content: bytes, expected: bool
) -> None:
    (tmp_path / name).write_bytes(content)
    assert is_animation(tmp_path / name) == expected
    assert not is_animation(tmp_path / "absent.png")


def test_pictures_of_16_bits_are_read_as_those_of_8(tmp_path: Path) -> None:
    levels = np.tile(np.arange(64, dtype=np.uint16) * 4, (48, 1))
    for folder, values in (("8", levels.astype(np.uint8)), ("16", levels << 8), ("tif", levels << 8)):
        (tmp_path / folder).mkdir()
        Image.fromarray(values).save(tmp_path / folder / ("0.tif" if folder == "tif" else "0.png"))
    read = {folder: next(open_pictures(tmp_path / folder).read_pictures([0])) for folder in ("8", "16", "tif")}
    np.testing.assert_array_equal(read["8"][..., 0], levels)
    np.testing.assert_array_equal(read["16"], read["8"])
    np.testing.assert_array_equal(read["tif"], read["8"])
    (tmp_path / "float").mkdir()
    Image.fromarray(levels.astype(np.float32) / 255).save(tmp_path / "float" / "0.tif")
    with pytest.raises(VideoError, match="neither of 8 nor of 16 bits"):
        next(open_pictures(tmp_path / "float").read_pictures([0]))
