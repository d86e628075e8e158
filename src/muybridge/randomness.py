"""Random draws as pure functions of (seed, purpose, draw index).

Counter-based generators (Philox) have no state to save or send: a worker, a rank or a resumed run that knows the index of a
draw makes the same draw. `shuffle_index` computes a permutation one element at a time, so a data set of a million videos is
shuffled without a list of a million numbers and without communication between ranks.
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=64)
def _derive_key(seed: int, purpose: str) -> int:
    digest = hashlib.sha256(f"{seed}/{purpose}".encode()).digest()
    return int.from_bytes(digest[:16], "little")


def make_generator(seed: int, purpose: str, draw_index: int) -> np.random.Generator:
    """The random generator of draw number `draw_index` (>= 0) for `purpose`."""
    # The high half of the 256-bit counter holds the index, so that the streams of two draws never overlap.
    return np.random.Generator(np.random.Philox(key=_derive_key(seed, purpose), counter=draw_index << 128))


def hash_to_fraction(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) from a hash of the arguments, for random splits that do not depend on other names."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def shuffle_index(index: int, size: int, *, seed: int, purpose: str, permutation_index: int) -> int:
    """The image of `index` under permutation number `permutation_index` of range(size), in O(1). Raises ValueError outside it.

    A four-round Feistel network over the next even power of two, applied until the value is below `size` (cycle walking;
    fewer than four rounds on average).
    """
    if not 0 <= index < size:
        raise ValueError(f"index {index} is outside a permutation of {size} elements")
    half_bits = max(1, ((size - 1).bit_length() + 1) // 2)
    mask = (1 << half_bits) - 1
    keys = _derive_round_keys(seed, purpose, permutation_index)
    value = index
    while True:
        left, right = value >> half_bits, value & mask
        for key in keys:
            left, right = right, left ^ (_mix(right ^ key) & mask)
        value = (left << half_bits) | right
        if value < size:
            return value


@lru_cache(maxsize=16)
def _derive_round_keys(seed: int, purpose: str, permutation_index: int) -> tuple[int, int, int, int]:
    keys = make_generator(seed, f"{purpose}/permutation", permutation_index).integers(0, 2**63, size=4)
    return int(keys[0]), int(keys[1]), int(keys[2]), int(keys[3])


def _mix(value: int) -> int:
    """The 64-bit finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)
