"""One recorded layer in float64 on blobs of its own: a function of its inputs and parameters, with its gradient."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from breve.blob import Blob
from breve.explain.replica import Record, unfilled_copy


class LayerCopy:
    """The layer of a record, never in place. `inputs` and `params` are its values, to be changed by whoever asks.

    Every `forward` starts from `inputs`, `params` and the record's random state, so it is a function of the first two.
    """

    def __init__(
        self,
        record: Record,
        dtype: Any = np.float64,
        inputs: Sequence[np.ndarray] | None = None,
        exact: bool = False,
    ) -> None:
        """`inputs` replace the record's; `exact` asks for the algorithm that all others are measured against."""
        self.record = record
        self.layer = unfilled_copy(record.layer, np.dtype(dtype))
        if exact and self.layer.param.HasField("convolution_param"):
            self.layer.param = type(record.layer.param)()
            self.layer.param.CopyFrom(record.layer.param)
            self.layer.param.convolution_param.engine = self.layer.param.convolution_param.CAFFE
        self.inputs = [np.array(x, dtype, order="C") for x in (record.bottom_data if inputs is None else inputs)]
        self.params = [np.array(x, dtype, order="C") for x in record.param_data]
        self.bottom = [Blob(x.shape, dtype) for x in self.inputs]
        self.top = [Blob((), dtype) for _ in record.top_data]
        for blob, value in zip(self.bottom, self.inputs, strict=True):
            blob.data[...] = value
        self.layer.setup(self.bottom, self.top)
        self.layer.reshape(self.bottom, self.top)
        self.layer.param_propagate_down = [True] * len(self.layer.blobs)

    def forward(self) -> list[np.ndarray]:
        """The tops for the present inputs and parameters; views, valid until the next call."""
        self.layer.set_state(copy.deepcopy(self.record.state))
        for blobs, values in ((self.bottom, self.inputs), (self.layer.blobs, self.params)):
            for blob, value in zip(blobs, values, strict=True):
                blob.data[...] = value
        if self.layer.reshapes_always:
            self.layer.reshape(self.bottom, self.top)
        self.layer.forward(self.bottom, self.top)
        return [blob.data for blob in self.top]

    def backward(
        self, top_diffs: Sequence[np.ndarray], propagate_down: Sequence[bool]
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The gradients wrt inputs and parameters after a `forward`, copied."""
        for blob, diff in zip(self.top, top_diffs, strict=True):
            blob.diff[...] = diff
        for blob in self.layer.blobs:
            blob.diff[...] = 0
        self.layer.backward(self.top, list(propagate_down), self.bottom)
        return [b.diff.copy() for b in self.bottom], [b.diff.copy() for b in self.layer.blobs]
