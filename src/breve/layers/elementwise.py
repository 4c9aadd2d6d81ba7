"""What layers that treat each element alike have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.layers.base import Layer


def sigmoid(x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
    """1 / (1 + exp(-x)) as tanh(x / 2) / 2 + 1/2, which cannot overflow."""
    y = np.multiply(x, 0.5, out=out)
    np.tanh(y, out=y)
    y *= 0.5
    y += 0.5
    return y


class ElementwiseLayer(Layer):
    """One bottom, one top of the same shape and memory order, in place if wished.

    Such layers work on `memory` and `diff_memory`: which axis lies where is nothing to them.
    """

    in_place: ClassVar[bool] = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top takes the bottom's shape."""
        top[0].reshape_like(bottom[0])


class KeepsBottom(ElementwiseLayer):
    """An element-wise layer whose gradient needs the bottom's data: in place it keeps a copy of them."""

    def keep_bottom(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> np.ndarray:
        """The bottom's values, still there in backward as `self.bottom_data`."""
        bottom_data = bottom[0].memory
        self.bottom_data = bottom_data.copy() if top[0] is bottom[0] else bottom_data
        return self.bottom_data
