"""Muybridge: video action recognition with the spatiotemporal ResNets of Tran et al., CVPR 2018.

The public names; each is found when it is first used, so that `import muybridge` and `muybridge --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muybridge.inference.folded import optimize
    from muybridge.inference.int8 import quantize
    from muybridge.loading.clip_dataset import ClipDataset
    from muybridge.models.cost import cost
    from muybridge.models.family import list_models
    from muybridge.prediction.recognizer import load
    from muybridge.training.library import TrainedRun, iterate_training, train
    from muybridge.weights.card import save
    from muybridge.weights.pretrained import create_model
    from muybridge.weights.publish import push_to_hub

    __version__: str

HOMES = {
    "ClipDataset": "muybridge.loading.clip_dataset",
    "create_model": "muybridge.weights.pretrained",
    "list_models": "muybridge.models.family",
    "cost": "muybridge.models.cost",
    "optimize": "muybridge.inference.folded",
    "quantize": "muybridge.inference.int8",
    "save": "muybridge.weights.card",
    "load": "muybridge.prediction.recognizer",
    "train": "muybridge.training.library",
    "iterate_training": "muybridge.training.library",
    "TrainedRun": "muybridge.training.library",
    "push_to_hub": "muybridge.weights.publish",
}

__all__ = [
    "ClipDataset",
    "TrainedRun",
    "__version__",
    "cost",
    "create_model",
    "iterate_training",
    "list_models",
    "load",
    "optimize",
    "push_to_hub",
    "quantize",
    "save",
    "train",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import metadata  # slow to import

        return metadata.version("muybridge")
    if name not in HOMES:
        raise AttributeError(f"muybridge has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
