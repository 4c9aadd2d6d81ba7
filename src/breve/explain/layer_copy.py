"""One recorded layer on blobs of its own, in float64: a function of its inputs and parameters, with its gradient."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.errors import NetError
from breve.explain.record import Record
from breve.explain.twin import MOVE_STATISTICS, twin_of


class ShapesVaryError(NetError):
    """The tops of a layer change their shapes with small changes of its input: it has no derivative."""


class LayerCopy:
    """The layer of a record. `inputs` and `params` are its values, to be changed in place by whoever asks.

    Every `forward` starts from `inputs`, `params` and the record's random state, so it is a function of the first two.
    """

    def __init__(
        self,
        record: Record,
        inputs: Sequence[np.ndarray] | None = None,
        *,
        exact: bool = True,
        in_place: bool = False,
    ) -> None:
        """`inputs` replace the record's; one that is not `exact` has the dtype and the algorithms of the layer itself;
        `in_place` keeps tops that are bottoms what they are.
        """
        self.record = record
        self.layer = twin_of(record.layer, exact=exact)
        dtype: Any = self.layer.dtype
        self.inputs = [np.array(x, dtype, order="C") for x in (record.bottom_data if inputs is None else inputs)]
        self.bottom = [Blob(x.shape, dtype) for x in self.inputs]
        self.top = [self.bottom[i] if in_place and i is not None else Blob((), dtype) for i in record.in_place_bottoms]
        self._shapes: list[tuple[int, ...]] = []
        self._load()
        self.layer.setup(self.bottom, self.top)
        self.params = [blob.data for blob in self.layer.blobs]
        for blob, value in zip(self.layer.blobs, record.param_data, strict=True):
            blob.data[...] = value
        self.layer.reshape(self.bottom, self.top)
        self.layer.param_propagate_down = [True] * len(self.layer.blobs)
        self._statistics: list[tuple[np.ndarray, np.ndarray]] = []
        if self.layer.type in MOVE_STATISTICS:
            self._statistics = self._find_statistics()

    def _load(self) -> None:
        for blob, value in zip(self.bottom, self.inputs, strict=True):
            blob.data[...] = value

    def _find_statistics(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """The parameters that a forward pass changes, with their values before it."""
        before = [p.copy() for p in self.params]
        self.forward()
        pairs = zip(self.params, before, strict=True)
        return [(p, value) for p, value in pairs if not np.array_equal(p, value, equal_nan=True)]

    def forward(self) -> list[np.ndarray]:
        """The tops for the present inputs and parameters; views, valid until the next call."""
        self.layer.set_state(copy.deepcopy(self.record.state))
        self._load()
        for param, value in self._statistics:
            param[...] = value
        if self.layer.reshapes_always:
            self.layer.reshape(self.bottom, self.top)
        self.layer.forward(self.bottom, self.top)
        shapes = [blob.shape for blob in self.top]
        self._shapes = self._shapes or shapes
        if shapes != self._shapes:
            raise ShapesVaryError("the tops' shapes change with small changes of the input: there is no derivative")
        return [blob.data for blob in self.top]

    def backward(
        self, top_diffs: Sequence[np.ndarray], propagate_down: Sequence[bool], fill: float = 0.0
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The gradients wrt inputs and parameters after a `forward`, copied. All diffs hold `fill` before."""
        for blob in (*self.bottom, *self.layer.blobs):
            blob.diff[...] = fill
        for blob, diff in zip(self.top, top_diffs, strict=True):
            blob.diff[...] = diff
        self.layer.backward(self.top, list(propagate_down), self.bottom)
        return [b.diff.copy() for b in self.bottom], [b.diff.copy() for b in self.layer.blobs]
