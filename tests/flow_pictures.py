"""Folders and archives of frames and flow as the tools of Temporal Segment Networks write them."""

import tarfile
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image


def write_flow_folder(
    folder: Path, flow_tchw: NDArray[np.uint8], frames_thwc: NDArray[np.uint8] | None = None, extension: str = "png"
) -> Path:
    """Gray values (T, 2, H, W) of flow as flow_x_00001.png, flow_y_00001.png, ...; frames as img_00001.png, ..."""
    folder.mkdir(parents=True)
    for number, pair in enumerate(flow_tchw, 1):
        for axis, channel in zip("xy", pair, strict=True):
            Image.fromarray(channel).save(folder / f"flow_{axis}_{number:05d}.{extension}")
    for number, frame in enumerate([] if frames_thwc is None else frames_thwc, 1):
        Image.fromarray(frame).save(folder / f"img_{number:05d}.{extension}")
    return folder


def pack(folder: Path, path: Path) -> Path:
    """The same pictures in a zip or a tar."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            for picture in folder.iterdir():
                archive.write(picture, f"deep/{picture.name}")
    else:
        with tarfile.open(path, "w") as tar:
            tar.add(folder, "clip")
    return path
