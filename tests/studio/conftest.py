"""A studio over a folder with two small videos, and a client that has its token."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

pytest.importorskip("fastapi")

from fastapi.testclient import TestClient

from muybridge.studio.app import create_app
from muybridge.studio.config import StudioConfig
from studio_client import TOKEN, StudioClient
from videos import write_video


@pytest.fixture(scope="module")
def studio_client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[StudioClient]:
    root = tmp_path_factory.mktemp("studio")
    folder = root / "videos"
    (folder / "sub").mkdir(parents=True)
    write_video(folder / "a.mp4", 50)
    write_video(folder / "sub" / "b.avi", 30, codec="mpeg4")
    (folder / "broken.mp4").write_bytes(b"no video at all")
    (root / "secret.mp4").write_bytes((folder / "a.mp4").read_bytes())
    config = StudioConfig(folders=(str(folder),), token=TOKEN, state_folder=str(root / "state"))
    with TestClient(create_app(config), base_url="http://127.0.0.1:8420") as client:
        yield StudioClient(client, folder)
