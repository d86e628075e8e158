"""`StudioError`: a request that cannot be fulfilled, with its HTTP status and one sentence."""

from __future__ import annotations


class StudioError(Exception):
    """A request cannot be fulfilled. `status` is an HTTP status code; the text is one sentence for a person."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def __reduce__(self) -> tuple[type[StudioError], tuple[int, str]]:
        return StudioError, (self.status, str(self))  # pickled when it leaves a child process
