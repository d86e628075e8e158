"""Scaled planes: sizes, colours and orientation, against the formulas of the standards and pictures mapped by hand."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import av
import numpy as np
import pytest
from av.video.reformatter import ColorRange
from numpy.typing import NDArray

from muybridge.records import YuvClip
from muybridge.video.planes import YuvClipBuilder, detect_color_format, read_orientation

WEIGHTS = {"bt601": (0.299, 0.114), "bt709": (0.2126, 0.0722), "bt2020": (0.2627, 0.0593), "smpte240m": (0.212, 0.087)}
COLOURS = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255), (0, 0, 0), (120, 60, 200)]
BT709, BT2020 = 1, 9  # AVColorSpace


def rgb_to_yuv(rgb: NDArray[np.float64], matrix: str, *, full_range: bool = False) -> NDArray[np.float64]:
    """ITU-R BT.601, BT.709 and BT.2020; 8 bits, R'G'B' of 0 to 255."""
    red, blue = WEIGHTS[matrix]
    luma = red * rgb[0] + (1 - red - blue) * rgb[1] + blue * rgb[2]
    differences = np.array([(rgb[2] - luma) / (2 - 2 * blue), (rgb[0] - luma) / (2 - 2 * red)])
    if full_range:
        return np.array([luma, *(differences + 128)])
    return np.array([16 + luma * 219 / 255, *(differences * 224 / 255 + 128)])


def yuv_to_rgb(yuv: NDArray[np.float64], matrix: str) -> NDArray[np.float64]:
    columns = [rgb_to_yuv(np.eye(3)[channel], matrix) - rgb_to_yuv(np.zeros(3), matrix) for channel in range(3)]
    return np.linalg.solve(np.array(columns).T, yuv - rgb_to_yuv(np.zeros(3), matrix))


def flat(pixel_format: str, levels: tuple[int, ...], height: int = 48, width: int = 64) -> av.VideoFrame:
    """A frame of one colour, given as the level of each plane's samples (or of each byte of a packed pixel)."""
    frame = av.VideoFrame(width, height, pixel_format)
    deep = frame.format.components[0].bits > 8
    if len(frame.planes) == len(levels):
        for plane, level in zip(frame.planes, levels, strict=True):
            np.frombuffer(plane, np.uint16 if deep else np.uint8)[:] = level
    else:
        pixels = np.frombuffer(frame.planes[0], np.uint8).reshape(height, -1)[:, : width * len(levels)]
        pixels.reshape(height, width, len(levels))[:] = levels
    return frame


def scaled(*frames: av.VideoFrame, height: int = 20, width: int = 27) -> YuvClip:
    planes = YuvClipBuilder(len(frames), height, width)
    for index, frame in enumerate(frames):
        planes.write_frame(index, frame)
    return planes.build_clip(np.arange(len(frames)))


def levels(clip: YuvClip, index: int = 0) -> NDArray[np.float64]:
    """Luma, Cb and Cr of a frame of one colour; fails where a pixel differs by more than swscale's dither."""
    planes = (clip.luma_thw[index], *clip.chroma_cthw[:, index])
    assert all(int(np.ptp(plane)) <= 2 for plane in planes)
    return np.array([plane.mean() for plane in planes])


