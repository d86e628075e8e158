"""Motions that only the order of frames tells apart: class names, settings and the path of an object, as pure arithmetic.

In: `MotionSettings` and a random generator. Out: `Poses`, where an object is at each frame. Pixels are drawn in
`motion_scene.py`, files are written in `motion_files.py`.

Classes come in pairs that are time reversals of each other, and the second of a pair is *made* by reversing the first: the
frames of a class, as an unordered set, are distributed exactly like those of its partner. A network that averages over the
frames of a clip, f-R2D of the paper's section 3, therefore cannot know more than the pair. On a test set that holds every
video's reversed twin it is right at most once a pair, 50 %, provided that the clips of a twin are the reversed clips of the
video; `check_symmetric_clips` says when they are. The paper has no such data; the ceiling separates what a network
reads from motion from what it reads from pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# From easy to hard. The first name of a pair is drawn forwards. From the tenth pair on, single moments are shared between
# classes (right_then_up and up_then_right hold the same two motions), so that only a long enough clip tells them apart.
CLASS_PAIRS: tuple[tuple[str, str], ...] = (
    ("left", "right"),
    ("up", "down"),
    ("approach", "recede"),
    ("clockwise", "counter_clockwise"),
    ("up_left", "down_right"),
    ("up_right", "down_left"),
    ("widen", "heighten"),
    ("shear_left", "shear_right"),
    ("orbit_clockwise", "orbit_counter_clockwise"),
    ("right_then_up", "down_then_left"),
    ("up_then_right", "left_then_down"),
    ("right_then_down", "up_then_left"),
    ("down_then_right", "left_then_up"),
    ("loop_clockwise", "loop_counter_clockwise"),
)
CLASS_NAMES: tuple[str, ...] = tuple(name for pair in CLASS_PAIRS for name in pair)

_LEFT, _RIGHT, _UP, _DOWN = (-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)  # x to the right, y down
_DIAGONAL = 0.5**0.5
_LEGS: dict[str, tuple[tuple[float, float], ...]] = {
    "left": (_LEFT,),
    "up": (_UP,),
    "up_left": ((-_DIAGONAL, -_DIAGONAL),),
    "up_right": ((_DIAGONAL, -_DIAGONAL),),
    "right_then_up": (_RIGHT, _UP),
    "up_then_right": (_UP, _RIGHT),
    "right_then_down": (_RIGHT, _DOWN),
    "down_then_right": (_DOWN, _RIGHT),
    "loop_clockwise": (_RIGHT, _DOWN, _LEFT, _UP),
}

# What a whole video covers, however many frames it has. Lengths are shares of the frame's shorter side.
_TRAVEL = (0.35, 0.6)  # of one leg; L shapes and loops get shorter legs, in all sqrt(legs) times as much
_ORBIT_RADIUS = (0.13, 0.2)
_ORBIT_TURNS = (0.7, 1.0)
_TURN_RADIANS = (1.6, 3.4)  # at 24 frames and every second frame seen: at most 17 degrees a step, no aliasing
_ZOOM = (1.8, 2.8)  # largest size / smallest size
_STRETCH = (1.9, 2.8)  # width / height, last frame over first
_SHEAR = (1.1, 1.7)  # change of the horizontal shift for each unit of height
_MARGIN = 0.2  # centres keep this far from the border


@dataclass(frozen=True)
class MotionSettings:
    """A generated data set: which motions, how many videos, how they look and how hard they are."""

    classes: int | tuple[str, ...] = 8
    """How many classes, taken from the front of CLASS_NAMES (easy to hard), or their names. Always whole pairs."""
    train_videos_per_class: int = 100
    """Training videos of a class, each drawn by itself."""
    validation_videos_per_class: int = 10
    """Validation videos of a class; the reversed twin of each is in the partner class under the same number."""
    test_videos_per_class: int = 25
    """Test videos of a class; the reversed twin of each is in the partner class under the same number."""
    num_frames: int = 24
    """Frames of a video. Minus the clip's span it must be a multiple of clips - 1 (`check_symmetric_clips`)."""
    frames_per_second: int = 24
    """Rate written into the files."""
    height: int = 80
    """Height in pixels, even (4:2:0 files)."""
    width: int = 80
    """Width in pixels, even (4:2:0 files)."""
    contrast: float = 1.0
    """Opacity of all objects, above 0 and at most 1: at 0.2 a pixel is 80 % of what lies behind."""
    noise: float = 3.0
    """Standard deviation, in gray levels of 0 to 255, of gray noise drawn for every pixel of every frame."""
    distractors: int = 0
    """Smaller objects behind the one that the label speaks of, each with a motion of a random class."""
    spread: float = 0.15
    """Where paths lie: 0 around the frame's centre, 1 anywhere inside. A small spread lets single frames tell the pair (never
    the direction), so that f-R2D can reach its ceiling; at 1 they tell next to nothing."""
    seed: int = 0
    """Decides every draw."""

    def __post_init__(self) -> None:
        self._check_classes()
        for name, least in (
            ("train_videos_per_class", 1),
            ("validation_videos_per_class", 1),
            ("test_videos_per_class", 1),
            ("num_frames", 2),
            ("frames_per_second", 1),
            ("height", 32),
            ("width", 32),
            ("noise", 0),
            ("distractors", 0),
            ("seed", 0),
        ):
            value = getattr(self, name)
            if not value >= least:
                raise ValueError(f"{name} must be at least {least}, not {value}")
        if self.height % 2 or self.width % 2:
            raise ValueError(f"height and width must be even, not {self.height}x{self.width}: files are 4:2:0")
        if not 0 < self.contrast <= 1:
            raise ValueError(f"contrast must be above 0 and at most 1, not {self.contrast}")
        if not 0 <= self.spread <= 1:
            raise ValueError(f"spread must lie between 0 and 1, not {self.spread}")

    def _check_classes(self) -> None:
        if isinstance(self.classes, int):
            if self.classes % 2 or not 2 <= self.classes <= len(CLASS_NAMES):
                raise ValueError(f"classes must be an even number from 2 to {len(CLASS_NAMES)}, not {self.classes}")
            return
        unknown = [name for name in self.classes if name not in CLASS_NAMES]
        if unknown:
            raise ValueError(f"classes has no motion named {', '.join(unknown)}; there are {', '.join(CLASS_NAMES)}")
        if not self.classes or len(set(self.classes)) < len(self.classes):
            raise ValueError(f"classes must name each motion once, and two at least, not {self.classes}")
        unpaired = [name for name in self.classes if find_partner(name) not in self.classes]
        if unpaired:
            raise ValueError(f"classes holds {unpaired[0]} without its reversal; add {find_partner(unpaired[0])}")

    @property
    def class_names(self) -> tuple[str, ...]:
        """The classes by name, in the order of CLASS_NAMES or as given."""
        return CLASS_NAMES[: self.classes] if isinstance(self.classes, int) else self.classes


