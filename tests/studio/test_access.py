"""Nobody gets in without the token, from another page, by another name, or out of the folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from muybridge.studio.access import AccessControl, AccessRules
from muybridge.studio.app import create_app
from muybridge.studio.config import StudioConfig, create_token, read_exported_config
from muybridge.studio.errors import StudioError
from muybridge.studio.feature_store import FeatureStore, IndexSettings, VideoFeatures
from muybridge.studio.folders import AllowedFolders
from muybridge.studio.jobs import JobStore
from muybridge.studio.training_runs import TrainingRequest, build_train_command
from studio_client import HEADERS, TOKEN, StudioClient


def test_without_the_token_only_health_answers(studio_client: StudioClient) -> None:
    client = studio_client.client
    client.cookies.clear()
    assert client.get("/api/health").json()["status"] == "ok"
    for address in ("/", "/api/projects", "/api/openapi.json", "/api/metrics", f"{studio_client.project}/videos"):
        assert client.get(address).status_code == 401, address
    wrong = {"Authorization": f"Bearer {TOKEN[:-1]}"}
    assert client.get("/api/projects", headers=wrong).status_code == 401
    assert client.get("/?token=wrong", follow_redirects=False).status_code == 401


def test_the_opened_address_sets_a_strict_cookie_that_suffices(studio_client: StudioClient) -> None:
    client = studio_client.client
    answer = client.get(f"/?token={TOKEN}", follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"] == "/"
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=Strict" in cookie
    assert client.get("/api/projects").status_code == 200
    client.cookies.clear()


@pytest.mark.parametrize(
    "headers",
    [
        {"Host": "evil.example"},
        {"Host": "localhost.evil.example:8420"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://127.0.0.1:9999"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
def test_other_pages_and_names_are_refused(studio_client: StudioClient, headers: dict[str, str]) -> None:
    body = {"folder": str(studio_client.folder)}
    assert studio_client.refuse("POST", "/api/projects", 403, json=body, headers=headers)
    assert studio_client.refuse("GET", "/api/projects", 403, headers=headers)


@pytest.mark.parametrize("host", ["localhost:8420", "127.0.0.1:8420", "[::1]:8420", "192.168.1.7"])
def test_this_machine_is_served_under_its_names(studio_client: StudioClient, host: str) -> None:
    headers = {"Host": host, "Origin": f"http://{host}"}
    assert studio_client.call("GET", "/api/projects", headers=headers)


def test_every_answer_confines_the_page(studio_client: StudioClient) -> None:
    for address in ("/api/health", "/api/projects", "/api/nothing"):
        headers = studio_client.request("GET", address).headers
        assert "default-src 'self'" in headers["content-security-policy"]
        assert "unsafe" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    "path", ["../secret.mp4", "/etc/passwd", "sub/../../secret.mp4", "linked.mp4", "linked_folder/secret.mp4"]
)
def test_paths_never_leave_the_folder(studio_client: StudioClient, path: str) -> None:
    folder = studio_client.folder
    if path.startswith("linked"):
        link = folder / path.split("/")[0]
        if not link.is_symlink():
            link.symlink_to(folder.parent / "secret.mp4" if path == "linked.mp4" else folder.parent)
    for route in ("video", "media", "frames", "frame", "annotations"):
        params = {"path": path, "index": 0} if route == "frame" else {"path": path}
        assert studio_client.refuse("GET", f"{studio_client.project}/{route}", 403, params=params)
    assert path not in [video["path"] for video in studio_client.get("videos")["videos"]]


@pytest.mark.parametrize("path", ["%2e%2e%2fsecret.mp4", "..%2fsecret.mp4", "%2fetc%2fpasswd", "..%5csecret.mp4"])
def test_encoded_paths_never_leave_the_folder(studio_client: StudioClient, path: str) -> None:
    response = studio_client.request("GET", f"{studio_client.project}/media?path={path}")
    assert response.status_code in (403, 404)


def test_other_folders_are_no_projects(studio_client: StudioClient, tmp_path: Path) -> None:
    assert "--allow" in studio_client.refuse("POST", "/api/projects", 403, json={"folder": str(tmp_path)})
    assert studio_client.refuse("POST", "/api/projects", 403, json={"folder": ".."})
    assert studio_client.refuse("GET", "/api/folders", 403, params={"path": "/"})
    assert studio_client.refuse("GET", "/api/folders", 400, params={"path": "a\0b"})


@pytest.mark.parametrize(
    "name", ["annotations.csv", "reviewed.csv", "runs", ".muybridge", ".muybridge/classes.json", ".muybridge/jobs"]
)
def test_a_project_whose_files_are_links_out_is_refused(tmp_path: Path, name: str) -> None:
    folder, outside = tmp_path / "videos", tmp_path / "outside"
    (folder / name).parent.mkdir(parents=True)
    (folder / "a.mp4").touch()
    if "." in Path(name).name[1:]:
        outside.write_text("path,label,start_seconds,end_seconds\na.mp4,walk,0,1\n")
    else:
        outside.mkdir()
    (folder / name).symlink_to(outside)
    before = outside.stat().st_mtime_ns
    config = StudioConfig(folders=(str(folder),), token=TOKEN, state_folder=str(tmp_path / "state"))
    with TestClient(create_app(config), base_url="http://127.0.0.1:8420") as opened:
        client = StudioClient(opened, folder)
        put = {"params": {"path": "a.mp4"}, "json": {"path": "a.mp4"}}
        sentence = client.refuse("PUT", f"{client.project}/annotations", 403, **put)
        assert sentence.startswith(f"{name} in this project is a link out of the folders")
        assert client.refuse("GET", f"{client.project}/runs", 403) == sentence
        assert client.refuse("GET", f"{client.project}/annotations", 403, params={"path": "a.mp4"}) == sentence
    assert outside.stat().st_mtime_ns == before
    allowed = StudioConfig((str(folder), str(outside)), token=TOKEN, state_folder=str(tmp_path / "state"))
    with TestClient(create_app(allowed), base_url="http://127.0.0.1:8420") as opened:
        client = StudioClient(opened, folder)
        assert client.get("jobs")["jobs"] == []


def test_what_a_job_or_the_index_writes_follows_no_link(tmp_path: Path) -> None:
    outside = tmp_path / "notes.txt"
    outside.write_text("mine")
    job = tmp_path / ".muybridge" / "jobs" / "20260101-000000-abcdef"
    job.mkdir(parents=True)
    (job / "job.json").write_text("{}")
    store = JobStore(tmp_path, tmp_path / "queues", AllowedFolders([tmp_path]))
    assert len(store.list_jobs()) == 1
    (job / "output.txt").symlink_to(outside)
    assert store.list_jobs() == []
    with pytest.raises(StudioError, match="is or holds a link"):
        store.read_output(job.name)

    (tmp_path / "a.mp4").touch()
    features = FeatureStore(tmp_path)
    rows = np.arange(3.0)
    video = VideoFeatures("a.mp4", rows, rows + 1, np.ones((3, 2), np.float32))
    features.prepare(IndexSettings("net", "net.safetensors", None, 4, "2026-01-01"))
    features.write(video)
    (stored,) = features.folder.glob("*.npz")
    stored.rename(tmp_path / "elsewhere.npz")
    stored.symlink_to(outside)
    assert not features.has("a.mp4")
    features.write(video)
    assert features.has("a.mp4")
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "first").symlink_to(tmp_path.parent / "absent")
    with pytest.raises(StudioError, match="there is a run"):
        build_train_command(TrainingRequest(name="first"), tmp_path, None)
    assert outside.read_text() == "mine"


def test_configuration_travels_by_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = StudioConfig(folders=(str(tmp_path),), token=create_token(), allowed_hosts=("studio.example",))
    monkeypatch.setenv("MUYBRIDGE_STUDIO_CONFIG", "")
    config.export()
    assert read_exported_config() == config
    assert config.token not in repr(config)
    with pytest.raises(ValueError, match="at least 16"):
        StudioConfig(folders=("/",), token="short")


def test_names_of_a_proxy_are_served() -> None:
    async def app(scope: object, receive: object, send: object) -> None:
        await send({"type": "http.response.start", "status": 204, "headers": []})  # type: ignore[operator]
        await send({"type": "http.response.body", "body": b""})  # type: ignore[operator]

    rules = AccessRules(TOKEN, "127.0.0.1", 8420, ("studio.example",))
    client = TestClient(AccessControl(app, rules), base_url="http://studio.example")  # type: ignore[arg-type]
    assert client.get("/x", headers=HEADERS).status_code == 204
    assert client.get("/x", headers={**HEADERS, "Host": "other.example"}).status_code == 403
