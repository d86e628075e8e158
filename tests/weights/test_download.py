"""Public weights: downloaded from a local HTTP server, verified, converted, cached."""

import hashlib
import http.server
import io
import re
import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

import muybridge
from muybridge.files.cache import get_cache_folder
from muybridge.models.family import list_models
from muybridge.models.network import create_model
from muybridge.weights import catalogue
from muybridge.weights.address import load_weights, resolve_weights_file
from muybridge.weights.card import compute_tensors_sha256, load_card
from muybridge.weights.catalogue import ENTRIES, CatalogueEntry, find_entry
from muybridge.weights.download import download_weights, resolve_cached_path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MUYBRIDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[Path, str, list[str]]]:
    """A folder that is served, its address, and the requests."""
    folder = tmp_path / "served"
    folder.mkdir()
    requests: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_: Any) -> None:
            requests.append(self.path)

    with socketserver.TCPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}", requests
        running.shutdown()
        thread.join()


def public(folder: Path, where: str, **changes: Any) -> tuple[CatalogueEntry, dict[str, torch.Tensor]]:
    """An entry of a small network that is served, and its tensors."""
    torch.manual_seed(0)
    state = create_model("mc2_10", num_classes=400, width=4).state_dict()
    torch.save(state, folder / "net.pth")
    prefix = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()[:8]
    entry = replace(
        ENTRIES[0], name="mc2_10-test", network="mc2_10", address=f"{where}/net.pth", sha256_prefix=prefix, **changes
    )
    return entry, state


def quiet() -> Console:
    return Console(file=io.StringIO(), force_terminal=True)


def test_a_downloaded_network_is_the_published_one_with_its_card(server: Any, cache: Path) -> None:
    folder, where, requests = server
    entry, state = public(folder, where)
    file = download_weights(entry)
    assert file == cache / "weights" / "mc2_10-test.safetensors"
    network, card = load_weights(file)
    assert compute_tensors_sha256(network.state_dict()) == compute_tensors_sha256(state) == card.tensors_sha256
    assert card.specification.norm_epsilon == 1e-5
    assert (card.classes[0], card.classes[-1], len(card.classes)) == ("abseiling", "zumba", 400)
    assert (card.preprocessing.frames_per_second, card.preprocessing.clip_length) == (15.0, 16)
    assert str(card.source_sha256).startswith(str(entry.sha256_prefix))
    assert all(part in card.source for part in (entry.address, "torchvision 0.28.0", "67.463"))
    assert card.licence.startswith("BSD-3-Clause")
    assert len(requests) == 1
    assert download_weights(entry) == file
    assert len(requests) == 1, "a cached file is not downloaded again"
    assert [path.name for path in cache.rglob("*") if path.is_file()] == [file.name]