@dataclass(frozen=True)
class Poses:
    """Where an object is: its point p (pixels from its centre) is seen at linear[t] @ p + centre[t] in frame t.

    linear_t22 float64 (T, 2, 2); centres_t2 float64 (T, 2) in pixels, x to the right, y down, (0, 0) the first pixel's centre.
    """

    linear_t22: NDArray[np.float64]
    centres_t2: NDArray[np.float64]

    def reverse(self) -> Poses:
        """The same path backwards in time."""
        return Poses(self.linear_t22[::-1], self.centres_t2[::-1])


def find_pair(label: str) -> tuple[str, str]:
    """The pair a class belongs to: (drawn forwards, drawn backwards). An unknown class is a ValueError."""
    for pair in CLASS_PAIRS:
        if label in pair:
            return pair
    raise ValueError(f"there is no motion named {label}; there are {', '.join(CLASS_NAMES)}")


def find_partner(label: str) -> str:
    """The class that shows the same motion backwards in time."""
    forward, backward = find_pair(label)
    return backward if label == forward else forward


def sample_poses(label: str, rng: np.random.Generator, *, settings: MotionSettings, spread: float) -> Poses:
    """Draw the path of one object of class `label`. The partner class with an equal generator gets the reversed path.

    `spread` takes the place of `settings.spread`: distractors may lie anywhere.
    """
    forward, _ = find_pair(label)
    height, width = settings.height, settings.width
    side = min(height, width)
    linear_t22, offsets_t2 = _sample_motion(forward, rng, np.linspace(-0.5, 0.5, settings.num_frames))
    offsets_t2 = offsets_t2 * side
    # The whole path is placed at random, so that it lies inside of the margin wherever it fits.
    low, high = offsets_t2.min(axis=0), offsets_t2.max(axis=0)
    first = _MARGIN * side - low
    last = np.array([width - 1, height - 1]) - _MARGIN * side - high
    middle, reach = (first + last) / 2, np.maximum((last - first) / 2, 0)
    poses = Poses(linear_t22, offsets_t2 + middle + spread * reach * rng.uniform(-1, 1, size=2))
    return poses if label == forward else poses.reverse()


