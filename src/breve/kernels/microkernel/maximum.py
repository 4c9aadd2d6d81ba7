"""The largest value of a window and its pixel, as LLVM IR: max pooling of one output, a vector of channels at a time.

    y[c] = max over i < rows, j < columns of x[i x_row + j x_col + c], never below `LOWEST`
    mask[c] = the first pixel, p = first + i step + j, that has it, or -1 where nothing is larger than `LOWEST`

numba's loop over channels runs vectors of it as they come, and all others element by element: of 20 channels all. Here
the last vector overlaps the one before it; only where there are fewer channels than lanes they go one by one.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I32, I64, Vectors, counted_loop, i64, local

WIDE = 2  # vectors worked on together
LOWEST = float(np.finfo(np.float32).min)  # where Caffe's maximum starts: NaN and -inf never replace it


def emit_maximum(isa: InstructionSet, dtype: Any) -> ir.Module:
    """The module with maximum(x, x_row, x_col, rows, columns, y, mask, channels, first, step)."""
    module = ir.Module("maximum")
    v = Vectors(module, isa, dtype)
    arguments = [v.pointer, I64, I64, I64, I64, v.pointer, I32.as_pointer(), I64, I64, I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "maximum")
    channels = function.args[7]
    q = ir.IRBuilder(function.append_basic_block("entry"))
    done = function.append_basic_block("done")
    for width in (WIDE * v.lanes, v.lanes, 1):
        enough, fewer = function.append_basic_block(f"by_{width}"), function.append_basic_block("fewer")
        q.cbranch(q.icmp_signed(">=", channels, i64(width)), enough, fewer)
        q.position_at_end(enough)
        with counted_loop(q, q.sdiv(q.add(channels, i64(width - 1)), i64(width))) as index:
            c, last = q.mul(index, i64(width)), q.sub(channels, i64(width))
            _pool(q, v, width, q.select(q.icmp_signed("<", c, last), c, last), function.args)
        q.branch(done)
        q.position_at_end(fewer)
    q.branch(done)
    q.position_at_end(done)
    q.ret_void()
    return module


def _pool(q: ir.IRBuilder, v: Vectors, lanes: int, c: ir.Value, args: tuple[ir.Argument, ...]) -> None:
    """`lanes` channels from c on, in one vector or, as LLVM sees it, several."""
    x, x_row, x_col, rows, columns, y, mask, _, first, step = args
    values, pixels = (ir.VectorType(kind, lanes) if lanes > 1 else kind for kind in (v.scalar, I32))

    def all_lanes(kind: ir.Type, value: Any) -> ir.Constant:
        scalar = kind.element if lanes > 1 else kind
        return ir.Constant(kind, [ir.Constant(scalar, value)] * lanes if lanes > 1 else value)

    best, place = local(q, values), local(q, pixels)
    q.store(all_lanes(values, LOWEST), best)
    q.store(all_lanes(pixels, -1), place)
    with counted_loop(q, rows) as i, counted_loop(q, columns) as j:
        at = q.gep(x, [q.add(q.add(q.mul(i, x_row), q.mul(j, x_col)), c)])
        value = q.load(q.bitcast(at, values.as_pointer()), align=v.align_bytes)
        pixel = q.trunc(q.add(first, q.add(q.mul(i, step), j)), I32)
        larger = q.fcmp_ordered(">", value, q.load(best))
        q.store(q.select(larger, value, q.load(best)), best)
        q.store(q.select(larger, _broadcast(q, pixel, pixels), q.load(place)), place)
    q.store(q.load(best), q.bitcast(q.gep(y, [c]), values.as_pointer()), align=v.align_bytes)
    q.store(q.load(place), q.bitcast(q.gep(mask, [c]), pixels.as_pointer()), align=4)


def _broadcast(q: ir.IRBuilder, value: ir.Value, kind: ir.Type) -> ir.Value:
    if not isinstance(kind, ir.VectorType):
        return value
    undefined, zeros = ir.Constant(kind, ir.Undefined), ir.Constant(kind, [ir.Constant(I32, 0)] * kind.count)
    return q.shuffle_vector(q.insert_element(undefined, value, ir.Constant(I32, 0)), undefined, zeros)