def test_a_name_loads_like_a_file(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, where, requests = server
    entry, _ = public(folder, where)
    monkeypatch.setattr(catalogue, "ENTRIES", (entry,))
    recognizer = muybridge.load("mc2_10-test", device="cpu")
    assert recognizer.card.specification.name == "mc2_10"
    assert resolve_weights_file("mc2_10-test") == resolve_cached_path(entry)
    assert len(requests) == 1


def test_another_hash_is_refused(server: Any, cache: Path) -> None:
    folder, where, _ = server
    entry, _ = public(folder, where)
    content = bytearray((folder / "net.pth").read_bytes())
    content[-200] ^= 1
    (folder / "net.pth").write_bytes(content)
    with pytest.raises(
        ValueError, match=rf"its publisher gives {entry.sha256_prefix}.*it was not read; it was deleted"
    ):
        download_weights(entry)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_an_unpublished_hash_is_recorded_and_required(
    server: Any, cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, where, _ = server
    entry, _ = public(folder, where)
    entry = replace(entry, sha256_prefix=None)
    digest = hashlib.sha256((folder / "net.pth").read_bytes()).hexdigest()
    file = download_weights(entry)
    assert load_card(file).source_sha256 == digest
    assert f"publisher gives no hash; SHA-256 {digest} of this first download is recorded" in capsys.readouterr().err
    file.unlink()
    download_weights(entry)
    file.unlink()
    torch.save(create_model("mc2_10", num_classes=400, width=4).state_dict(), folder / "net.pth")
    with pytest.raises(ValueError, match=f"but the first download had {digest[:16]}"):
        download_weights(entry)


def test_without_network_the_error_says_what_to_download_and_where_to_put_it(server: Any, cache: Path) -> None:
    folder, where, _ = server
    entry, state = public(folder, where)
    with socketserver.TCPServer(("127.0.0.1", 0), None) as closed:  # type: ignore[arg-type]
        port = closed.server_address[1]
    for wrong in (f"http://127.0.0.1:{port}/net.pth", f"{where}/absent/net.pth", (cache / "absent/net.pth").as_uri()):
        unreachable = replace(entry, address=wrong)
        sentence = (
            f"{wrong} could not be downloaded (.*); download it by hand.* to {re.escape(str(cache))}/downloads/net.pth"
        )
        with pytest.raises(OSError, match=sentence):
            download_weights(unreachable)
    by_hand = cache / "downloads" / "net.pth"
    by_hand.write_bytes((folder / "net.pth").read_bytes())
    assert load_card(download_weights(unreachable)).tensors_sha256 == compute_tensors_sha256(state)
    assert by_hand.exists(), "a file placed by hand is not deleted"
    resolve_cached_path(entry).unlink()
    by_hand.write_bytes(b"something else")
    with pytest.raises(ValueError, match=f"delete {re.escape(str(by_hand))} and download it again"):
        download_weights(unreachable)


def test_a_truncated_download_leaves_no_file(server: Any, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, where, _ = server
    entry, _ = public(folder, where)

    class Torn(http.server.SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 1000)

        def log_message(self, *_: Any) -> None: ...

    with socketserver.TCPServer(("127.0.0.1", 0), Torn) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        try:
            with pytest.raises(OSError, match="could not be downloaded"):
                download_weights(
                    replace(entry, address=f"http://127.0.0.1:{running.server_address[1]}/net.pth"), quiet()
                )
        finally:
            running.shutdown()
            thread.join()
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_another_network_than_the_catalogue_entry_is_deleted(server: Any, cache: Path) -> None:
    folder, where, _ = server
    entry, _ = public(folder, where)
    for wrong in (replace(entry, network="mc3_10"), replace(entry, num_classes=487, has_class_names=False)):
        with pytest.raises(ValueError, match="holds mc2_10 with 400 classes, but the catalogue expects"):
            download_weights(wrong)
    assert not [path for path in cache.rglob("*") if path.is_file()]


def test_environment_variables_set_the_cache_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUYBRIDGE_CACHE", "/a")
    monkeypatch.setenv("XDG_CACHE_HOME", "/b")
    assert get_cache_folder() == Path("/a")
    monkeypatch.delenv("MUYBRIDGE_CACHE")
    assert get_cache_folder() == Path("/b/muybridge")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert get_cache_folder() == Path.home() / ".cache" / "muybridge"


def test_the_catalogue_is_consistent() -> None:
    assert len({entry.name for entry in ENTRIES}) == len({entry.address for entry in ENTRIES}) == len(ENTRIES)
    for entry in ENTRIES:
        assert find_entry(entry.name) is entry
        assert entry.network in list_models()
        assert entry.name.startswith(f"{entry.network}-")
        assert entry.read_from and entry.licence and entry.address.startswith("https://")
        if entry.sha256_prefix is not None:
            assert re.search(rf"-{entry.sha256_prefix}\.pth$", entry.address), "both publishers put it into the name"
        assert entry.preprocessing.clip_length == entry.clip_length
    assert {entry.network for entry in ENTRIES} >= {
        f"{name}_18" for name in ("r2d", "f_r2d", "rmc5", "mc2", "r2plus1d")
    }
    names = (Path(catalogue.__file__).parent / "kinetics400.txt").read_text(encoding="utf-8").splitlines()
    assert len(set(names)) == 400
    assert names == sorted(names, key=str.casefold)
    spaced = find_entry("r2plus1d_34-ig65m_kinetics400-vmz-8f")
    assert spaced is not None
    assert spaced.file_name == "r2plus1d_34_clip8_ft_kinetics_from_ig65m_ f128022400.pkl"
    assert spaced.url.endswith("?dl=1")
