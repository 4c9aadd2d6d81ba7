"""Depthwise convolution as LLVM IR: a run of pixels in one row, a vector of channels at a time.

    correlate   y[p] = bias + sum over rows r and taps j of w[r, j] x[r, p stride + j step]
    accumulate  w[r, j] += sum over pixels p of y[p] x[r, p stride + j step]

for p < pixels, every number a vector of channels. Positions of x before `first` or from `last` on lie outside the
image: they are left out when the code is made, so edges cost nothing. Each x is loaded once for all the sums it takes
part in.
"""

from __future__ import annotations

from typing import NamedTuple

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I64, Vectors, counted_loop, i64, local, opaque


class Run(NamedTuple):
    """What a function is made for."""

    pixels: int
    taps: int
    stride: int
    step: int
    first: int
    last: int


def emit_correlate(isa: InstructionSet, dtype: str, run: Run) -> ir.Module:
    """The module with `run(x, x_row, x_col, w, w_row, w_tap, y, y_col, rows, channels, bias, relu)`."""
    v, fn = _function(isa, dtype)
    x, x_row, x_col, w, w_row, w_tap, y, y_col, rows, channels, bias, relu = fn.args
    q = ir.IRBuilder(fn.append_basic_block("entry"))
    lowest = q.select(q.icmp_signed("!=", relu, i64(0)), v.constant(0.0), v.constant(float("-inf")))

    def one_vector(first: ir.Value, mask: ir.Value | None) -> None:
        sums = [local(q, v.vector) for _ in range(run.pixels)]
        start = v.load(q, q.gep(bias, [first]), mask)
        for slot in sums:
            q.store(start, slot)
        with counted_loop(q, rows) as row:
            weights = [v.load(q, at) for at in _along(q, w, first, row, w_row, w_tap, run.taps)]
            for position, value in _pixels(q, v, x, first, row, x_row, x_col, run, mask):
                for pixel, tap in _pairs(run, position):
                    q.store(v.multiply_add(q, value, weights[tap], q.load(sums[pixel])), sums[pixel])
        for slot, at in zip(sums, _along(q, y, first, i64(0), y_col, y_col, run.pixels), strict=True):
            value = q.load(slot)
            v.store(q, q.select(q.fcmp_ordered("<", value, lowest), lowest, value), at, mask)

    _each_vector(q, v, channels, one_vector)
    return v.module


def emit_accumulate(isa: InstructionSet, dtype: str, run: Run) -> ir.Module:
    """The module with `run` of the same arguments, `bias` and `relu` unused; pixels are dealt out over several sums."""
    v, fn = _function(isa, dtype)
    x, x_row, x_col, w, w_row, w_tap, y, y_col, rows, channels, _, _ = fn.args
    q = ir.IRBuilder(fn.append_basic_block("entry"))
    parts = -(-isa.chains // run.taps)

    def one_vector(first: ir.Value, mask: ir.Value | None) -> None:
        sums = [[local(q, v.vector) for _ in range(run.taps)] for _ in range(parts)]
        with counted_loop(q, rows) as row:
            places = _along(q, w, first, row, w_row, w_tap, run.taps)
            for part in sums:
                for slot, at in zip(part, places, strict=True):
                    q.store(v.load(q, at) if part is sums[0] else v.constant(0.0), slot)
            gradients = [v.load(q, at, mask) for at in _along(q, y, first, i64(0), y_col, y_col, run.pixels)]
            for position, value in _pixels(q, v, x, first, row, x_row, x_col, run, mask):
                for pixel, tap in _pairs(run, position):
                    slot = sums[pixel % parts][tap]
                    q.store(v.multiply_add(q, value, gradients[pixel], q.load(slot)), slot)
            for tap, at in enumerate(places):
                total = q.load(sums[0][tap])
                for part in sums[1:]:
                    total = q.fadd(total, q.load(part[tap]))
                v.store(q, total, at)

    _each_vector(q, v, channels, one_vector)
    return v.module


def _function(isa, dtype):
    v = Vectors(ir.Module("depthwise"), isa, dtype)
    p = v.pointer
    arguments = [p, I64, I64, p, I64, I64, p, I64, I64, I64, p, I64]
    fn = ir.Function(v.module, ir.FunctionType(ir.VoidType(), arguments), "run")
    for index in (0, 3, 6):
        fn.args[index].add_attribute("noalias")
    return v, fn


def _each_vector(q, v, channels, body):
    """Emit the body for full vectors of channels and for the rest; it takes the first channel and a mask."""
    with counted_loop(q, q.sdiv(q.add(channels, i64(v.lanes - 1)), i64(v.lanes))) as vector:
        first = q.mul(vector, i64(v.lanes))
        left = q.sub(channels, first)
        with q.if_else(q.icmp_signed(">=", left, i64(v.lanes))) as (full, tail):
            with full:
                body(first, None)
            with tail:
                body(first, v.mask(q, left))
    q.ret_void()


def _along(q, base, first, row, row_stride, stride, count):
    """Pointers to `count` elements of a row, each reached from the one before."""
    at = q.gep(base, [q.add(first, q.mul(row, row_stride))])
    pointers = [at]
    for _ in range(count - 1):
        at = opaque(q, q.gep(at, [stride]))
        pointers.append(at)
    return pointers


def _pixels(q, v, x, first, row, x_row, x_col, run, mask):
    """Load the positions of a row that lie inside the image, one by one."""
    start = q.add(first, q.mul(x_col, i64(run.first)))
    for position, at in enumerate(_along(q, x, start, row, x_row, x_col, max(0, run.last - run.first)), run.first):
        if _pairs(run, position):
            yield position, v.load(q, at, mask)


def _pairs(run: Run, position: int) -> list[tuple[int, int]]:
    """The (pixel, tap) pairs that a position of x takes part in."""
    pairs = ((p, j) for p in range(run.pixels) for j in range(run.taps))
    return [(p, j) for p, j in pairs if p * run.stride + j * run.step == position]
