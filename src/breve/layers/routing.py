"""Layers that hand blobs on: Split, Silence."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise
from breve.layers.base import Layer


class Split(Layer):
    """One blob for several consumers. Nets insert it by themselves where a blob is read more than once.

    Forward: y_i = x, in the same memory.
    Backward: dx = sum over i of dy_i.
    Blobs: one bottom; any number of tops of its shape.
    Fields: none.
    Errors: a top that is the bottom itself.
    Source: Caffe's split_layer.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (1, None)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Tops become the bottom's data, each with a diff of its own."""
        for blob in top:
            if blob is bottom[0]:
                raise LayerError("Split cannot work in place", hint="give its tops other names")
            blob.reshape_like(bottom[0])
            blob.share_data(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The memory is shared already."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Sum the gradients of all consumers."""
        if not propagate_down[0]:
            return
        bottom_diff = bottom[0].diff_memory
        if len(top) == 1:
            bottom_diff[...] = top[0].diff_memory
            return
        one = self.dtype.type(1)
        elementwise.weighted_sum(top[0].diff_memory, one, top[1].diff_memory, one, bottom_diff)
        for blob in top[2:]:
            elementwise.weighted_sum(bottom_diff, one, blob.diff_memory, one, bottom_diff)


class Silence(Layer):
    """Takes blobs that nobody else reads, so that they are no outputs of the net.

    Forward: nothing.
    Backward: dx_i = 0.
    Blobs: any number of bottoms, no top.
    Fields: none.
    Source: Caffe's silence_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, None)
    top_counts: ClassVar[tuple[int, int | None]] = (0, 0)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """There is no top."""

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """There is no top."""

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Nothing depends on the bottoms."""
        for blob, wanted in zip(bottom, propagate_down, strict=True):
            if wanted:
                blob.diff[...] = 0
