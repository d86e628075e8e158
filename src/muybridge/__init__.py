"""Muybridge: video action recognition with the spatiotemporal ResNets of Tran et al., CVPR 2018.

The public names; each is found when it is first used, so that `import muybridge` and `muybridge --help` stay quick.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from muybridge.inference.folded import optimize
    from muybridge.inference.int8 import quantize
    from muybridge.models.cost import cost
    from muybridge.models.family import list_models
    from muybridge.models.network import create_model
    from muybridge.prediction.recognizer import load
    from muybridge.weights.card import save

HOMES = {
    "create_model": "muybridge.models.network",
    "list_models": "muybridge.models.family",
    "cost": "muybridge.models.cost",
    "optimize": "muybridge.inference.folded",
    "quantize": "muybridge.inference.int8",
    "save": "muybridge.weights.card",
    "load": "muybridge.prediction.recognizer",
}

__all__ = ["cost", "create_model", "list_models", "load", "optimize", "quantize", "save"]


def __getattr__(name: str) -> Any:
    if name not in HOMES:
        raise AttributeError(f"muybridge has no {name!r}; it has {', '.join(__all__)}")
    return getattr(import_module(HOMES[name]), name)


def __dir__() -> list[str]:
    return __all__
