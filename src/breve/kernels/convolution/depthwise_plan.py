"""A pass of a depthwise convolution: which rows, runs of pixels and taps meet, all known before the data comes.

Each pass is made of correlations along rows, between an input and an output: for forward and backward_weights these are
bottom and top; for backward_data top and bottom, and with stride s the s x s phases of the bottom's pixels, each of
which meets its own taps.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from breve.kernels import microkernel
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.microkernel import FETCH
from breve.kernels.microkernel.depthwise import Run, line_vectors
from breve.kernels.microkernel.vectors import LINE_BYTES
from breve.kernels.streaming import first_level_bytes, least_bytes
from breve.kernels.threads import physical_cores

PIXELS, MANY_PIXELS = 4, 14  # of a run, sums in registers; many are up to a third faster where there is room for them
SPARE = 6  # registers beside the sums and weights of two rows: an input, and what LLVM needs not to spill any
FEW_PIXELS = 2  # with a stride and no register to spare: 64x112 takes two thirds of the time with AVX2
PIXELS_WEIGHTS = 7  # the same for the gradient of weights, whose sums are the taps
FETCHED_SHARE = 1 / 2
"""Of what is too much for the third-level cache: from there on x and y are fetched.

Where it is shared with others, 12 MB may not be found there: 512x14 took up to twice the time on a Zen 3. With AVX-512,
where half as many loads wait for them, fetching them cost 5 to 15 % on a Zen 4; gradients of weights gained 3.
"""
STRIDED_BYTES = 48 << 10
"""Of a first-level cache into which rows are fetched where there is a stride; for gradients of weights none are then.

