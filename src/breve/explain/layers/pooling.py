"""Pooling: who was the maximum of each window, or what each window's average was divided by."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from breve.explain.layers.base import Kinks, Linear
from breve.explain.model import Index, Terms
from breve.explain.record import Record
from breve.explain.wrt import Wrt

Rows = tuple[int, int]
Span = tuple[int, Rows, int]
"""An output, the part of its window inside the image, and the size of the window that Caffe divides by."""


@dataclass(frozen=True)
class Window:
    """One output's window: the rows and columns inside the image, and what an average over it is divided by."""

    output: Index
    rows: Rows
    columns: Rows
    divisor: int


class PoolingExplainer(Linear):
    """dx = dy where the element was the first maximum of a window; or dy / (window size) from each window."""

    batchwise = True
    gradient_tops = 1
    has_rule = True

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        param = self.layer.param.pooling_param
        self.method = type(param).PoolMethod.Name(param.pool)
        self.in_space, self.out_space = record.bottom_data[0].shape[2:], record.top_data[0].shape[2:]
        self.kernel = self.in_space if param.global_pooling else _sizes(param, "kernel", param.kernel_size)
        self.stride = (1, 1) if param.global_pooling else _sizes(param, "stride", param.stride)
        self.pad = (0, 0) if param.global_pooling else _sizes(param, "pad", param.pad)
        self.counts_pad = param.avg_include_pad
        self.stochastic = self.method == "STOCHASTIC"
        self.batchwise = not self.stochastic  # draws are made for the whole batch

    def formula(self, wrt: Wrt) -> str:
        """The window's rule."""
        if self.method == "MAX":
            return "dX[n, c, h, w] = sum over its windows (y, x) of dY[n, c, y, x] * (1 if it is the first maximum)"
        if self.method == "AVE":
            size = "padded window size" if self.counts_pad else "window size inside the image"
            return f"dX[n, c, h, w] = sum over its windows (y, x) of dY[n, c, y, x] / ({size})"
        return self.formula_text

    def index_equations(self, wrt: Wrt, index: Index) -> list[str]:
        """Which windows hold the pixel."""
        names = zip("yx", "hw", self.stride, self.pad, self.kernel, index[2:], strict=True)
        return [f"{y} * {s} - {p} <= {h}={at} < {y} * {s} - {p} + {k}" for y, h, s, p, k, at in names]

    def windows(self, pixel: Index) -> Iterator[Window]:
        """The windows that hold a pixel, in the order of outputs."""
        spans = (self._spans[axis][at] for axis, at in enumerate(pixel))
        for (y, rows, height), (x, columns, width) in itertools.product(*spans):
            yield Window((y, x), rows, columns, height * width)

    @cached_property
    def _spans(self) -> list[list[list[Span]]]:
        """Along each axis, for each pixel, the outputs whose window holds it."""
        return [[list(self._spans_over(axis, at)) for at in range(size)] for axis, size in enumerate(self.in_space)]

    def _spans_over(self, axis: int, at: int) -> Iterator[Span]:
        size, kernel, pad = self.in_space[axis], self.kernel[axis], self.pad[axis]
        for out in range(self.out_space[axis]):
            start = out * self.stride[axis] - pad
            end = min(start + kernel, size + pad)
            if start <= at < min(end, size):
                inside = max(start, 0), min(end, size)
                yield out, inside, end - start if self.counts_pad else inside[1] - inside[0]

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """One for each window."""
        if self.stochastic:
            return self.jacobian_row(wrt, index)
        plane, (n, c, h, w) = self.record.bottom_data[0][index[:2]], index
        found = list(self.windows((h, w)))
        base = (n * self.record.bottom_data[0].shape[1] + c) * math.prod(self.out_space)
        positions = [base + window.output[0] * self.out_space[1] + window.output[1] for window in found]
        if self.method == "AVE":
            factors = [1 / window.divisor for window in found]
        else:
            factors = [float(winner(plane, window) == (h, w)) for window in found]
        return Terms.gather(self.record.top_diff, 0, positions, np.array(factors, np.float64))

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """Each window, its maximum and ties; or its divisor at the border."""
        if self.stochastic:
            return []
        plane, pixel = self.record.bottom_data[0][index[:2]], index[2:]
        return [self._told(plane, window, pixel) for window in self.windows(pixel)] or ["no window holds this element"]

    def _told(self, plane: np.ndarray, window: Window, pixel: Index) -> str:
        (top, bottom), (left, right) = window.rows, window.columns
        where = f"window {window.output}: rows {top} to {bottom - 1}, columns {left} to {right - 1}"
        inside = (bottom - top) * (right - left)
        if self.method == "AVE":
            border = "" if inside == window.divisor else f", of which {inside} lie in the image (Caffe counts padding)"
            return f"{where}; divided by {window.divisor}{border}"
        best = winner(plane, window)
        cells = plane[top:bottom, left:right]
        ties = int((cells == plane[best]).sum())
        tie = f"; a tie of {ties}, the first in reading order takes all" if ties > 1 else ""
        return f"{where}; maximum {float(plane[best]):.6g} at {best}{' (this element)' if best == pixel else ''}{tie}"

    def kinks(self, bottom: int, inputs: Sequence[np.ndarray], radius: float) -> Kinks | None:
        """Elements no further than `radius` below the maximum of a window that has another such element."""
        if self.method != "MAX":
            return None
        near = np.zeros(inputs[0].shape, bool)
        for y, x in np.ndindex(*self.out_space):
            rows, columns = (self._inside(axis, out) for axis, out in enumerate((y, x)))
            cells = inputs[0][:, :, rows, columns]
            if not cells.size:  # a window that lies in the padding
                continue
            close = cells >= cells.max(axis=(2, 3), keepdims=True) - radius
            near[:, :, rows, columns] |= close & (close.sum(axis=(2, 3), keepdims=True) > 1)
        return Kinks(near, "tie in a maximum at")

    def _inside(self, axis: int, out: int) -> slice:
        start = out * self.stride[axis] - self.pad[axis]
        return slice(max(start, 0), min(start + self.kernel[axis], self.in_space[axis]))


def winner(plane: np.ndarray, window: Window) -> Index:
    """The first maximum of a window in reading order, as Caffe takes it."""
    (top, bottom), (left, right) = window.rows, window.columns
    cells = plane[top:bottom, left:right]
    row, column = np.unravel_index(int(cells.argmax()), cells.shape)
    return top + int(row), left + int(column)


def _sizes(param: Any, stem: str, both: int) -> tuple[int, int]:
    """`kernel_h` and `kernel_w` where they are given, else the one size for both."""
    return getattr(param, f"{stem}_h") or both, getattr(param, f"{stem}_w") or both
