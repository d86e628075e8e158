import base64
import errno
import hashlib
import json
import socketserver
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch

import muybridge
from muybridge.cli.main import exit_code
from muybridge.records import Preprocessing
from muybridge.weights.card import NO_CLASSIFIER

pytest.importorskip("huggingface_hub")
COMMIT = "0123456789abcdef0123456789abcdef01234567"


class StandIn(BaseHTTPRequestHandler):
    """The requests of the Hub that a push and a download make; files are kept in memory."""

    files: ClassVar[dict[str, bytes]] = {}
    repositories: ClassVar[set[str]] = set()
    created: ClassVar[list[tuple[str | None, Any]]] = []  # token and privacy of each repository
    refusal: ClassVar[tuple[int, str] | None] = None  # status and message of every answer
    protocol_version = "HTTP/1.1"

    def answer(self, status: int, body: bytes = b"", headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/api/repos/create":
            values = json.loads(body)
            name = f"{values['organization']}/{values['name']}" if values.get("organization") else values["name"]
            self.repositories.add(name)
            self.created.append((self.headers["Authorization"], values.get("private") or values.get("visibility")))
            self.answer(200, json.dumps({"url": f"http://{self.headers['Host']}/{name}"}).encode())
        elif self.path == "/api/validate-yaml":
            self.answer(200, json.dumps({"warnings": [], "errors": []}).encode())
        elif "/preupload/" in self.path:
            files = [
                {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                for file in json.loads(body)["files"]
            ]
            self.answer(200, json.dumps({"files": files}).encode())
        elif "/commit/" in self.path:
            for line in map(json.loads, body.splitlines()):
                if line["key"] == "file":
                    self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
            url = f"http://{self.headers['Host']}/name/clips/commit/{COMMIT}"
            self.answer(200, json.dumps({"success": True, "commitOid": COMMIT, "commitUrl": url}).encode())
        else:
            self.answer(404)

    def do_GET(self) -> None:
        name = self.path.rpartition("/")[2]
        repository = "/".join(self.path.split("/")[1:3])
        if self.refusal:
            self.answer(self.refusal[0], b"{}", {"X-Error-Message": self.refusal[1]})
        elif repository not in self.repositories:
            self.answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
        elif name not in self.files:
            self.answer(404, b"{}", {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        else:
            etag = f'"{hashlib.sha1(self.files[name]).hexdigest()}"'
            self.answer(200, self.files[name], {"ETag": etag, "X-Repo-Commit": COMMIT})

    do_HEAD = do_GET

    def log_message(self, format: str, *values: Any) -> None:
        """Print nothing."""


def point_to(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    template = address + "/{repo_id}/resolve/{revision}/{filename}"
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", address)
    monkeypatch.setattr("huggingface_hub.constants.HUGGINGFACE_CO_URL_TEMPLATE", template)
    # Version 0.36 copies it.
    monkeypatch.setattr("huggingface_hub.file_download.HUGGINGFACE_CO_URL_TEMPLATE", template, raising=False)


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[type[StandIn]]:
    StandIn.files, StandIn.repositories, StandIn.created, StandIn.refusal = {}, set(), [], None
    server = ThreadingHTTPServer(("127.0.0.1", 0), StandIn)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    point_to(f"http://127.0.0.1:{server.server_port}", monkeypatch)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield StandIn
    server.shutdown()
    server.server_close()


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    network = muybridge.create_model("r2plus1d_10", num_classes=2, width=4, clip_length=4)
    preprocessing = Preprocessing(clip_length=4, crop=16)
    muybridge.save(network, tmp_path / "w.safetensors", classes=("wave", "clap"), preprocessing=preprocessing)
    return tmp_path / "w.safetensors"


@pytest.mark.filterwarnings("ignore")  # of huggingface_hub's own
def test_what_was_pushed_is_what_is_loaded(weights: Path, stand_in: type[StandIn]) -> None:
    address = muybridge.push_to_hub(weights, "name/clips", token="hf_nothing")
    muybridge.push_to_hub(weights, "name/clips", private=True)
    assert [token for token, _ in stand_in.created] == ["Bearer hf_nothing", None]
    assert stand_in.created[1][1] in (True, "private") and stand_in.created[0][1] not in (True, "private")
    assert address == "hf://name/clips"
    assert stand_in.files["model.safetensors"] == weights.read_bytes()
    readme = stand_in.files["README.md"].decode()
    assert "# R(2+1)D-10" in readme
    assert "2: wave, clap" in readme
    assert 'muybridge.load("hf://name/clips")' in readme
    loaded, expected = muybridge.load(address, "cpu"), muybridge.load(weights, "cpu")
    assert loaded.card == expected.card
    clips = torch.randn(1, 3, 4, 16, 16)
    assert torch.equal(loaded(clips), expected(clips))
    assert muybridge.create_model("r2plus1d_10", weights=address).specification == loaded.card.specification


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("num_classes", [20, 21])
def test_the_page_of_a_network_of_many_classes_shows_twenty(
    tmp_path: Path, stand_in: type[StandIn], num_classes: int
) -> None:
    network = muybridge.create_model("r2plus1d_10", num_classes=num_classes, width=4, clip_length=4)
    names = [f"class {number}" for number in range(num_classes)]
    muybridge.save(
        network, tmp_path / "w.safetensors", classes=names, preprocessing=Preprocessing(clip_length=4, crop=16)
    )
    muybridge.push_to_hub(tmp_path / "w.safetensors", "name/clips")
    [line] = [line for line in stand_in.files["README.md"].decode().splitlines() if line.startswith("| classes |")]
    more = ", and 1 more" if num_classes == 21 else ""
    assert line == f"| classes | {num_classes}: {', '.join(names[:20])}{more} |"


@pytest.mark.filterwarnings("ignore")
def test_the_page_of_weights_without_a_classifier_names_no_class(tmp_path: Path, stand_in: type[StandIn]) -> None:
    network = muybridge.create_model("r2plus1d_10", num_classes=1, width=4, clip_length=4)
    preprocessing = Preprocessing(clip_length=4, crop=16)
    muybridge.save(network, tmp_path / "w.safetensors", classes=NO_CLASSIFIER, preprocessing=preprocessing)
    muybridge.push_to_hub(tmp_path / "w.safetensors", "name/clips")
    readme = stand_in.files["README.md"].decode()
    assert "| classes | none: the weights have no classifier |" in readme
    assert 'print(recognizer.features("video.mp4"))' in readme


@pytest.mark.filterwarnings("ignore")
def test_what_is_not_there_is_a_sentence(weights: Path, stand_in: type[StandIn]) -> None:
    for address, sentence in (
        ("hf://name", "is no address on the Hub; expected hf://NAME/REPOSITORY"),
        ("hf://name/absent", "there is no hf://name/absent on the Hub"),
    ):
        with pytest.raises(ValueError, match=sentence):
            muybridge.load(address)
    stand_in.repositories.add("name/empty")
    with pytest.raises(ValueError, match=r"hf://name/empty holds no model\.safetensors"):
        muybridge.load("hf://name/empty")
    with pytest.raises(ValueError, match="expected NAME/REPOSITORY"):
        muybridge.push_to_hub(weights, "clips")


@pytest.fixture
def unreachable(stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing listens where the Hub should be; huggingface_hub does not wait before it tries again."""
    with socketserver.TCPServer(("127.0.0.1", 0), None) as closed:  # type: ignore[arg-type]
        point_to(f"http://127.0.0.1:{closed.server_address[1]}", monkeypatch)
    monkeypatch.setattr("time.sleep", lambda seconds: None)


@pytest.mark.usefixtures("unreachable")
@pytest.mark.filterwarnings("ignore")
def test_a_hub_that_cannot_be_reached_is_not_taken_for_an_empty_repository(weights: Path) -> None:
    sentence = (
        r"the Hugging Face Hub cannot be reached, so hf://name/clips was not {} \(.*Connection refused.*\); check the"
    )
    with pytest.raises(ConnectionError, match=sentence.format("downloaded")) as refused:
        muybridge.load("hf://name/clips")
    assert exit_code(refused.value) == 1
    with pytest.raises(ConnectionError, match=sentence.format("written")):
        muybridge.push_to_hub(weights, "name/clips", token="hf_nothing")


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ((500, "out of order"), "the Hugging Face Hub cannot be reached, so hf://name/clips was not downloaded .*500"),
        (
            (401, "Invalid credentials in Authorization header"),
            r"the Hub refused hf://name/clips \(.*401.*check HF_TOKEN",
        ),
    ],
)
def test_a_hub_that_answers_with_an_error_is_a_sentence(
    stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch, refusal: tuple[int, str], sentence: str
) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)
    stand_in.refusal = refusal
    with pytest.raises(ConnectionError, match=sentence) as refused:
        muybridge.load("hf://name/clips")
    assert "\n" not in str(refused.value)


@pytest.mark.filterwarnings("ignore")
def test_a_full_disk_is_not_taken_for_an_unreachable_hub(
    stand_in: type[StandIn], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fill)
    with pytest.raises(OSError, match=r"\[Errno 28\] No space left on device"):
        muybridge.load("hf://name/clips")


def test_without_the_extra_an_error_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)  # importing it now fails
    with pytest.raises(ImportError, match=r"pip install 'muybridge\[hub\]'"):
        muybridge.load("hf://name/clips")
