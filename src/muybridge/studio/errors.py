"""`StudioError`: a request that cannot be fulfilled, with its HTTP status and one sentence; those of pydantic as sentences."""

from __future__ import annotations

from typing import Any

from muybridge.parsing import describe_problem


class StudioError(Exception):
    """A request cannot be fulfilled. `status` is an HTTP status code; the text is one sentence for a person."""

    def __init__(self, status: int, sentence: str) -> None:
        super().__init__(sentence)
        self.status = status

    def __reduce__(self) -> tuple[type[StudioError], tuple[int, str]]:
        return StudioError, (self.status, str(self))  # pickled when it leaves a child process


def describe_field(problem: Any, num_outer: int = 0) -> str:
    """One of pydantic's errors about a record, with the keys of its place but for so many outer ones."""
    keys = problem["loc"][num_outer:]
    sentence = describe_problem(problem, keys, "the body")
    return f"{'.'.join(map(str, keys))}: {sentence}" if keys and problem["type"] == "value_error" else sentence
