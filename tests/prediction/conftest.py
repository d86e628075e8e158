from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tests.videos import write_video

from gray_frames import GrayFrames


@pytest.fixture
def frames() -> Callable[..., GrayFrames]:
    return GrayFrames


@pytest.fixture
def new_video() -> Callable[..., Path]:
    return write_video
