"""Dropout."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise
from breve.layers.elementwise import ElementwiseLayer


class Dropout(ElementwiseLayer):
    """Zeroes a random share of the values while training, and scales the others up to keep their mean.

    Forward: TRAIN: y = x m / (1 - dropout_ratio), m = 0 with probability dropout_ratio, else 1; TEST: y = x. Without
        `scale_train` TRAIN: y = x m; TEST: y = x (1 - dropout_ratio).
    Backward: dx = dy times the same factor, with the same m.
    Fields: dropout_param: `dropout_ratio` (0.5); of forks `scale_train` (true; ParseNet), `sample_weights_test` (false;
        Bayesian SegNet: zero in TEST as in TRAIN).
    Errors: a ratio below 0, or 1 and above.
    Source: Caffe's dropout_layer; Srivastava et al., "Dropout", 2014.
    """

    fork_fields: ClassVar[frozenset[str]] = frozenset(
        {"dropout_param.scale_train", "dropout_param.sample_weights_test"}
    )

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the ratio."""
        param = self.param.dropout_param
        self.ratio = param.dropout_ratio
        if not 0 <= self.ratio < 1:
            raise LayerError("dropout_param.dropout_ratio is out of range", expected="0 <= ratio < 1", found=self.ratio)
        self.draws = self.phase == "TRAIN" or param.sample_weights_test
        kept = 1 - self.ratio
        self.scale = self.dtype.type(
            (1 / kept if self.draws else 1) if param.scale_train else (1 if self.draws else kept)
        )
        self.mask = np.empty(0, np.uint8)
        """1 where a value was kept, in the order of memory."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make room for the mask."""
        super().reshape(bottom, top)
        if self.draws and self.mask.size != bottom[0].count:
            self.mask = np.ones(bottom[0].count, np.uint8)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Draw a mask and apply it."""
        if self.draws:
            elementwise.draw_mask(self.rng.integers(2**32, size=2, dtype=np.uint32), self.ratio, self.mask)
        self._apply(bottom[0].memory, top[0].memory)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Apply the same mask."""
        if propagate_down[0]:
            self._apply(top[0].diff_memory, bottom[0].diff_memory)

    def _apply(self, source: np.ndarray, target: np.ndarray) -> None:
        if self.draws:
            elementwise.apply_mask(source, self.mask, self.scale, target)
        elif self.scale != 1:
            elementwise.scaled(source, self.scale, target)
        elif not np.may_share_memory(source, target):
            target[...] = source
