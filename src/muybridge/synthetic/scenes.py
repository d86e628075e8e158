"""Render a motion: textured objects over a soft background, and the exact displacement field.

Input: a class name, a random generator and `MotionSettings`. Output: frames uint8 (T, H, W, 3) and the displacement of each
pixel's content, float32 (T-1, H, W, 2). The paper has no such data; the displacement is the ground truth of optical flow
(section 4).

Every pixel of a frame depends on the poses and the noise of that frame only, so a reversed scene gives bit for bit the
reversed frames.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from muybridge.synthetic.motions import MotionSettings, Poses, find_pair, sample_poses

_RADIUS = (0.17, 0.23)  # of the object, as a share of the shorter side
_DISTRACTOR_SCALE = 0.45  # at the end of an approach still smaller than the object at its usual size
_MAX_OUTLINE_RADII = 1.3  # no outline is further from the centre than this


@dataclass(frozen=True)
class Sprite:
    """A flat object and its path: patch_hwc float32 (P, P, 4) is RGB, 0 to 255, and coverage, 0 to 1."""

    patch_hwc: NDArray[np.float32]
    poses: Poses


@dataclass(frozen=True)
class Scene:
    """The content of a video.

    background_hwc float32 (H, W, 3); sprites from back to front; noise_thw float32 (T, H, W) in gray levels; contrast is the
    opacity of the sprites.
    """

    background_hwc: NDArray[np.float32]
    sprites: tuple[Sprite, ...]
    noise_thw: NDArray[np.float32]
    contrast: float

    def reverse(self) -> Scene:
        """The scene reversed in time, noise included."""
        sprites = tuple(replace(sprite, poses=sprite.poses.reverse()) for sprite in self.sprites)
        return replace(self, sprites=sprites, noise_thw=self.noise_thw[::-1])


@dataclass(frozen=True)
class RenderedMotion:
    """A video and its displacement field.

    frames_thwc uint8 (T, H, W, 3), RGB. displacement_thwc float32 (T-1, H, W, 2): the content of pixel (x, y) of frame t is
    at (x, y) + displacement in frame t + 1, in pixels, x to the right, y down, unless an object covers it there.
    """

    frames_thwc: NDArray[np.uint8]
    displacement_thwc: NDArray[np.float32]


def render_motion(label: str, rng: np.random.Generator, *, settings: MotionSettings) -> RenderedMotion:
    """Render one video of class `label`. The partner class with an equal generator gives exactly the reversed frames."""
    scene = sample_scene(label, rng, settings=settings)
    return RenderedMotion(render_frames(scene), compute_displacement(scene))


def sample_scene(label: str, rng: np.random.Generator, *, settings: MotionSettings) -> Scene:
    """Sample the scene of a video of class `label`: background, distractors, the object, noise."""
    forward, _ = find_pair(label)
    background_hwc = _sample_background(rng, settings.height, settings.width)
    # A distractor has both directions with equal probability: always forwards would tell the class.
    distractors = tuple(
        _sample_sprite(
            str(rng.choice(settings.class_names)), rng, scale=_DISTRACTOR_SCALE, spread=1.0, settings=settings
        )
        for _ in range(settings.distractors)
    )
    sprite = _sample_sprite(forward, rng, scale=1.0, spread=settings.spread, settings=settings)
    shape = (settings.num_frames, settings.height, settings.width)
    noise_thw = rng.standard_normal(shape, dtype=np.float32) * np.float32(settings.noise)
    scene = Scene(background_hwc, (*distractors, sprite), noise_thw, settings.contrast)
    return scene if label == forward else scene.reverse()


def render_frames(scene: Scene) -> NDArray[np.uint8]:
    """The frames of a scene, uint8 (T, H, W, 3)."""
    canvas_thwc = np.repeat(scene.background_hwc[None], len(scene.noise_thw), axis=0)
    pixels = canvas_thwc.reshape(-1, 3)
    for sprite in scene.sprites:
        pixel_indices, rgba = _rasterize_sprite(sprite, canvas_thwc.shape[1:3])
        behind = pixels[pixel_indices]
        pixels[pixel_indices] = behind + (rgba[:, :3] - behind) * (rgba[:, 3:] * np.float32(scene.contrast))
    canvas_thwc += scene.noise_thw[..., None]
    np.rint(canvas_thwc, out=canvas_thwc)
    return np.clip(canvas_thwc, 0, 255, out=canvas_thwc).astype(np.uint8)


def compute_displacement(scene: Scene) -> NDArray[np.float32]:
    """The displacement of a scene, float32 (T-1, H, W, 2), see `RenderedMotion`; the background is at rest.

    A pixel that is at least half covered by an object has the object's displacement, whatever the contrast.
    """
    num_frames, height, width = scene.noise_thw.shape
    field_thwc = np.zeros((num_frames - 1, height, width, 2), dtype=np.float32)
    for sprite in scene.sprites:
        pixel_indices, rgba = _rasterize_sprite(sprite, (height, width))
        pixel_indices = pixel_indices[(rgba[:, 3] >= 0.5) & (pixel_indices < (num_frames - 1) * height * width)]
        times, rows, columns = np.unravel_index(pixel_indices, field_thwc.shape[:3])
        linear_t22, centres_t2 = sprite.poses.linear_t22, sprite.poses.centres_t2
        step_t22 = linear_t22[1:] @ np.linalg.inv(linear_t22[:-1])
        points = np.stack([columns, rows], axis=1) - centres_t2[times]
        moved = np.einsum("nij,nj->ni", step_t22[times], points) + centres_t2[times + 1]
        field_thwc.reshape(-1, 2)[pixel_indices] = moved - centres_t2[times] - points
    return field_thwc


def _rasterize_sprite(sprite: Sprite, size: tuple[int, int]) -> tuple[NDArray[np.intp], NDArray[np.float32]]:
    """Flat indices (N,) into (T, H, W) of the pixels that the sprite covers, and its interpolated patch there, (N, 4).

    All frames at once, with elementwise sums and products only, so that pixel values do not depend on memory layout.
    """
    linear = sprite.poses.linear_t22
    determinant = linear[:, 0, 0] * linear[:, 1, 1] - linear[:, 0, 1] * linear[:, 1, 0]
    inverse = np.stack([linear[:, 1, 1], -linear[:, 0, 1], -linear[:, 1, 0], linear[:, 0, 0]]) / determinant
    a, b, c, d = inverse.astype(np.float32)[..., None]  # each (T, 1)
    x = (np.arange(size[1]) - sprite.poses.centres_t2[:, :1]).astype(np.float32)
    y = (np.arange(size[0]) - sprite.poses.centres_t2[:, 1:]).astype(np.float32)
    num_cells = len(sprite.patch_hwc)
    middle = np.float32((num_cells - 1) / 2)
    u = (a * x)[:, None, :] + (b * y + middle)[:, :, None]
    v = (c * x)[:, None, :] + (d * y + middle)[:, :, None]
    pixel_indices = np.flatnonzero((u >= 0) & (u < num_cells - 1) & (v >= 0) & (v < num_cells - 1))
    u, v = u.reshape(-1)[pixel_indices], v.reshape(-1)[pixel_indices]
    column, row = np.floor(u), np.floor(v)
    right, below = (u - column)[:, None], (v - row)[:, None]
    cells, corner = sprite.patch_hwc.reshape(-1, 4), (row * num_cells + column).astype(np.intp)
    upper = cells.take(corner, axis=0) * (1 - right) + cells.take(corner + 1, axis=0) * right
    corner += num_cells
    lower = cells.take(corner, axis=0) * (1 - right) + cells.take(corner + 1, axis=0) * right
    rgba = upper * (1 - below) + lower * below
    is_covered = rgba[:, 3] > 0
    return pixel_indices[is_covered], rgba[is_covered]


def _sample_background(rng: np.random.Generator, height: int, width: int) -> NDArray[np.float32]:
    """A smooth image of middle gray levels, float32 (H, W, 3)."""
    hills = np.stack([_sample_smooth_noise(rng, height, width, cells=4) for _ in range(3)], axis=-1)
    return (rng.uniform(100, 150, size=3) + 35 * hills).astype(np.float32)


def _sample_sprite(
    label: str, rng: np.random.Generator, *, scale: float, spread: float, settings: MotionSettings
) -> Sprite:
    height, width = settings.height, settings.width
    radius = scale * rng.uniform(*_RADIUS) * min(height, width)
    reach = int(np.ceil(_MAX_OUTLINE_RADII * radius)) + 2
    x, y = np.meshgrid(np.arange(-reach, reach + 1.0), np.arange(-reach, reach + 1.0))
    coverage = np.clip(_sample_outline(rng, np.arctan2(y, x)) * radius - np.hypot(x, y) + 0.5, 0, 1)
    mixture = _sample_texture(rng, x / radius, y / radius)[..., None]
    # Dark and bright in one object, so that it contrasts with middle gray and motion shows inside of the outline too.
    colors = mixture * rng.uniform(0, 70, size=3) + (1 - mixture) * rng.uniform(185, 255, size=3)
    patch_hwc = np.concatenate([colors, coverage[..., None]], axis=-1).astype(np.float32)
    poses = sample_poses(label, rng, settings=settings, spread=spread)
    return Sprite(patch_hwc, poses)


def _sample_outline(rng: np.random.Generator, angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Distance from centre to outline by angle, in radii, at most `_MAX_OUTLINE_RADII`; a circle would hide turns."""
    angles = angles + rng.uniform(0, 2 * np.pi)
    match int(rng.integers(3)):
        case 0:  # an irregular blob
            waves = range(1, 5)
            sizes, phases = rng.uniform(0.03, 0.11, size=4), rng.uniform(0, 2 * np.pi, size=4)
            return 0.85 + sum(
                (size * np.cos(k * angles + phase) for k, size, phase in zip(waves, sizes, phases, strict=True)),
                start=np.zeros_like(angles),
            )
        case 1:  # a triangle, a square or a pentagon
            sector = 2 * np.pi / int(rng.integers(3, 6))
            side = np.cos(sector / 2) / np.cos(np.mod(angles, sector) - sector / 2)
            return np.asarray(1.15 * side, dtype=np.float64)
        case _:  # an ellipse
            short = rng.uniform(0.45, 0.7)
            return np.asarray(1.15 * short / np.hypot(short * np.cos(angles), np.sin(angles)), dtype=np.float64)


