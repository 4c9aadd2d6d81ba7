"""Which random layer a seed stands for."""

from __future__ import annotations

import losses
import numpy as np
import sources
import values
import windows
from drawing import Layer, one_of

import nets
import shapes

GENERATORS = [g for module in (windows, values, shapes, losses, sources, nets) for g in module.GENERATORS]

NOT_DRAWN = {
    "Clip": "not in every Caffe 1.0; recorded in tests/golden",
    "HDF5Output": "its output is a file; tests/data reads it",
    "Input": "feeds all the others",
    "WindowData": "draws its windows; recorded in tests/data",
}
"""Caffe's types that no generator draws, and why."""


def draw(seed: int) -> Layer:
    """The layer that a seed stands for."""
    r = np.random.default_rng(seed)
    return one_of(r, *GENERATORS)(r)
