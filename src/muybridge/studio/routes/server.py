"""Routes: the state of the server itself."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter

import muybridge
from muybridge.studio.annotation_records import StudioRecord

router = APIRouter(tags=["server"])


class _Health(StudioRecord):
    status: Literal["ok"]
    version: str


@router.get("/health")
def _get_health() -> _Health:
    """Whether the server answers. Needs no token."""
    return _Health(status="ok", version=muybridge.__version__)