def _sample_texture(rng: np.random.Generator, x: NDArray[np.float64], y: NDArray[np.float64]) -> NDArray[np.float64]:
    """The share of the dark colour, 0 to 1, at points given in radii; coarse, so that no step exceeds half a period."""
    angle, phase = rng.uniform(0, 2 * np.pi, size=2)
    across = x * np.cos(angle) + y * np.sin(angle)
    match int(rng.integers(3)):
        case 0:  # stripes
            return np.asarray(0.5 + 0.5 * np.sin(2 * np.pi * across / rng.uniform(0.9, 1.5) + phase), dtype=np.float64)
        case 1:  # two halves
            return np.asarray(0.5 + 0.5 * np.tanh((across + rng.uniform(-0.3, 0.3)) / 0.15), dtype=np.float64)
        case _:  # patches
            return np.asarray(np.clip(0.5 + 0.9 * _sample_smooth_noise(rng, *x.shape, cells=6), 0, 1), dtype=np.float64)


def _sample_smooth_noise(rng: np.random.Generator, height: int, width: int, *, cells: int) -> NDArray[np.float64]:
    """Smooth noise between -1 and 1, (height, width), interpolated from a grid of cells x cells values."""
    grid = rng.uniform(-1, 1, size=(cells, cells))
    return np.asarray(
        _compute_smooth_weights(height, cells) @ grid @ _compute_smooth_weights(width, cells).T, dtype=np.float64
    )


def _compute_smooth_weights(length: int, cells: int) -> NDArray[np.float64]:
    """Interpolation weights (length, cells) with zero slope at grid points."""
    positions = np.linspace(0, cells - 1, length)
    distance = np.minimum(np.abs(positions[:, None] - np.arange(cells)), 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * distance), dtype=np.float64)