Both were better on a Zen 5, which has as much, the second by up to a fifth. On a Zen 4, with 32 KB, 64x112 and 128x56
took 1.3 to 1.8 times as long forward, the weights' gradients 1.1 to 2.2 times.
"""
PARTS = 32  # of the rows of all images, whose weight gradients are summed one by one, at most
PARTS_SHARE = 1 / 32
"""Of x and y that the sums of all parts may take: each is written by one core and read by another. 512x14 with stride 2
takes 0.9 of its time so, and 0.63 where the two are far apart.
"""


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
    """What the loops over images and rows need to know of an input and an output."""

    batch: int
    in_h: int
    in_w: int
    out_h: int
    out_w: int
    channels: int
    stride: int
    in_stride: int
    step: int
    outputs: int
    """Rows of the largest phase."""
    w_tap: int
    y_col: int
    parts: int
    """Of the rows, for the gradient of weights."""
    fetch: int
    """FETCH where what is read and written may be too much to be found in the third-level cache."""
    together: int
    """Rows of outputs computed together, 1 or 2."""


class PhaseRow(NamedTuple):
    """A pair of phases, of rows and of columns, as the loops read it."""

    first: int
    outputs: int
    in_first: int
    rows: int
    """Taps along the column."""
    w0: int
    """Where its weights begin."""
    w_row: int
    group: int
    """Its first group of runs of pixels."""
    groups: int


class RunGroup(NamedTuple):
    """Runs of pixels of a row, side by side, that one function computes."""

    first_in: int
    first_out: int
    runs: int
    in_step: int
    """Inputs from one run to the next."""
    pixels: int
    """Outputs of each."""


class PassPlan(NamedTuple):
    """One pass."""

    plane: Plane
    phases: np.ndarray
    """A PhaseRow for each pair of phases."""
    addresses: np.ndarray
    """Of the functions for all groups of runs: a row of them for one row of outputs, and one for two if there are."""
    groups: np.ndarray
    """A RunGroup for each."""
    taps: np.ndarray
    """Places in the kernel in the order of the packed weights."""


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


def plan_pass(g: ConvGeometry, dtype: Any, pass_name: str, w_tap: int) -> PassPlan:
    """Order the pairs of phases, their runs of pixels and their taps, whose weights are `w_tap` elements each."""
    pixels = math.prod(g.in_shape) + math.prod(g.out_shape)
    size = g.batch * g.num_output * pixels * np.dtype(dtype).itemsize
    seldom = pass_name == "backward_weights" and max(g.stride) > 1 and first_level_bytes() >= STRIDED_BYTES
    isa = microkernel.host_instruction_set()
    share = 1 if line_vectors(isa) == 1 and pass_name != "backward_weights" else FETCHED_SHARE
    near, fetches = size < least_bytes() or seldom, size >= share * least_bytes() and not seldom
    line = LINE_BYTES // np.dtype(dtype).itemsize
    lines = math.gcd(4, g.num_output // line) if near and g.num_output % line == 0 else 1
    forward = pass_name != "backward_data"
    in_shape, out_shape = (g.in_shape, g.out_shape) if forward else (g.out_shape, g.in_shape)
    phases_h, phases_w = ([forward_phase(g, axis)] if forward else backward_phases(g, axis) for axis in (0, 1))
    together = 1 if pass_name == "backward_weights" else _rows_together(phases_h, phases_w)
    rows: list[PhaseRow] = []
    addresses: list[list[int]] = [[] for _ in range(together)]
    groups: list[RunGroup] = []
    taps: list[int] = []
    for h in phases_h:
        for w in phases_w:
            most = PIXELS_WEIGHTS if pass_name == "backward_weights" else _most_pixels(w, together)
            for number, of_rows in enumerate(addresses, 1):
                fresh = number * h.in_stride
                run = Run(0, len(w.taps), w.in_stride, w.step, 0, 0, fresh, _fetch_level(w), lines, number)
                found = _groups(w, in_shape[1], most, run, dtype, pass_name == "backward_weights")
                of_rows += [address for address, _ in found]
            w0, w_row = len(taps) * w_tap, len(w.taps) * w_tap
            rows.append(PhaseRow(h.first, h.outputs, h.in_first, len(h.taps), w0, w_row, len(groups), len(found)))
            groups += [group for _, group in found]
            taps += [tap_h * g.kernel[1] + tap_w for tap_h in h.taps for tap_w in w.taps]
    h, w = phases_h[0], phases_w[0]
    plane = Plane(  # type: ignore[call-arg]  # two axes: their shapes have two elements
        g.batch, *in_shape, *out_shape, g.num_output, h.stride, h.in_stride, h.step, h.outputs, w_tap,
        w.stride * g.num_output, _parts(g.batch * h.outputs, size, w_tap * len(taps) * np.dtype(dtype).itemsize),
        FETCH if fetches else 0, together,
    )  # fmt: skip
    return PassPlan(plane, *(np.array(column, np.intp) for column in (rows, addresses, groups, taps)))


def _groups(
    phase: Phase, in_size: int, most: int, run: Run, dtype: Any, accumulate: bool
) -> list[tuple[int, RunGroup]]:
    """A row's runs of pixels, those that are alike together: the address of their function, and where they lie."""
    pixels = -(-phase.outputs // -(-phase.outputs // most))
    groups: list[tuple[int, RunGroup]] = []
    for o in range(0, phase.outputs, pixels):
        count, start = min(pixels, phase.outputs - o), phase.in_first + o * phase.in_stride
        end = (count - 1) * phase.in_stride + (len(phase.taps) - 1) * phase.step + 1
        first, last = max(0, -start), min(end, in_size - start)
        run = run._replace(pixels=count, first=first, last=max(first, last))
        address = microkernel.depthwise_address(dtype, run, accumulate)
        if groups and groups[-1][0] == address:
            groups[-1] = address, groups[-1][1]._replace(runs=groups[-1][1].runs + 1)
        else:
            first_out = phase.first + o * phase.stride
            groups.append((address, RunGroup(start, first_out, 1, count * phase.in_stride, count)))
    return groups


def _parts(rows: int, data_bytes: int, sums_bytes: int) -> int:
    """How many parts of so many rows have sums of their own: as many as cores at least."""
    few = max(1, int(PARTS_SHARE * data_bytes / max(1, sums_bytes)))  # none where every output sees padding alone
    return min(PARTS, rows, max(physical_cores(), 1 << few.bit_length() - 1))


def _fetch_level(phase: Phase) -> int:
    """Of the cache that x of the next row is fetched into: two rows with a stride, too much for a small first one."""
    return 1 if phase.in_stride > 1 and first_level_bytes() >= STRIDED_BYTES else 2


def _rows_together(phases_h: list[Phase], phases_w: list[Phase]) -> int:
    """Two rows of outputs if they share input rows, and their sums, their taps and an input fit the registers.

    What they share comes from the second-level cache once for both: 512x14 takes three quarters of the time on a Zen 4,
    others 0.85 to 1. Phases of a stride, which share one row of three, took up to 1.2 times as long.
    """
    h = phases_h[0]
    share = len(phases_h) == h.in_stride == h.step == 1 < len(h.taps)
    return 2 if share and all(_pixels_of_two_rows(phase) >= PIXELS for phase in phases_w) else 1


def _pixels_of_two_rows(phase: Phase) -> int:
    """Of a run: two sums each, beside two weights of each tap."""
    return (_line_registers() - SPARE) // 2 - len(phase.taps)


def _most_pixels(phase: Phase, together: int) -> int:
    """Of a run: many if they, the taps, and an input fit the registers. With a stride inputs are used too seldom."""
    others, registers = len(phase.taps) + 1, _line_registers()
    if phase.in_stride > 1:
        return PIXELS if PIXELS + others < registers else FEW_PIXELS
    if together == 2:
        return _pixels_of_two_rows(phase)
    return MANY_PIXELS if MANY_PIXELS + others <= registers else PIXELS


def _line_registers() -> int:
    """How many cache lines the registers hold."""
    isa = microkernel.host_instruction_set()
    return isa.registers // line_vectors(isa)
