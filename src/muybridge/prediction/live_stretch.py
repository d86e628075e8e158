"""The windows of a stretch: timesteps of a stream without a break, a pause or a jump of its clock between them.

Input: timesteps one by one. Output: the timesteps of each window that is complete, and at the end of the one that ends with the
stretch. Windows are taken or skipped in order; what no later one needs is forgotten.

    span 4, step 2, nine timesteps:   ffffxxxxx
                                      xxffffxxx
                                      xxxxffffx
                                      xxxxxffff   the rest
"""

from __future__ import annotations

from dataclasses import dataclass, field

from muybridge.records import YuvClip


@dataclass(frozen=True)
class Timestep:
    """A frame at the clip's rate, from `start_seconds` to `end_seconds`. `begins_stretch`: no window lies across its
    start. `aspect`: width over height of the frame as it arrived, None where that is not known."""

    planes: YuvClip
    start_seconds: float
    end_seconds: float
    arrival: float
    begins_stretch: bool = False
    aspect: float | None = None


@dataclass
class Stretch:
    """The timesteps of a stretch that are still needed. Positions are numbers of timesteps from its beginning."""

    span: int
    step: int
    timesteps: list[Timestep] = field(default_factory=list)
    num_forgotten: int = 0
    next_start: int = 0
    taken_end: int = 0  # of the last window that was taken

    def add(self, timestep: Timestep) -> None:
        """The next timestep of the stretch."""
        self.timesteps.append(timestep)

    def count_complete(self) -> int:
        """The windows that are complete, and neither taken nor skipped."""
        num_later = self.num_forgotten + len(self.timesteps) - self.span - self.next_start
        return 0 if num_later < 0 else num_later // self.step + 1

    def take(self) -> list[Timestep]:
        """The timesteps of the next window, which is complete."""
        window = self._get_window(self.next_start)
        self.taken_end, self.next_start = self.next_start + self.span, self.next_start + self.step
        # The window that ends with the stretch may be needed, too (`take_rest`).
        num_unneeded = max(0, min(self.next_start - self.num_forgotten, len(self.timesteps) - self.span))
        self.timesteps, self.num_forgotten = self.timesteps[num_unneeded:], self.num_forgotten + num_unneeded
        return window

    def skip(self, num_windows: int) -> int:
        """Passes over so many complete windows. Returns the number of timesteps in them that are in no other window."""
        if not num_windows:
            return 0
        num_timesteps = (num_windows - 1) * min(self.step, self.span) + self.span
        num_shared = max(0, self.taken_end - self.next_start)
        self.next_start += num_windows * self.step
        if self.count_complete():
            num_shared += max(0, self.span - self.step)
        return max(0, num_timesteps - num_shared)

    def take_rest(self) -> list[list[Timestep]]:
        """The window that ends with the stretch, unless it was taken; the whole of a stretch shorter than a clip."""
        end = self.num_forgotten + len(self.timesteps)
        return [self._get_window(max(0, end - self.span))] if end > self.taken_end else []

    def _get_window(self, start: int) -> list[Timestep]:
        first = start - self.num_forgotten
        return self.timesteps[first : first + self.span]
