"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise
from breve.layers.elementwise import ElementwiseLayer


class Dropout(ElementwiseLayer):
    """Zeroes a random share of the values while training, and scales the others up to keep their mean.

    Forward: TRAIN: y = x m / (1 - dropout_ratio), m = 0 with probability dropout_ratio, else 1; TEST: y = x.
    Backward: TRAIN: dx = dy m / (1 - dropout_ratio), with the same m; TEST: dx = dy.
    Fields: dropout_param: `dropout_ratio` (0.5).
    Errors: a ratio below 0, or 1 and above.
    Source: Caffe's dropout_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the ratio."""
        self.ratio = self.param.dropout_param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise LayerError("dropout_param.dropout_ratio is out of range", expected="0 <= ratio < 1", found=self.ratio)
        self.draws = self.phase == "TRAIN"
        self.scale = self.dtype.type(1 / (1 - self.ratio))
        self.mask = np.empty(0, np.uint8)
        """1 where a value was kept, in the order of memory."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make room for the mask."""
        super().reshape(bottom, top)
        if self.phase == "TRAIN" and self.mask.size != bottom[0].count:
            self.mask = np.ones(bottom[0].count, np.uint8)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Draw a mask and apply it."""
        if self.phase == "TRAIN":
            elementwise.draw_mask(self.rng.integers(2**32, size=2, dtype=np.uint32), self.ratio, self.mask)
            elementwise.apply_mask(bottom[0].memory, self.mask, self.scale, top[0].memory)
        elif top[0] is not bottom[0]:
            top[0].memory[...] = bottom[0].memory

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Apply the same mask."""
        if not propagate_down[0]:
            return
        if self.phase == "TRAIN":
            elementwise.apply_mask(top[0].diff_memory, self.mask, self.scale, bottom[0].diff_memory)
        elif top[0] is not bottom[0]:
            bottom[0].diff_memory[...] = top[0].diff_memory
