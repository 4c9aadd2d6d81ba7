"""Depthwise convolution: group = channels, vectors along the channels, no product of matrices.

Each pass is correlations along rows, as `depthwise_plan.py` lays them out. A channel multiplier repeats the bottom's
channels, so that there is one for each output.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numba import prange

from breve.kernels import microkernel
from breve.kernels.convolution.algorithm import Algorithm, is_fast_dtype
from breve.kernels.convolution.bias import add_bias_diff
from breve.kernels.convolution.depthwise_plan import PARTS, PassPlan, plan_pass
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.parts import add_parts
from breve.kernels.microkernel import call
from breve.kernels.microkernel.launch import launch
from breve.kernels.scratch import scratch
from breve.kernels.streaming import cache_bytes, stream_flag
from breve.kernels.threads import inline, kernel, launching, threads_for

LINE = 16  # elements of a cache line
STREAMED_SHARE = 5 / 8
"""Of the third-level cache: what is written with a stride goes past the caches if it and what is read are larger."""


class Depthwise(Algorithm):
    """Correlations along rows, in registers."""

    name: ClassVar[str] = "depthwise"

    @classmethod
    def refusal(cls, geometry: ConvGeometry, dtype: Any, pass_name: str) -> str:
        """It takes two spatial axes and one channel a group."""
        if not is_fast_dtype(dtype):
            return "dtype is neither float32 nor float64"
        if len(geometry.kernel) != 2 or geometry.group != geometry.channels:
            return "group is not the number of channels"
        return ""

    def __init__(self, geometry: ConvGeometry, dtype: Any) -> None:
        super().__init__(geometry, dtype)
        self._multiplier = geometry.num_output // geometry.channels
        self._channels_pad = (-(-geometry.num_output // LINE) + 1) * LINE  # a line more: taps in different cache sets
        self._plans: dict[str, PassPlan] = {}

    def forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        """Every output row by runs of pixels."""
        self._correlate("forward", self._repeated(bottom_data), weight, bias, relu, top_data)

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """The same from top to bottom, phase by phase of the stride."""
        if self._multiplier == 1:
            self._correlate("backward_data", top_diff, weight, None, False, bottom_diff)
            return
        repeated = scratch("v", bottom_diff.size * self._multiplier, self.dtype)
        self._correlate("backward_data", top_diff, weight, None, False, repeated)
        _sum_repeated(repeated, bottom_diff.reshape(-1), self._multiplier)

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """Sums over parts of the rows of all images, then their sum in a fixed order."""
        x, p = self._repeated(bottom_data).reshape(-1), self._plan("backward_weights")
        parts, size = p.plane.parts, len(p.taps) * self._channels_pad
        sums = scratch("w", parts * size, self.dtype).reshape(parts, size)
        _accumulate(
            x, sums, top_diff.reshape(-1), weight_diff.reshape(len(weight_diff), -1), p.plane, p.phases[0],
            p.addresses[0], p.groups, threads_for(self.geometry.flops // 2),
        )  # fmt: skip
        if bias_diff is not None:
            add_bias_diff(top_diff, bias_diff)

    def _repeated(self, bottom: np.ndarray) -> np.ndarray:
        """The bottom with every channel as often as it has outputs."""
        if self._multiplier == 1:
            return bottom
        size = bottom.size * self._multiplier
        repeated = scratch("v", size, self.dtype)[:size].reshape(*bottom.shape[:3], -1)
        _repeat(bottom.reshape(-1), repeated.reshape(-1), self._multiplier)
        return repeated

    def _correlate(
        self, pass_name: str, x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, relu: bool, y: np.ndarray
    ) -> None:
        p, outputs = self._plan(pass_name), len(weight)
        packed = np.zeros((len(p.taps), self._channels_pad), self.dtype)
        packed[:, :outputs] = weight.reshape(outputs, -1).T[p.taps]
        start = np.zeros(outputs, self.dtype) if bias is None else bias
        flags = microkernel.RELU * relu
        if y.size <= x.size or x.nbytes + y.nbytes > STREAMED_SHARE * cache_bytes():  # else it is found there
            flags |= stream_flag(x, y.reshape(-1, outputs))
        _correlate(
            x.reshape(-1), packed.reshape(-1), y.reshape(-1), p.plane, p.phases, p.addresses, p.groups, start,
            flags, threads_for(self.geometry.flops // 2),
        )  # fmt: skip

    def _plan(self, pass_name: str) -> PassPlan:
        if pass_name not in self._plans:
            self._plans[pass_name] = plan_pass(self.geometry, self.dtype.char, pass_name, self._channels_pad)
        return self._plans[pass_name]


@launching
def _correlate(x, w, y, s, phases, addresses, groups, bias, flags, workers):
    """A row or two of all phases at a time; meanwhile the input rows that only the next ones need are fetched."""
    tasks = s.batch * ((s.outputs + s.together - 1) // s.together)
    launch(_rows, tasks, workers, (x, w, y, s, phases, addresses, groups, bias, flags))


@inline
def _rows(work, worker, x, w, y, s, phases, addresses, groups, bias, flags):
    tasks = (s.outputs + s.together - 1) // s.together
    image, o, fetch = work // tasks, work % tasks * s.together, s.fetch
    for phase in phases:
        first_y, outputs, in_first, rows, w0, w_row, group0, count = phase
        if o < outputs:
            base, two = in_first + o * s.in_stride, s.together == 2 and o + 1 < outputs
            first, last = _rows_inside(base, rows, s)
            upper, both, lower = _rows_of_two(base, rows, s) if two else (0, last - first, 0)
            x_row = (image * s.in_h + base + first * s.step) * s.in_w
            y_row = (image * s.out_h + first_y + o * s.stride) * s.out_w
            ahead = ((rows - 1 - first) * s.step + 1 + two) * s.in_w * s.channels
            for group in range(group0, group0 + count):
                start_x, start_y, runs, in_step, pixels = groups[group]
                call(
                    addresses[int(two), group], runs, x, (x_row + start_x) * s.channels, in_step * s.channels,
                    s.step * s.in_w * s.channels, s.channels, w, w0 + first * w_row, w_row, s.w_tap, y,
                    (y_row + start_y) * s.channels, pixels * s.y_col, s.y_col, both, s.channels, bias, 0,
                    flags | fetch, ahead, s.in_w * s.channels, pixels * s.y_col, s.stride * s.out_w * s.channels,
                    upper, lower,
                )  # fmt: skip
            fetch = 0


@inline
def _rows_inside(base, rows, s):
    """Which of `rows` rows of taps, the first at row `base` of the input, lie inside the image."""
    first = (max(0, -base) + s.step - 1) // s.step
    return first, max(first, min(rows, (s.in_h - 1 - base) // s.step + 1))


@inline
def _rows_of_two(base, rows, s):
    """How many input rows the upper of two adjacent rows of outputs sees alone, both see, and the lower one alone."""
    upper, lower = 0 <= base < s.in_h, 0 <= base + rows < s.in_h
    both = min(base + rows, s.in_h) - max(base + 1, 0)
    return int(upper), max(0, both), int(lower)


@launching
def _accumulate(x, parts, y, weight_diff, s, phase, addresses, groups, workers):
    """Part by part of the rows, each with sums of its own; then their sum, tap by tap."""
    launch(_part, s.parts, workers, (x, parts, y, s, phase, addresses, groups))
    launch(_add_tap, weight_diff.shape[1], workers, (parts, weight_diff, s.w_tap))


@inline
def _part(part, worker, x, parts, y, s, phase, addresses, groups):
    _, _, in_first, rows, _, w_row, _, count = phase
    all_rows = s.batch * s.outputs
    parts[part, :] = 0
    for row in range(all_rows * part // s.parts, all_rows * (part + 1) // s.parts):
        image, o = row // s.outputs, row % s.outputs
        base = in_first + o * s.in_stride
        first, last = _rows_inside(base, rows, s)
        x_row = (image * s.in_h + base + first * s.step) * s.in_w
        y_row = row * s.out_w
        ahead = ((rows - 1 - first) * s.step + 1) * s.in_w * s.channels
        for group in range(count):
            start_x, start_y, runs, in_step, pixels = groups[group]
            call(
                addresses[group], runs, x, (x_row + start_x) * s.channels, in_step * s.channels,
                s.step * s.in_w * s.channels, s.channels, parts[part], first * w_row, w_row, s.w_tap, y,
                (y_row + start_y) * s.channels, pixels * s.channels, s.channels, last - first, s.channels, x, 0,
                s.fetch, ahead, s.in_w * s.channels, s.out_w * s.channels, 0, 0, 0,
            )  # fmt: skip


@inline
def _add_tap(tap, worker, parts, weight_diff, w_tap):
    add_parts(parts, tap * w_tap, weight_diff.shape[0])
    for k in range(weight_diff.shape[0]):
        weight_diff[k, tap] += parts[0, tap * w_tap + k]


@kernel
def _repeat(x, repeated, times):
    for work in prange(PARTS):
        for i in range(x.size * work // PARTS, x.size * (work + 1) // PARTS):
            for j in range(times):
                repeated[i * times + j] = x[i]


@kernel
def _sum_repeated(repeated, x, times):
    for work in prange(PARTS):
        for i in range(x.size * work // PARTS, x.size * (work + 1) // PARTS):
            total = repeated[i * times]
            for j in range(1, times):
                total += repeated[i * times + j]
            x[i] = total
