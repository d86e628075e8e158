"""Time stamps as evidence: what is made of stamps that are missing, step back, or leave absurd gaps. Pure arithmetic.

Input: stamps as a container stores them. Output: ticks that increase strictly, so that clips can be placed on them, and notes
on what was changed. A step back starts a new stretch (joined recordings, a clock that was set), which is appended to the one
before. A frame is shown for at most MAX_FRAME_SECONDS; a longer step is a jump of the clock, and is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

MAX_FRAME_SECONDS = 600  # longer than a slide stays on a screen; a frame every 1/15 s of it makes 9000 timesteps
_LONG_FRAME_SECONDS, _LONG_FRAME_RATIO = 10, 20  # a frame that is shown for longer than both is worth a note
_MAX_REORDERED_FRAMES = 16  # between decoding and presentation (H.264 and HEVC, max_num_reorder_frames)
_MIN_FRAMES_PER_STRETCH = 8  # on average; where stamps step back more often, they are noise


@dataclass(frozen=True)
class _JoinedStamps:
    """Ticks int64 (N,) for N frames, strictly increasing, and what was done to their stamps to get there."""

    ticks: NDArray[np.int64]
    notes: tuple[str, ...] = ()


def has_step_back(stamps: Sequence[int], *, are_presentation_stamps: bool) -> bool:
    """Whether stamps in decoding order step back. Presentation stamps may do so by the reordering of B-frames."""
    stamps_n = np.array(stamps, np.int64)
    if not are_presentation_stamps:
        return bool(np.any(stamps_n[1:] <= stamps_n[:-1]))
    latest = np.maximum.accumulate(stamps_n)
    if np.array_equal(latest, stamps_n):
        return False
    ordered = np.sort(stamps_n)
    # The first frame after a step back would lie more places ahead than reordering can move it.
    places = np.searchsorted(ordered, latest) - np.searchsorted(ordered, stamps_n)
    return bool(np.any(places > _MAX_REORDERED_FRAMES))


def join_stamps(stamps: Sequence[int] | NDArray[np.int64], tick_seconds: Fraction, default_step: int) -> _JoinedStamps:
    """Ticks from stamps in presentation order. `default_step`: ticks per frame where the stamps do not tell."""
    stamps_n = np.asarray(stamps, np.int64)
    steps = np.diff(stamps_n)
    max_step = max(1, int(MAX_FRAME_SECONDS / tick_seconds))
    steps_back, jumps = steps <= 0, steps > max_step
    sound = steps[~steps_back & ~jumps]
    typical = max(1, int(np.median(sound))) if len(sound) else min(max(1, default_step), max_step)
    if int(steps_back.sum()) * _MIN_FRAMES_PER_STRETCH > len(stamps_n) + 2 * _MIN_FRAMES_PER_STRETCH:
        ticks = stamps_n[0] + np.arange(len(stamps_n), dtype=np.int64) * max(1, default_step)
        return _JoinedStamps(ticks, ("its time stamps are in disorder, so its frames are spaced evenly",))
    notes = _describe_steps(stamps_n, steps, steps_back, jumps, typical, tick_seconds)
    if not notes:
        return _JoinedStamps(stamps_n)
    repaired = np.where(steps_back | jumps, typical, steps)
    ticks = np.concatenate((stamps_n[:1], stamps_n[:1] + np.cumsum(repaired)))
    return _JoinedStamps(ticks, notes)


def interpolate_stamps(stamps: Sequence[int | None], default_step: int) -> NDArray[np.int64]:
    """Stamps for frames in presentation order, from the known ones.

    Gaps between known stamps are filled evenly and the ends continue at the mean step. `default_step` is used if fewer than
    two stamps are known, or if they do not increase.
    """
    frame_indices = np.arange(len(stamps), dtype=np.int64)
    known_indices = np.array([index for index, stamp in enumerate(stamps) if stamp is not None], np.int64)
    known = np.array([stamp for stamp in stamps if stamp is not None], np.int64)
    if len(known) < 2 or bool(np.any(np.diff(known) < np.diff(known_indices))):
        return frame_indices * default_step + (known[0] - known_indices[0] * default_step if len(known) else 0)
    default_step = max(1, round((int(known[-1]) - int(known[0])) / (int(known_indices[-1]) - int(known_indices[0]))))
    ticks = np.rint(np.interp(frame_indices, known_indices, known)).astype(np.int64)
    before, after = frame_indices < known_indices[0], frame_indices > known_indices[-1]
    ticks[before] -= default_step * (known_indices[0] - frame_indices[before])
    ticks[after] += default_step * (frame_indices[after] - known_indices[-1])
    return ticks


def _describe_steps(
    stamps: NDArray[np.int64],
    steps: NDArray[np.int64],
    steps_back: NDArray[np.bool_],
    jumps: NDArray[np.bool_],
    typical: int,
    tick_seconds: Fraction,
) -> tuple[str, ...]:
    notes = []
    if steps_back.any():
        first = int(np.argmax(steps_back)) + 1
        places = f"at {int(steps_back.sum())} places, first" if steps_back.sum() > 1 else ""
        notes.append(
            f"its time stamps step back {places} before frame {first}; what follows is appended".replace("  ", " ")
        )
    if jumps.any():
        first = int(np.argmax(jumps)) + 1
        seconds = float(int(steps[first - 1]) * tick_seconds)
        others = f" (and {int(jumps.sum()) - 1} more)" if jumps.sum() > 1 else ""
        notes.append(f"its clock jumps by {seconds:.0f} s before frame {first}{others}; the jump is left out")
    min_long = max(math.ceil(_LONG_FRAME_SECONDS / tick_seconds), _LONG_FRAME_RATIO * typical)
    long = ~jumps & (steps > min_long)
    if long.any():
        first = int(np.argmax(long))
        seconds = float(int(steps[first]) * tick_seconds)
        notes.append(f"frame {first} is shown for {seconds:.1f} s, in which the picture does not change")
    return tuple(notes)
