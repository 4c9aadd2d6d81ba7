"""One layer with its blobs, run without a net."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from google.protobuf import text_format

from breve.blob import Blob
from breve.layers import layer_class
from breve.proto import LayerParameter


class LayerRun:
    """A layer built from `prototxt` (the inside of a `layer { }`) on bottoms of given values.

    Every `forward` starts from the same bottoms and the same random state, so it is a function of `values` and of
    `layer.blobs` alone.
    """

    def __init__(
        self,
        prototxt: str,
        values: Sequence[np.ndarray],
        *,
        tops: int = 1,
        phase: str = "TRAIN",
        dtype: Any = np.float64,
        in_place: bool = False,
        channels_last: bool = True,
        seed: int = 0,
    ) -> None:
        self.param = text_format.Parse(prototxt, LayerParameter())
        self.layer = layer_class(self.param.type)(self.param, phase, dtype, np.random.default_rng(seed))
        self.bottom = [Blob(v.shape, dtype, channels_last=channels_last) for v in values]
        self.top = self.bottom[:tops] if in_place else [Blob((), dtype) for _ in range(tops)]
        self.values = [np.asarray(v) for v in values]
        self.layer.setup(self.bottom, self.top)
        self.layer.reshape(self.bottom, self.top)
        self.random_state = self.layer.rng.bit_generator.state

    def reshape(self, values: Sequence[np.ndarray]) -> None:
        """Go on with bottoms of other shapes."""
        self.values = [np.asarray(v) for v in values]
        for blob, value in zip(self.bottom, values, strict=True):
            blob.reshape(*value.shape)
        self.layer.reshape(self.bottom, self.top)

    def forward(self) -> list[np.ndarray]:
        """The tops' data, copied."""
        self.layer.rng.bit_generator.state = self.random_state
        for blob, value in zip(self.bottom, self.values, strict=True):
            blob.data[...] = value
        if self.layer.reshapes_always:
            self.layer.reshape(self.bottom, self.top)
        self.layer.forward(self.bottom, self.top)
        return [blob.data.copy() for blob in self.top]

    def backward(
        self, top_diffs: Sequence[np.ndarray], propagate_down: Sequence[bool] | None = None
    ) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """The bottoms' and the parameters' diffs, copied; parameter diffs are added to what they hold."""
        for blob, diff in zip(self.top, top_diffs, strict=True):
            blob.diff[...] = diff
        self.layer.backward(self.top, propagate_down or [True] * len(self.bottom), self.bottom)
        return [b.diff.copy() for b in self.bottom], [b.diff.copy() for b in self.layer.blobs]

    def clear_param_diffs(self) -> None:
        """Zero the parameters' diffs."""
        for blob in self.layer.blobs:
            blob.diff[...] = 0
