"""Layers that join and cut blobs along an axis: Concat, Slice."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise
from breve.layers.base import Layer


def matrix_shape(blob: Blob, axis: int) -> tuple[int, int]:
    """A blob's memory as a matrix in whose rows `axis` is the slowest: what is joined along it lies side by side."""
    order = (0, 2, 3, 1) if blob.memory_order == "NHWC" else tuple(range(blob.ndim))
    sizes = [blob.shape[a] for a in order]
    position = order.index(axis)
    return math.prod(sizes[:position]), math.prod(sizes[position:])


def copy_parts(
    kernel: Any,
    parts: Sequence[Blob],
    whole: Blob,
    axis: int,
    name: str = "memory",
    wanted: Sequence[bool] | None = None,
) -> None:
    """Run `kernel(part, begin, whole)` over parts joined along `axis`; `name` is "memory" or "diff_memory"."""
    matrix, begin = getattr(whole, name).reshape(matrix_shape(whole, axis)), 0
    for i, blob in enumerate(parts):
        shape = matrix_shape(blob, axis)
        if wanted is None or wanted[i]:
            kernel(getattr(blob, name).reshape(shape), begin, matrix)
        begin += shape[1]


def joint_axis(layer: Layer, param: Any, legacy: str, ndim: int) -> int:
    """`axis`, or the old field that meant the same. Raises LayerError when both are given."""
    if not param.HasField(legacy):
        return layer.canonical_axis(param.axis, ndim)
    if param.HasField("axis"):
        raise LayerError(f"both axis and {legacy} are given", expected="one of them", hint="axis is the newer name")
    return layer.canonical_axis(getattr(param, legacy), ndim)


class Concat(Layer):
    """Blobs joined along an axis.

    Forward: y = [x_1, x_2, ...] along `axis`.
    Backward: dx_i = the part of dy that x_i became.
    Blobs: bottoms alike in all other axes; top with their sum along `axis`.
    Fields: concat_param: `axis` (1), negative ones counted from the last; `concat_dim` (1), its old name.
    Errors: bottoms that differ in another axis.
    Source: Caffe's concat_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, None)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check that the bottoms fit and add their sizes up."""
        first = bottom[0].shape
        self.axis = joint_axis(self, self.param.concat_param, "concat_dim", len(first))
        rest = self._rest(bottom[0])
        for i, blob in enumerate(bottom):
            if self._rest(blob) != rest:
                raise LayerError(
                    f"bottom {i} cannot be joined to the first along axis {self.axis}",
                    expected=f"the shape {list(first)} but for that axis",
                    found=list(blob.shape),
                )
        top[0].reshape_like(bottom[0])
        top[0].reshape(*first[: self.axis], sum(blob.shape[self.axis] for blob in bottom), *first[self.axis + 1 :])

    def _rest(self, blob: Blob) -> tuple[object, ...]:
        """What all bottoms must have in common."""
        return (blob.memory_order, blob.ndim, *blob.shape[: self.axis], *blob.shape[self.axis + 1 :])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy each bottom to its place."""
        copy_parts(elementwise.insert_columns, bottom, top[0], self.axis)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy each bottom's part of the gradient back."""
        copy_parts(elementwise.extract_columns, bottom, top[0], self.axis, "diff_memory", propagate_down)


class Slice(Layer):
    """A blob cut along an axis.

    Forward: [y_1, y_2, ...] = x along `axis`.
    Backward: dx = [dy_1, dy_2, ...].
    Blobs: one bottom; tops alike in all other axes.
    Fields: slice_param: `axis` (1), negative ones counted from the last; `slice_point`, where each top but the first
        begins (none: all tops are equally large); `slice_dim` (1), the old name of `axis`.
    Errors: another number of slice points than tops less one; points not increasing; a size not divisible.
    Source: Caffe's slice_layer.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (1, None)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give each top its part."""
        shape = bottom[0].shape
        self.axis = joint_axis(self, self.param.slice_param, "slice_dim", len(shape))
        for blob, (begin, end) in zip(top, pairwise(self._bounds(shape[self.axis], len(top))), strict=True):
            blob.reshape_like(bottom[0])
            blob.reshape(*shape[: self.axis], end - begin, *shape[self.axis + 1 :])

    def _bounds(self, size: int, num_tops: int) -> list[int]:
        points = list(self.param.slice_param.slice_point)
        if not points:
            if size % num_tops:
                raise LayerError(
                    f"axis {self.axis} cannot be cut evenly", expected=f"a multiple of {num_tops}", found=size
                )
            return [i * (size // num_tops) for i in range(num_tops + 1)]
        if len(points) != num_tops - 1:
            raise LayerError(
                "slice_param needs a slice_point between any two tops", expected=num_tops - 1, found=len(points)
            )
        bounds = [0, *points, size]
        if any(begin >= end for begin, end in pairwise(bounds)):
            raise LayerError("slice points must increase", expected=f"between 0 and {size}", found=points)
        return bounds

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy each part out."""
        copy_parts(elementwise.extract_columns, top, bottom[0], self.axis)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy each part's gradient back."""
        if propagate_down[0]:
            copy_parts(elementwise.insert_columns, top, bottom[0], self.axis, "diff_memory")
