"""Where random numbers come from: one seed a net, one generator a layer.

A layer's generator depends on the net's seed and the layer's name alone, so adding a layer does not change what the
others draw, and a snapshot can keep each layer's state.
"""

from __future__ import annotations

import zlib

import numpy as np

_seeds = np.random.default_rng()


def set_random_seed(seed: int) -> None:
    """Make every net built from here on, in this order, repeatable (pycaffe's `set_random_seed`)."""
    global _seeds
    _seeds = np.random.default_rng(seed)


def next_seed() -> int:
    """A seed for a net that was given none."""
    return int(_seeds.integers(2**63))


def layer_generator(seed: int, name: str) -> np.random.Generator:
    """The generator of the layer `name` in a net of `seed`."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])
