"""The server under requests made up from its own OpenAPI description: it fails at none, and describes every answer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("schemathesis")

import schemathesis
from hypothesis import HealthCheck, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from muybridge.studio.app import create_app
from muybridge.studio.config import StudioConfig
from muybridge.studio.folders import compute_project_id
from studio_client import HEADERS, TOKEN
from videos import write_video

pytestmark = pytest.mark.long
CHECKS = (not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance)
UNENDING = "/events$"


@pytest.fixture(scope="module")
def fuzzed_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "videos"
    folder.mkdir()
    write_video(folder / "a.mp4", 10)
    return folder


@pytest.fixture(scope="module")
def description(fuzzed_folder: Path) -> Iterator[Any]:
    config = StudioConfig(
        folders=(str(fuzzed_folder),),
        token=TOKEN,
        state_folder=str(fuzzed_folder.parent / "state"),
        allowed_hosts=("testserver",),
    )
    app = create_app(config)
    yield schemathesis.openapi.from_asgi("/api/openapi.json", app, headers=HEADERS).exclude(path_regex=UNENDING)
    app.state.studio.close()


def test_no_request_breaks_the_server(description: Any, fuzzed_folder: Path) -> None:
    operations = [result.ok() for result in description.get_all_operations()]
    assert len(operations) > 40
    for operation in operations:

        @given(case=operation.as_strategy())
        @settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
        def check(case: Any) -> None:
            if "project" in (case.path_parameters or {}):
                case.path_parameters["project"] = compute_project_id(fuzzed_folder.resolve())
            if "path" in (case.query or {}) and len(str(case.query["path"])) % 2:
                case.query["path"] = "a.mp4"
            case.call_and_validate(headers=HEADERS, checks=CHECKS, timeout=120)

        check()
        assert (fuzzed_folder / "a.mp4").exists()
        assert not [path for path in fuzzed_folder.parent.iterdir() if path.name not in ("videos", "state")]
