"""Layers that give the same values another shape: Flatten, Reshape.

The order of values is Caffe's (N, C, H, W); a feature map that lies in memory as (N, H, W, C) is transposed on the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.base import Layer


def copy_reshaped(source: np.ndarray, target: np.ndarray) -> None:
    """Copy values in C order between arrays of the same count, with one pass over the memory where that can be."""
    if target.flags.c_contiguous:
        target.reshape(source.shape)[...] = source
    else:
        target[...] = source.reshape(target.shape)


class ReshapingLayer(Layer):
    """One bottom, one top of the same count."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the top its shape."""
        if top[0] is bottom[0]:
            raise LayerError(f"{self.type} cannot work in place", hint="give its top another name")
        top[0].reshape(*self.top_shape(bottom[0].shape))

    def top_shape(self, shape: tuple[int, ...]) -> list[int]:
        """The top's shape for a bottom's."""
        raise NotImplementedError

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy the values."""
        copy_reshaped(bottom[0].data, top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy the gradient back."""
        if propagate_down[0]:
            copy_reshaped(top[0].diff, bottom[0].diff)


class Flatten(ReshapingLayer):
    """Several axes as one.

    Forward: y = x with axes `axis` to `end_axis` made one, in Caffe's order of values.
    Backward: dx = dy in x's shape.
    Blobs: bottom (N, C, H, W); top (N, C H W) by default.
    Fields: flatten_param: `axis` (1), `end_axis` (-1), both included, negative ones counted from the last.
    Errors: an axis out of range, or `end_axis` before `axis`.
    Source: Caffe's flatten_layer.
    """

    def top_shape(self, shape: tuple[int, ...]) -> list[int]:
        """The shape with the chosen axes multiplied."""
        param = self.param.flatten_param
        start, end = self.canonical_axis(param.axis, len(shape)), self.canonical_axis(param.end_axis, len(shape))
        if end < start:
            raise LayerError("flatten_param.end_axis lies before axis", expected=f">= {start}", found=end)
        return [*shape[:start], math.prod(shape[start : end + 1]), *shape[end + 1 :]]


class Reshape(ReshapingLayer):
    """The same values in another shape.

    Forward: y = x in the new shape, in Caffe's order of values.
    Backward: dx = dy in x's shape.
    Blobs: one bottom; top of the same count.
    Fields: reshape_param: `shape`, in which 0 keeps the bottom's dim and -1 (once) takes what is left; `axis` (0), the
        first axis that is replaced, -1 meaning after the last; `num_axes` (-1), how many are, -1 all that follow.
    Errors: more than one -1; a 0 beyond the bottom's axes; counts that do not fit.
    Source: Caffe's reshape_layer.
    """

    def top_shape(self, shape: tuple[int, ...]) -> list[int]:
        """The bottom's shape with the chosen axes replaced."""
        param = self.param.reshape_param
        start = self._start_axis(len(shape))
        end = len(shape) if param.num_axes == -1 else start + param.num_axes
        if param.num_axes < -1 or end > len(shape):
            raise LayerError(
                "reshape_param.num_axes is out of range", expected=f"-1 to {len(shape) - start}", found=param.num_axes
            )
        middle = self._middle(list(param.shape.dim), shape, start, end)
        top_shape = [*shape[:start], *middle, *shape[end:]]
        if math.prod(top_shape) != math.prod(shape):
            raise LayerError(
                "Reshape changes the number of values",
                expected=f"{math.prod(shape)}, of {list(shape)}",
                found=f"{top_shape}",
            )
        return top_shape

    def _start_axis(self, ndim: int) -> int:
        axis = self.param.reshape_param.axis
        start = axis if axis >= 0 else ndim + axis + 1
        if not 0 <= start <= ndim:
            raise LayerError("reshape_param.axis is out of range", expected=f"{-ndim - 1} to {ndim}", found=axis)
        return start

    def _middle(self, dims: list[int], shape: tuple[int, ...], start: int, end: int) -> list[int]:
        if dims.count(-1) > 1 or min(dims, default=0) < -1:
            raise LayerError("reshape_param.shape takes one -1 and no other negative dim", found=dims)
        if any(d == 0 and start + i >= len(shape) for i, d in enumerate(dims)):
            raise LayerError(
                "reshape_param.shape has a 0 beyond the bottom's axes", expected=f"{len(shape)} axes", found=dims
            )
        known = [shape[start + i] if d == 0 else d for i, d in enumerate(dims)]
        if -1 in known:
            known[known.index(-1)] = self._inferred(dims, shape, start, end)
        return known

    @staticmethod
    def _inferred(dims: list[int], shape: tuple[int, ...], start: int, end: int) -> int:
        """What is left for -1. Kept axes cancel out, so an empty batch does not hide it."""
        kept = {start + i for i, d in enumerate(dims) if d == 0}
        count = math.prod(shape[i] for i in range(start, end) if i not in kept)
        divisor = math.prod(d for d in dims if d > 0) * math.prod(shape[i] for i in kept if i >= end)
        if divisor == 0 or count % divisor:
            raise LayerError(
                "no dim for -1 fits the bottom", expected=f"a multiple of {divisor} values", found=list(shape)
            )
        return count // divisor
