"""Weights on the Hugging Face Hub (extra `hub`): push a run or a file, and load by an address such as `hf://NAME/REPOSITORY`.

A repository holds `model.safetensors`, which has the card, and a README.md made from the card. Requests, caching and tokens are
huggingface_hub's (HF_ENDPOINT, HF_HOME, HF_TOKEN). No code is downloaded, and nothing but safetensors is loaded.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muybridge.models.family import format_paper_name
from muybridge.weights.card import Card

PREFIX = "hf://"
_WEIGHTS = "model.safetensors"


def is_hub_address(address: str | Path) -> bool:
    """Whether an address of weights is one on the Hub."""
    return isinstance(address, str) and address.startswith(PREFIX)


def download_from_hub(address: str) -> Path:
    """The weights file of `hf://NAME/REPOSITORY[@REVISION]`, from the cache if it is there.

    Raises ImportError without huggingface_hub, ValueError for an address that is none or holds no weights, OSError where the
    Hub cannot be reached.
    """
    hub = _import_hub()
    repository, _, revision = address.removeprefix(PREFIX).partition("@")
    if repository.count("/") != 1:
        raise ValueError(
            f"{address} is no address on the Hub; expected {PREFIX}NAME/REPOSITORY, and @REVISION after it"
        )
    try:
        with _name_unreachable_hub(hub, f"{address} was not downloaded"):
            return Path(hub.hf_hub_download(repository, _WEIGHTS, revision=revision or None))
    except hub.errors.EntryNotFoundError as error:
        raise ValueError(f"{address} holds no {_WEIGHTS}; push one with muybridge.push_to_hub") from error
    except (hub.errors.RepositoryNotFoundError, hub.errors.RevisionNotFoundError) as error:
        raise ValueError(f"there is no {address} on the Hub, or it needs a token (HF_TOKEN)") from error
    except hub.errors.HfHubHTTPError as error:
        raise ConnectionError(f"the Hub refused {address} ({_format_reason(error)}); check HF_TOKEN") from error


def push_weights(file: Path, card: Card, repository: str, *, private: bool, token: str | None) -> str:
    """Upload a weights file and a README made from its card; returns the address to load it by.

    Raises ValueError for a name that is none, OSError where the Hub cannot be reached or refuses.
    """
    hub = _import_hub()
    if repository.removeprefix(PREFIX).count("/") != 1:
        raise ValueError(f"{repository!r} is no repository on the Hub; expected NAME/REPOSITORY")
    repository = repository.removeprefix(PREFIX)
    api = hub.HfApi(token=token)
    operations = [
        hub.CommitOperationAdd("README.md", _format_readme(card, repository).encode()),
        hub.CommitOperationAdd(_WEIGHTS, str(file)),
    ]
    with _name_unreachable_hub(hub, f"{PREFIX}{repository} was not written"):
        api.create_repo(repository, private=private, exist_ok=True)
        api.create_commit(repository, operations, commit_message=f"Weights of {card.specification.name}")
    return f"{PREFIX}{repository}"


@contextmanager
def _name_unreachable_hub(hub: Any, consequence: str) -> Iterator[None]:
    """Turns the errors of a connection into one with a sentence. Answers of the Hub and errors of the disk stay as they are."""
    try:
        yield
    except (hub.errors.HTTPError, OSError) as error:  # httpx's errors are no OSErrors
        # The Hub could not be asked, and the cache has no such file; in some versions these, too, are answers.
        is_not_cached = isinstance(error, hub.errors.LocalEntryNotFoundError)
        is_answer = isinstance(error, hub.errors.HfHubHTTPError) and not is_not_cached
        if is_answer or getattr(error, "errno", None):
            raise
        raise ConnectionError(
            f"the Hugging Face Hub cannot be reached, so {consequence} ({_format_reason(error.__cause__ or error)}); check the "
            "connection, HF_ENDPOINT and HF_HUB_OFFLINE, then try again"
        ) from error


def _format_reason(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _format_readme(card: Card, repository: str) -> str:
    """The model card that the Hub shows: what the network is, how its input is made, and how to use it."""
    preprocessing = card.preprocessing
    rate = preprocessing.frames_per_second
    clip = f"{preprocessing.clip_length} frames, one in {preprocessing.frame_stride}" + (
        f", at {rate:g} frames a second" if rate else ", at the rate of the video"
    )
    names = ", ".join(card.classes[:20]) + (f", and {len(card.classes) - 20} more" if len(card.classes) > 20 else "")
    classes = f"{len(card.classes)}: {names}" if card.has_classifier else "none: the weights have no classifier"
    use = 'predict("video.mp4").classes' if card.has_classifier else 'features("video.mp4")'
    size = f"{preprocessing.scale_height}x{preprocessing.scale_width}, crop {preprocessing.crop}"
    return (
        "---\nlibrary_name: muybridge\npipeline_tag: video-classification\ntags:\n- video-classification\n---\n\n"
        f"# {format_paper_name(card.specification)}\n\n"
        f"| | |\n|---|---|\n| network | {card.specification.name} |\n| input | {preprocessing.modality}, {size} |\n"
        f"| clip | {clip} |\n| classes | {classes} |\n"
        f"| source | {card.source} |\n| licence | {card.licence} |\n\n"
        "```python\nimport muybridge\n\n"
        f'recognizer = muybridge.load("{PREFIX}{repository}")\nprint(recognizer.{use})\n```\n'
    )


def _import_hub() -> Any:
    try:
        import huggingface_hub  # noqa: PLC0415 - an optional dependency
        import huggingface_hub.errors  # noqa: PLC0415 - not loaded by the package
    except ImportError as error:
        raise ImportError("the Hugging Face Hub needs: pip install 'muybridge[hub]'") from error
    return huggingface_hub