def _sample_motion(
    forward: str, rng: np.random.Generator, times: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Linear maps (T, 2, 2) and offsets (T, 2) in shares of the shorter side, for times from -1/2 to 1/2."""
    linear_t22 = np.tile(np.eye(2), (len(times), 1, 1))
    offsets_t2 = np.zeros((len(times), 2))
    match forward:
        case "approach":
            linear_t22 *= np.exp(times * np.log(rng.uniform(*_ZOOM)))[:, None, None]
        case "clockwise":
            angles = times * rng.uniform(*_TURN_RADIANS)
            linear_t22[:, 0, 0] = linear_t22[:, 1, 1] = np.cos(angles)
            linear_t22[:, 1, 0] = np.sin(angles)  # y points down: a positive angle turns clockwise
            linear_t22[:, 0, 1] = -linear_t22[:, 1, 0]
        case "widen":
            exponents = times * np.log(rng.uniform(*_STRETCH)) / 2
            linear_t22[:, 0, 0], linear_t22[:, 1, 1] = np.exp(exponents), np.exp(-exponents)
        case "shear_left":
            linear_t22[:, 0, 1] = times * rng.uniform(*_SHEAR)  # the top (negative y) goes left
        case "orbit_clockwise":
            angles = rng.uniform(0, 2 * np.pi) + times * 2 * np.pi * rng.uniform(*_ORBIT_TURNS)
            offsets_t2 = rng.uniform(*_ORBIT_RADIUS) * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        case "loop_clockwise":
            start = int(rng.integers(4))  # any side first, so that the first side does not tell the class
            legs = _LEGS[forward][start:] + _LEGS[forward][:start]
            offsets_t2 = _interpolate_along_legs(legs, times, rng.uniform(*_TRAVEL))
        case _:
            offsets_t2 = _interpolate_along_legs(_LEGS[forward], times, rng.uniform(*_TRAVEL))
    return linear_t22, offsets_t2


def _interpolate_along_legs(
    legs: tuple[tuple[float, float], ...], times: NDArray[np.float64], travel: float
) -> NDArray[np.float64]:
    """Positions (T, 2) at constant speed along legs of equal duration."""
    corners = np.concatenate([np.zeros((1, 2)), np.cumsum(np.array(legs), axis=0)]) * travel / len(legs) ** 0.5
    corner_times = np.linspace(-0.5, 0.5, len(corners))
    return np.stack([np.interp(times, corner_times, corners[:, axis]) for axis in range(2)], axis=1)


def check_symmetric_clips(num_frames: int, *, clip_span: int, num_clips: int) -> None:
    """Raise a ValueError unless the uniform clips of a reversed video are the reversed clips of the video.

    Clips start at floor(i * (num_frames - clip_span) / (num_clips - 1)), i = 0, 1, ... (the authors' code).
    `clip_span` counts frames from the first to the last of a clip, (length - 1) * stride + 1. Clip i of the reversed video is
    clip num_clips - 1 - i of the video backwards exactly when the division has no rest.
    """
    if num_clips < 2:
        raise ValueError(f"symmetric clips need at least 2 clips a video, not {num_clips}; raise evaluation.clips")
    num_remaining = num_frames - clip_span
    if num_remaining >= 0 and num_remaining % (num_clips - 1) == 0:
        return
    fitting = clip_span + max(1, -(-num_remaining // (num_clips - 1))) * (num_clips - 1)
    raise ValueError(
        f"{num_clips} clips spanning {clip_span} frames do not lie symmetrically in {num_frames} frames: num_frames minus "
        f"the span must be a multiple of clips - 1; set num_frames to {fitting}, or change clips.length or clips.stride"
    )
