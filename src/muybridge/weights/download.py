"""Download, verify and convert weights of the catalogue, once.

Input: a `CatalogueEntry`. Output: CACHE/weights/NAME.safetensors, where CACHE is `get_cache_folder()`. Without network access,
the file can be placed in CACHE/downloads/ by hand; the error message says so. Not pooch and not torch.hub: see
docs/decisions.md.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from http.client import HTTPException
from pathlib import Path

from rich.console import Console

from muybridge.console import PlainConsole, create_progress
from muybridge.files.atomic import write_text
from muybridge.files.cache import get_cache_folder
from muybridge.files.hashing import hash_file
from muybridge.text import format_count
from muybridge.weights.card import SUFFIX, Card, load_card
from muybridge.weights.catalogue import ENTRIES, CatalogueEntry, find_entry
from muybridge.weights.importing import ImportOptions, import_weights

TIMEOUT_SECONDS = 30.0  # without receiving a byte
BLOCK_BYTES = 1 << 20


def resolve_cached_path(entry: CatalogueEntry) -> Path:
    """The path of the converted weights of an entry, whether downloaded yet or not."""
    return get_cache_folder() / "weights" / f"{entry.name}{SUFFIX}"


def download_weights(entry: CatalogueEntry, console: Console | None = None) -> Path:
    """Return the weights file of an entry, downloading it if it is not in the cache; `console` shows progress (stderr).

    OSError if the download fails; the message says which file to download by hand and where to put it. ValueError if the file
    has another hash than published or is not the network of the entry.
    """
    target = resolve_cached_path(entry)
    if target.exists():
        return target
    console = console or PlainConsole()
    manual_path = get_cache_folder() / "downloads" / entry.file_name
    file = manual_path if manual_path.exists() else _download(entry, manual_path, console)
    try:
        digest = _verify_hash(entry, file, manual_path)
        _convert(entry, file, target, console)
    finally:
        if file != manual_path:
            file.unlink(missing_ok=True)
    if entry.sha256_prefix is None:
        write_text(_resolve_hash_path(entry), f"{digest}  {entry.file_name}\n")
        console.print(
            f"its publisher gives no hash; SHA-256 {digest} of this first download is recorded and required from now on",
            highlight=False,
        )
    return target


def _convert(entry: CatalogueEntry, file: Path, target: Path, console: Console) -> None:
    """Import the downloaded file to `target`, which appears only if it is the expected network."""
    options = ImportOptions(
        source=entry.source,
        classes=entry.classes_file,
        preprocessing=entry.preprocessing,
        stem_pool=False,
        origin=f"{entry.name}: {entry.address} (address read from {entry.read_from}). Published: "
        f"{entry.published_accuracy or 'no accuracy'}",
        licence=entry.licence,
    )
    staged = target.with_name(f".{target.name}.{os.getpid()}{SUFFIX}")
    try:
        for assumption in import_weights(file, staged, options).assumptions:
            console.print(f"assumed: {assumption}", highlight=False)
        _check_network(entry, staged)
        staged.replace(target)
    finally:
        staged.unlink(missing_ok=True)


def _resolve_hash_path(entry: CatalogueEntry) -> Path:
    return get_cache_folder() / "weights" / f"{entry.name}.sha256"


def is_public(address: str | Path, card: Card) -> bool:
    """Whether weights are of the catalogue: by their name, or by the hash of the file that they were imported from."""
    if not Path(address).exists() and find_entry(str(address)):
        return True
    known = [expected for entry in ENTRIES if (expected := _read_known_hash(entry))]
    return card.source_sha256 is not None and card.source_sha256.startswith(tuple(known))


def _read_known_hash(entry: CatalogueEntry) -> str | None:
    """The beginning of the SHA-256 of an entry's file: as published, else that of the first download, None before one."""
    if entry.sha256_prefix is None and _resolve_hash_path(entry).exists():
        return _resolve_hash_path(entry).read_text(encoding="utf-8").split()[0]
    return entry.sha256_prefix


def _verify_hash(entry: CatalogueEntry, file: Path, manual_path: Path) -> str:
    """The SHA-256 of the file. ValueError unless it has the published prefix or, without one, equals the recorded hash."""
    _, digest = hash_file(file)
    expected = _read_known_hash(entry)
    owner = "its publisher gives" if entry.sha256_prefix else "the first download had"
    if expected is not None and not digest.startswith(expected):
        remedy = f"delete {manual_path} and download it again" if file == manual_path else "it was deleted; try again"
        raise ValueError(
            f"{entry.file_name} of {entry.url} has the SHA-256 {digest[:16]}..., but {owner} {expected[:16]}...; it was not "
            f"read; {remedy}"
        )
    return digest


def _check_network(entry: CatalogueEntry, file: Path) -> None:
    specification = load_card(file).specification
    if specification.name != entry.network or entry.num_classes not in (None, specification.num_classes):
        raise ValueError(
            f"{entry.file_name} holds {specification.name} with "
            f"{format_count(specification.num_classes, 'class')}, but the catalogue expects "
            f"{entry.network} with {entry.num_classes}; it was deleted"
        )


def _download(entry: CatalogueEntry, manual_path: Path, console: Console) -> Path:
    """Download the complete file to a temporary name."""
    partial = manual_path.with_name(f".{entry.file_name}.{os.getpid()}.partial")
    partial.parent.mkdir(parents=True, exist_ok=True)
    try:
        with urllib.request.urlopen(entry.url, timeout=TIMEOUT_SECONDS) as response:
            size = int(response.headers.get("Content-Length") or 0)
            console.print(f"downloading {entry.url}", highlight=False)
            with partial.open("wb") as file, create_progress(console) as bar:
                task = bar.add_task(entry.name, total=size or None, figures=())
                num_bytes = 0
                while block := response.read(BLOCK_BYTES):
                    file.write(block)
                    num_bytes += len(block)
                    total = f"/{size / 1e6:.1f}" if size else ""
                    bar.update(task, completed=num_bytes, figures=(f"{num_bytes / 1e6:.1f}{total} MB",))
        if size and partial.stat().st_size != size:
            raise ConnectionError(f"the connection closed after {partial.stat().st_size} of {size} bytes")
    except (OSError, HTTPException) as error:  # urllib's URLError and time-outs are OSErrors
        partial.unlink(missing_ok=True)
        reason = error.reason if isinstance(error, urllib.error.URLError) else error
        raise ConnectionError(
            f"{entry.url} could not be downloaded ({reason}); download it by hand, on any machine, to {manual_path}, "
            "then run the same command again"
        ) from error
    return partial