@pytest.mark.parametrize(("height", "width"), [(20, 27), (27, 20), (128, 171), (1, 1), (49, 64), (48, 64)])
@pytest.mark.parametrize("source", [(48, 64), (67, 101), (5, 3), (240, 320)])
def test_any_size_becomes_the_size_asked_for(height: int, width: int, source: tuple[int, int]) -> None:
    clip = scaled(flat("yuv420p", (100, 90, 200), *source), height=height, width=width)
    assert clip.luma_thw.shape == (1, height, width)
    assert clip.chroma_cthw.shape == (2, 1, (height + 1) // 2, (width + 1) // 2)
    assert levels(clip) == pytest.approx([100, 90, 200], abs=1)


@pytest.mark.parametrize(
    ("pixel_format", "written"),
    [
        ("yuv420p", (100, 90, 200)),
        ("yuv422p", (100, 90, 200)),
        ("yuv444p", (100, 90, 200)),
        ("yuv411p", (100, 90, 200)),
        ("yuv410p", (100, 90, 200)),
        ("yuv440p", (100, 90, 200)),
        ("yuva420p", (100, 90, 200, 7)),
        ("yuv420p10le", (400, 360, 800)),
        ("yuv422p10le", (400, 360, 800)),
        ("yuv444p12le", (1600, 1440, 3200)),
        ("yuva444p10le", (400, 360, 800, 9)),
    ],
)
@pytest.mark.parametrize("full_range", [False, True])
def test_yuv_keeps_its_levels_range_and_matrix(pixel_format: str, written: tuple[int, ...], full_range: bool) -> None:
    frame = flat(pixel_format, written)
    frame.color_range = ColorRange.JPEG if full_range else ColorRange.MPEG
    for colorspace, matrix in ((BT709, "bt709"), (5, "bt601"), (6, "bt601"), (3, "bt601"), (2, "bt601")):
        frame.colorspace = colorspace
        clip = scaled(frame)
        assert (clip.matrix, clip.full_range) == (matrix, full_range)
        assert levels(clip) == pytest.approx([100, 90, 200], abs=1.01)
    assert (frame.colorspace, frame.color_range) == (2, ColorRange.JPEG if full_range else ColorRange.MPEG)


@pytest.mark.parametrize("rgb", COLOURS)
@pytest.mark.parametrize("pixel_format", ["rgb24", "bgr24", "rgba", "bgra", "gbrp", "gbrp10le"])
def test_rgb_becomes_bt601_of_limited_range(pixel_format: str, rgb: tuple[int, int, int]) -> None:
    red, green, blue = rgb
    written = {
        "rgb24": (red, green, blue),
        "bgr24": (blue, green, red),
        "rgba": (red, green, blue, 255),
        "bgra": (blue, green, red, 255),
        "gbrp": (green, blue, red),
        "gbrp10le": tuple(level * 1023 // 255 for level in (green, blue, red)),
    }[pixel_format]
    clip = scaled(flat(pixel_format, written))
    assert (clip.matrix, clip.full_range) == ("bt601", False)
    assert levels(clip) == pytest.approx(rgb_to_yuv(np.array(rgb, float), "bt601"), abs=1.2)


def test_formats_that_mean_full_range() -> None:
    assert scaled(flat("yuvj420p", (100, 90, 200))).full_range
    clip = scaled(flat("gray", (100,)))
    assert clip.full_range
    assert levels(clip) == pytest.approx([100, 128, 128], abs=1)
    assert levels(scaled(flat("gray16le", (100 * 257,)))) == pytest.approx([100, 128, 128], abs=1)


def test_wide_gamut_matrices_become_bt709() -> None:
    frame = flat("yuv420p10le", (400, 360, 800))
    frame.colorspace = BT2020
    clip = scaled(frame)
    assert clip.matrix == "bt709"
    expected = rgb_to_yuv(yuv_to_rgb(np.array([100.0, 90.0, 200.0]), "bt2020"), "bt709")
    assert levels(clip) == pytest.approx(expected, abs=2)


def test_a_clip_has_the_colours_of_its_first_frame_throughout() -> None:
    limited, full = flat("yuv420p", (100, 90, 200)), flat("yuvj420p", (100, 90, 200), 30, 40)
    full.colorspace = BT709
    clip = scaled(limited, full, flat("rgb24", (120, 60, 200)))
    assert (clip.matrix, clip.full_range) == ("bt601", False)
    assert levels(clip, 0) == pytest.approx([100, 90, 200], abs=1)
    red, blue = WEIGHTS["bt709"]
    rgb = np.array([100 + (2 - 2 * red) * 72, 0, 100 - (2 - 2 * blue) * 38])
    rgb[1] = (100 - red * rgb[0] - blue * rgb[2]) / (1 - red - blue)
    assert levels(clip, 1) == pytest.approx(rgb_to_yuv(rgb, "bt601"), abs=2)
    assert levels(clip, 2) == pytest.approx(rgb_to_yuv(np.array([120.0, 60, 200]), "bt601"), abs=1.2)


def test_repeats_and_their_order() -> None:
    planes = YuvClipBuilder(3, 20, 27)
    for index in (2, 0, 1):
        planes.write_frame(index, flat("yuv420p", (50 * index + 50, 128, 128)))
    clip = planes.build_clip(np.array([1, 1, 0, 2]))
    assert [int(frame[0, 0]) for frame in clip.luma_thw] == [100, 100, 50, 150]
    assert clip.chroma_cthw.shape == (2, 4, 10, 14)


def test_frames_that_need_no_scaling_are_left_alone() -> None:
    frame = av.VideoFrame(27, 20, "yuv420p")
    expected = []
    for plane, width in zip(frame.planes, (27, 14, 14), strict=True):
        memory = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        memory[:] = np.random.default_rng(plane.width).integers(0, 256, memory.shape)
        expected.append(memory[:, :width].copy())
    clip = scaled(frame)
    for plane, expected_plane in zip((clip.luma_thw[0], *clip.chroma_cthw[:, 0]), expected, strict=True):
        assert np.array_equal(plane, expected_plane)


def test_interlaced_frames_do_not_comb(tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("video") / "a.mpg"
    with av.open(str(path), "w", format="vob") as output:
        stream = output.add_stream("mpeg2video", rate=25, options={"flags": "+ildct+ilme", "b": "20000000"})
        stream.height, stream.width, stream.pix_fmt = 480, 640, "yuv420p"
        for _ in range(2):
            frame = flat("yuv420p", (30, 128, 128), 480, 640)
            np.frombuffer(frame.planes[0], np.uint8).reshape(480, -1)[::2] = 220  # one field light, the other dark
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    with av.open(str(path)) as container:
        frame = next(container.decode(video=0))
    assert frame.interlaced_frame
    clip = scaled(frame, height=128, width=171)
    inside = clip.luma_thw[0, 2:-2].astype(int)
    assert inside.min() >= 100
    assert inside.max() <= 150


class Turned:
    """A frame as PyAV gives it, with a display matrix."""

    def __init__(self, frame: av.VideoFrame, matrix: tuple[int, int, int, int], rotation: int) -> None:
        a, b, c, d = matrix
        self.frame, self.rotation = frame, rotation
        self.side_data = {"DISPLAYMATRIX": np.array([a, b, 0, c, d, 0, 0, 0, 1 << 30], np.int32).tobytes()}


ONE = 1 << 16


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((0, -ONE, ONE, 0), lambda picture: np.rot90(picture, 1)),
        ((0, ONE, -ONE, 0), lambda picture: np.rot90(picture, -1)),
        ((-ONE, 0, 0, -ONE), lambda picture: np.rot90(picture, 2)),
        ((-ONE, 0, 0, ONE), np.fliplr),
        ((0, ONE, ONE, 0), np.transpose),
        ((0, -ONE, -ONE, 0), lambda picture: np.rot90(picture, 2).T),
    ],
)
def test_display_matrices(
    matrix: tuple[int, int, int, int],
    upright: Callable[[NDArray[np.uint8]], NDArray[np.uint8]],
) -> None:
    """Each pixel goes where libavutil/display.h sends it: column a*x + c*y, row b*x + d*y, shifted into the picture."""
    picture = np.random.default_rng(1).integers(0, 256, (6, 10), np.uint8)
    sent = np.zeros(upright(picture).shape, np.uint8)
    a, b, c, d = (entry // ONE for entry in matrix)
    for y, x in product(range(6), range(10)):
        sent[(b * x + d * y) % sent.shape[0] - (b + d < 0), (a * x + c * y) % sent.shape[1] - (a + c < 0)] = picture[
            y, x
        ]
    assert np.array_equal(sent, upright(picture))
    transposed, flip_rows, flip_columns = read_orientation(Turned(flat("gray", (0,)), matrix, rotation=90))  # type: ignore[arg-type]
    actual = picture.T if transposed else picture
    actual = actual[::-1] if flip_rows else actual
    assert np.array_equal(actual[:, ::-1] if flip_columns else actual, sent)


@pytest.mark.parametrize(("rotation", "turns"), [(90, 1), (-90, -1), (89, 1), (180, 2), (-180, 2), (20, 0)])
def test_a_rotation_beside_side_data_that_pyav_does_not_know(rotation: int, turns: int) -> None:
    class Unknown:
        @property
        def side_data(self) -> dict[str, bytes]:
            raise ValueError("33 is not a valid Type")

    frame = Unknown()
    frame.rotation = rotation  # type: ignore[attr-defined]
    picture = np.arange(60).reshape(6, 10)
    transposed, flip_rows, flip_columns = read_orientation(frame)  # type: ignore[arg-type]
    actual = picture.T if transposed else picture
    actual = actual[::-1] if flip_rows else actual
    assert np.array_equal(actual[:, ::-1] if flip_columns else actual, np.rot90(picture, turns))


def test_colours_of_a_frame_without_scaling_it() -> None:
    assert detect_color_format(flat("rgb24", (1, 2, 3))) == ("bt601", False)


def test_smpte_240m_becomes_bt709() -> None:
    """Its coefficients are those of BT.709 to within 0.0154, and not at all those of BT.601."""
    frame = flat("yuv420p", (100, 90, 200))
    frame.colorspace = 7
    clip = scaled(frame)
    assert (clip.matrix, clip.full_range) == ("bt709", False)
    expected = rgb_to_yuv(yuv_to_rgb(np.array([100.0, 90.0, 200.0]), "smpte240m"), "bt709")
    assert levels(clip) == pytest.approx(expected, abs=2)
