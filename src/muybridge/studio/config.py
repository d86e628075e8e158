"""`StudioConfig`: what a studio server was started with. It travels to worker processes as JSON in an environment variable."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

from annotated_types import Interval

from muybridge.bounds import check_fields
from muybridge.files.cache import get_cache_folder
from muybridge.parsing import parse_json_object, parse_record
from muybridge.text import format_count

CONFIG_VARIABLE = "MUYBRIDGE_STUDIO_CONFIG"

NumBytes = Annotated[int, Interval(ge=1, le=1 << 50)]


@dataclass(frozen=True)
class StudioConfig:
    """Options of a studio server. `folders` are the allowed folders, absolute and without links; the first one is opened."""

    folders: tuple[str, ...]
    token: str = field(repr=False)
    host: str = "127.0.0.1"
    port: Annotated[int, Interval(ge=0, le=65_535)] = 8420
    allowed_hosts: tuple[str, ...] = ()
    """Names under which a reverse proxy serves the studio, beside the machine's own."""
    model: str | None = None
    """The network of `POST /api/predict` where a request names none."""
    state_folder: str = ""
    """Where uploads, transcoded videos and the list of projects are kept; by default in the user's cache folder."""
    max_upload_bytes: NumBytes = 4 << 30
    """Size of an upload."""
    decode_seconds: Annotated[float, Interval(gt=0, le=100_000)] = 60.0
    """Time in which a video must be examined, or a frame decoded, beside what a slow disk takes to read the file once."""
    predict_seconds: Annotated[float, Interval(gt=0, le=1_000_000)] = 600.0
    """Time in which `POST /api/predict` and `/api/timeline` must answer."""
    child_bytes: NumBytes = 16 << 30
    """Memory of a child process that decodes or predicts."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.folders:
            raise ValueError("the studio has no folder; name at least one")
        if len(self.token) < 16:
            raise ValueError(f"the token has {format_count(len(self.token), 'character')}, expected at least 16")
        if not self.state_folder:
            object.__setattr__(self, "state_folder", str(get_cache_folder() / "studio"))

    @property
    def state_path(self) -> Path:
        """`state_folder` as a path."""
        return Path(self.state_folder)

    def export(self) -> None:
        """Store the configuration in the environment of this process, for workers that it starts."""
        os.environ[CONFIG_VARIABLE] = json.dumps(asdict(self))


def create_token() -> str:
    """A new random token of 43 characters."""
    return secrets.token_urlsafe(32)


def read_exported_config() -> StudioConfig:
    """The configuration that `StudioConfig.export` stored. Raises ValueError where there is none."""
    text = os.environ.get(CONFIG_VARIABLE)
    if text is None:
        raise ValueError(
            f"the environment variable {CONFIG_VARIABLE} is not set; start the server with `muybridge studio`"
        )
    values: dict[str, Any] = parse_json_object(text, CONFIG_VARIABLE)
    return parse_record(StudioConfig, values, CONFIG_VARIABLE)
