"""Arrays of NumPy as videos: nothing that a header claims is believed, and no change of the file ends the process."""

import io
import os
import zipfile
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
import pytest

from muybridge.records import VideoError
from muybridge.video.array_files import open_array_file

FRAMES = np.random.default_rng(0).integers(0, 256, (5, 48, 64, 3), np.uint8)


def test_an_array_that_is_cut_short_while_it_is_read_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((300, 64, 64, 3), np.uint8))
    stored = open_array_file(tmp_path / "a.npy")
    os.truncate(tmp_path / "a.npy", 4096)  # mapped memory would end the process with SIGBUS
    with pytest.raises(VideoError, match="the file changed while it was read"):
        [*stored.read_pictures([7])]
    (tmp_path / "a.npy").unlink()
    with pytest.raises(VideoError, match="the file changed while it was read"):
        [*stored.read_pictures([7])]


def test_the_order_of_an_array_does_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.asfortranarray(FRAMES))
    stored = open_array_file(tmp_path / "a.npy")
    for index, picture in enumerate(stored.read_pictures(range(len(FRAMES)))):
        np.testing.assert_array_equal(picture, FRAMES[index])
    monkeypatch.setenv("MUYBRIDGE_MAX_VIDEO_BYTES", "1000")
    with pytest.raises(ValueError, match=r"its array takes .*; set MUYBRIDGE_MAX_VIDEO_BYTES to raise it"):
        open_array_file(tmp_path / "a.npy")


def test_an_array_that_claims_more_than_it_has_is_refused(tmp_path: Path) -> None:
    header = io.BytesIO()
    shape = (10**12, 32, 32, 3)
    np.lib.format.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("frames.npy", header.getvalue() + bytes(3072))
    with pytest.raises(
        ValueError, match=r"the shape \(1000000000000, 32, 32, 3\) of frames\.npy is not that of 3,200 bytes"
    ):
        open_array_file(tmp_path / "a.npz")


def test_an_archive_named_as_an_array_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", frames=FRAMES)
    (tmp_path / "a.npz").rename(tmp_path / "a.npy")
    with pytest.raises(ValueError, match=r"does not begin like an array; .* ends in \.npz"):
        open_array_file(tmp_path / "a.npy")
    np.save(tmp_path / "b.npy", FRAMES)
    (tmp_path / "b.npy").rename(tmp_path / "b.npz")
    with pytest.raises(BadZipFile):  # one of the errors that `open_pictures` names
        open_array_file(tmp_path / "b.npz")
