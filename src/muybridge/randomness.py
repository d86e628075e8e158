"""The one home of random draws: every draw is a pure function of (seed, purpose, number).

Counter-based generators (Philox) need no state to be saved or sent: a worker, a rank or a resumed run that knows the number
of a draw makes the same draw. `shuffle_index` is a permutation that is computed one place at a time, so a data set of
a million videos is shuffled without a list of a million numbers and without ranks talking to each other.
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
    """The random generator of one draw. `number` >= 0 counts the draws of that purpose."""
    # The high half of the 256-bit counter holds the number: draws never run into each other's stream.
    return np.random.Generator(np.random.Philox(key=_derive_key(seed, purpose), counter=draw_index << 128))


def hash_to_fraction(seed: int, purpose: str, name: str) -> float:
    """A number in [0, 1) that depends on nothing but its arguments: for splits drawn by a hash of a name."""
    digest = hashlib.sha256(f"{seed}/{purpose}/{name}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def shuffle_index(index: int, size: int, *, seed: int, purpose: str, permutation_index: int) -> int:
    """Where `position` goes in permutation `number` of range(size): O(1), a bijection.

    A four-round Feistel network over the next even power of two, walked until it falls inside (cycle walking; fewer than
    four steps on average).
    """
    if not 0 <= index < size:
        raise ValueError(f"position {index} is outside of a permutation of {size}")
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
    """The 64-bit finaliser of SplitMix64 (Steele et al., OOPSLA 2014)."""
    value = (value + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)
