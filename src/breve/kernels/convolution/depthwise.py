"""Depthwise convolution: group = channels, vectors along the channels, no product of matrices.

Each pass is made of correlations along rows, between an input and an output: for forward these are bottom and top; for
backward_data top and bottom, and with stride s the s x s phases of the bottom's pixels, each of which meets its own
taps. A channel multiplier repeats the bottom's channels, so that there is one for each output.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any, ClassVar, NamedTuple

import numpy as np
from numba import prange

from breve.kernels import microkernel
from breve.kernels.convolution.algorithm import Algorithm, is_fast_dtype
from breve.kernels.convolution.bias import add_bias_diff
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.scratch import scratch
from breve.kernels.microkernel import call
from breve.kernels.microkernel.depthwise import Run
from breve.kernels.threads import kernel

PIXELS, PIXELS_WEIGHTS = 4, 14  # of a run: forward they are sums in registers; for the weights' gradient the taps are
LINE = 16  # elements of a cache line
STRIPS = 32  # parts of the batch whose weight gradients are summed one by one


class Phase(NamedTuple):
    """Along an axis: output o lies at first + o stride, and meets tap j at input in_first + o in_stride + j step."""

    first: int
    stride: int
    outputs: int
    in_first: int
    in_stride: int
    step: int
    taps: tuple[int, ...]
    """Which taps of the kernel, by j."""


class Plane(NamedTuple):
    """What the loops over images and rows need to know of a pair of phases."""

    batch: int
    in_h: int
    in_w: int
    out_h: int
    out_w: int
    channels: int
    first: int
    stride: int
    outputs: int
    in_first: int
    in_stride: int
    step: int
    rows: int
    """Taps along the column."""
    w_row: int
    w_tap: int
    y_col: int
    strips: int


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
        self._fetch = microkernel.prefetch_address(self.dtype)
        g, axes = geometry, range(2)
        self._forward_phases = [[forward_phase(g, axis)] for axis in axes]
        self._data_phases = [backward_phases(g, axis) for axis in axes]

    def forward(
        self, bottom_data: np.ndarray, weight: np.ndarray, bias: np.ndarray | None, top_data: np.ndarray, relu: bool
    ) -> None:
        """Every output row by runs of pixels."""
        start = np.zeros(self.geometry.num_output, self.dtype) if bias is None else bias
        self._correlate(self._repeated(bottom_data), weight, top_data, self._forward_phases, start, relu)

    def backward_data(self, top_diff: np.ndarray, weight: np.ndarray, bottom_diff: np.ndarray) -> None:
        """The same from top to bottom, phase by phase of the stride."""
        start = np.zeros(self.geometry.num_output, self.dtype)
        if self._multiplier == 1:
            self._correlate(top_diff, weight, bottom_diff, self._data_phases, start, False)
            return
        size = bottom_diff.size * self._multiplier
        repeated = scratch("v", size, self.dtype)[:size].reshape(*bottom_diff.shape[:3], -1)
        self._correlate(top_diff, weight, repeated, self._data_phases, start, False)
        _sum_repeated(repeated.reshape(-1), bottom_diff.reshape(-1), self._multiplier)

    def backward_weights(
        self, top_diff: np.ndarray, bottom_data: np.ndarray, weight_diff: np.ndarray, bias_diff: np.ndarray | None
    ) -> None:
        """Sums over strips of rows of each image, then their sum in a fixed order."""
        (phase_h,), (phase_w,) = self._forward_phases
        x = self._repeated(bottom_data)
        plane = self._plane(x, top_diff, phase_h, phase_w)
        size = plane.rows * plane.w_row
        parts = scratch("w", plane.batch * plane.strips * size, self.dtype)[: plane.batch * plane.strips * size]
        addresses, starts = _runs(phase_w, plane.in_w, self.dtype.char, accumulate=True)
        _accumulate(x.reshape(-1), parts.reshape(-1, size), top_diff.reshape(-1), plane, addresses, starts, self._fetch)
        total = parts.reshape(-1, *self.geometry.kernel, self._channels_pad).sum(0)[..., : self.geometry.num_output]
        weight_diff += total.transpose(2, 0, 1)[:, None]
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
        self, x: np.ndarray, weight: np.ndarray, y: np.ndarray, phases: list[list[Phase]], bias: np.ndarray, relu: bool
    ) -> None:
        for phase_h in phases[0]:
            for phase_w in phases[1]:
                plane = self._plane(x, y, phase_h, phase_w)
                addresses, starts = _runs(phase_w, plane.in_w, self.dtype.char, accumulate=False)
                w = self._packed(weight, phase_h, phase_w)
                _correlate(x.reshape(-1), w, y.reshape(-1), plane, addresses, starts, bias, int(relu), self._fetch)

    def _packed(self, weight: np.ndarray, phase_h: Phase, phase_w: Phase) -> np.ndarray:
        """The weights of a phase's taps, channels last and padded."""
        packed = np.zeros((len(phase_h.taps), len(phase_w.taps), self._channels_pad), self.dtype)
        packed[..., : len(weight)] = weight[:, 0][:, phase_h.taps][:, :, phase_w.taps].transpose(1, 2, 0)
        return packed.reshape(-1)

    def _plane(self, x: np.ndarray, y: np.ndarray, phase_h: Phase, phase_w: Phase) -> Plane:
        batch, in_h, in_w, channels = x.shape
        w_row = len(phase_w.taps) * self._channels_pad
        strips = min(phase_h.outputs, -(-STRIPS // batch))
        return Plane(
            batch, in_h, in_w, y.shape[1], y.shape[2], channels, phase_h.first, phase_h.stride, phase_h.outputs,
            phase_h.in_first, phase_h.in_stride, phase_h.step, len(phase_h.taps), w_row, self._channels_pad,
            phase_w.stride * channels, strips,
        )  # fmt: skip


def forward_phase(g: ConvGeometry, axis: int) -> Phase:
    """All outputs meet all taps."""
    taps = tuple(range(g.kernel[axis]))
    return Phase(0, 1, g.out_shape[axis], -g.pad[axis], g.stride[axis], g.dilation[axis], taps)


def backward_phases(g: ConvGeometry, axis: int) -> list[Phase]:
    """Pixel i of the bottom meets tap t at output (i + pad - t dilation) / stride, where that is a whole number."""
    stride, pad, dilation, size = g.stride[axis], g.pad[axis], g.dilation[axis], g.in_shape[axis]
    phases = []
    for first in range(min(stride, size)):
        taps = [t for t in reversed(range(g.kernel[axis])) if (first + pad - t * dilation) % stride == 0]
        in_first = (first + pad - taps[0] * dilation) // stride if taps else 0
        count, step = -(-(size - first) // stride), dilation // math.gcd(dilation, stride)
        phases.append(Phase(first, stride, count, in_first, 1, step, tuple(taps)))
    return phases


@cache
def _runs(phase: Phase, in_size: int, dtype: str, accumulate: bool) -> tuple[np.ndarray, np.ndarray]:
    """Addresses of the functions for a row's runs of pixels, and (first input, first output) of each run."""
    most = PIXELS_WEIGHTS if accumulate else PIXELS
    pixels = -(-phase.outputs // -(-phase.outputs // most))
    addresses, starts = [], []
    for o in range(0, phase.outputs, pixels):
        count, start = min(pixels, phase.outputs - o), phase.in_first + o * phase.in_stride
        end = (count - 1) * phase.in_stride + (len(phase.taps) - 1) * phase.step + 1
        first, last = max(0, -start), min(end, in_size - start)
        run = Run(count, len(phase.taps), phase.in_stride, phase.step, first, max(first, last))
        addresses.append(microkernel.depthwise_address(dtype, run, accumulate))
        starts.append((start, phase.first + o * phase.stride))
    return np.array(addresses, np.int64), np.array(starts, np.int64)


@kernel
def _correlate(x, w, y, s, addresses, starts, bias, relu, fetch):
    """Row by row; while one is computed, the input rows that only the next one needs are fetched."""
    runs = addresses.size
    for work in prange(s.batch * s.outputs):
        image, o = work // s.outputs, work % s.outputs
        base = s.in_first + o * s.in_stride
        first = (max(0, -base) + s.step - 1) // s.step
        last = max(first, min(s.rows, (s.in_h - 1 - base) // s.step + 1))
        x_row = (image * s.in_h + base + first * s.step) * s.in_w
        y_row = (image * s.out_h + s.first + o * s.stride) * s.out_w
        ahead, fresh = (image * s.in_h + base + (s.rows - 1) * s.step + 1) * s.in_w, s.in_stride * s.in_w
        for run in range(runs):
            begin, end = fresh * run // runs, fresh * (run + 1) // runs
            call(fetch, x, (ahead + begin) * s.channels, (end - begin) * s.channels)
            call(
                addresses[run], x, (x_row + starts[run, 0]) * s.channels, s.step * s.in_w * s.channels, s.channels, w,
                first * s.w_row, s.w_row, s.w_tap, y, (y_row + starts[run, 1]) * s.channels, s.y_col, last - first,
                s.channels, bias, 0, relu,
            )  # fmt: skip


@kernel
def _accumulate(x, parts, y, s, addresses, starts, fetch):
    """Strip by strip of rows, each with sums of its own."""
    runs = addresses.size
    for work in prange(s.batch * s.strips):
        image, strip = work // s.strips, work % s.strips
        parts[work, :] = 0
        for o in range(s.outputs * strip // s.strips, s.outputs * (strip + 1) // s.strips):
            base = s.in_first + o * s.in_stride
            first = (max(0, -base) + s.step - 1) // s.step
            last = max(first, min(s.rows, (s.in_h - 1 - base) // s.step + 1))
            x_row = (image * s.in_h + base + first * s.step) * s.in_w
            y_row = (image * s.out_h + o) * s.out_w
            ahead, fresh = (image * s.in_h + base + (s.rows - 1) * s.step + 1) * s.in_w, s.in_stride * s.in_w
            for run in range(runs):
                begin, end = fresh * run // runs, fresh * (run + 1) // runs
                call(fetch, x, (ahead + begin) * s.channels, (end - begin) * s.channels)
                call(
                    addresses[run], x, (x_row + starts[run, 0]) * s.channels, s.step * s.in_w * s.channels, s.channels,
                    parts[work], first * s.w_row, s.w_row, s.w_tap, y, (y_row + starts[run, 1]) * s.channels,
                    s.channels, last - first, s.channels, x, 0, 0,
                )  # fmt: skip


@kernel
def _repeat(x, repeated, times):
    for work in prange(STRIPS):
        for i in range(x.size * work // STRIPS, x.size * (work + 1) // STRIPS):
            for j in range(times):
                repeated[i * times + j] = x[i]


@kernel
def _sum_repeated(repeated, x, times):
    for work in prange(STRIPS):
        for i in range(x.size * work // STRIPS, x.size * (work + 1) // STRIPS):
            total = repeated[i * times]
            for j in range(1, times):
                total += repeated[i * times + j]
            x[i] = total
