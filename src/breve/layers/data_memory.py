"""MemoryData: arrays of the user's own, batch by batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import DataError
from breve.layers.data import positive
from breve.layers.inputs import SourceLayer, refuse_transform


class MemoryData(SourceLayer):
    """Batches from arrays in memory, which pycaffe's `net.set_input_arrays` or `set_arrays` gives, round and round.

    Forward: data, label = the next `batch_size` rows of the arrays.
    Backward: none.
    Blobs: no bottom; data (N, C, H, W) and label (N).
    Fields: memory_data_param: `batch_size`, `channels`, `height`, `width`.
    Errors: a transform_param, which arrays do not go through; forward before there are arrays; arrays of another shape,
        or of a number of rows that is no multiple of batch_size.
    Source: Caffe's memory_data_layer.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (2, 2)

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops."""
        refuse_transform(self.param)
        param = self.param.memory_data_param
        names = "batch_size", "channels", "height", "width"
        self.shape = tuple(positive(name, getattr(param, name)) for name in names)
        self._data: np.ndarray | None = None
        self._position = 0
        top[0].reshape(*self.shape)
        top[1].reshape(self.shape[0])

    def set_arrays(self, data: np.ndarray, labels: np.ndarray | None = None) -> None:
        """Use `data` (M, C, H, W) and `labels` (M), or (M, 1, 1, 1), from their first row on. They are not copied.

        Without labels, those are zero. Raises DataError where they do not fit.
        """
        batch_size, *image = self.shape
        labels = np.zeros(len(data)) if labels is None else labels
        if data.shape[1:] != tuple(image) or not len(data) or len(data) % batch_size:
            expected = f"(a multiple of {batch_size}, {', '.join(map(str, image))})"
            raise DataError("the array does not fit memory_data_param", expected=expected, found=data.shape)
        if labels.size != len(data) or labels.shape[:1] != data.shape[:1]:
            raise DataError("there must be one label for each image", expected=(len(data),), found=labels.shape)
        self._data, self._labels, self._position = data, labels.reshape(-1), 0

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the next batch."""
        if self._data is None:
            raise DataError("MemoryData has no arrays yet", hint="call net.set_input_arrays(data, labels) first")
        batch = slice(self._position, self._position + self.shape[0])
        np.copyto(top[0].data, self._data[batch], casting="same_kind")
        np.copyto(top[1].data, self._labels[batch], casting="unsafe")
        self._position = batch.stop % len(self._data)

    def state(self) -> dict[str, Any]:
        """The row of the next batch; the arrays are the user's."""
        return {"position": self._position}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from a row."""
        self._position = state["position"]
