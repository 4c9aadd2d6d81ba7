"""A matrix transposed, as LLVM IR: how operands that lie across are packed.

    dst[j dst_row + i] = src[i src_row + j]      0 <= i < rows, 0 <= j < columns

Squares of as many rows as a vector has lanes are turned over in registers, where rows i and i + s exchange the halves
of each run of 2 s elements, for s = lanes/2, ..., 2, 1 (J. O. Eklundh, A fast computer method for matrix transposing,
IEEE Transactions on Computers C-21, 1972). Where fewer columns are left, as with the 9 taps of a kernel, the others are
masked out; rows that are left go element by element.
"""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I32, I64, Vectors, counted_loop, i64


def emit_transpose(isa: InstructionSet, dtype: Any) -> ir.Module:
    """The module with the function transpose(rows, columns, src, src_row, dst, dst_row) for one dtype."""
    module = ir.Module("transpose")
    v = Vectors(module, isa, dtype)
    arguments = [I64, I64, v.pointer, I64, v.pointer, I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "transpose")
    rows, columns, src, src_row, dst, dst_row = function.args
    for pointer in (src, dst):
        pointer.add_attribute("noalias")
    q = ir.IRBuilder(function.append_basic_block("entry"))
    source, target = _Matrix(src, src_row), _Matrix(dst, dst_row)
    square_rows, square_columns = (q.sdiv(size, i64(v.lanes)) for size in (rows, columns))
    with counted_loop(q, square_columns) as column, counted_loop(q, square_rows) as row:
        _square(q, v, source, target, q.mul(row, i64(v.lanes)), q.mul(column, i64(v.lanes)))
    whole_rows, whole_columns = (q.mul(size, i64(v.lanes)) for size in (square_rows, square_columns))
    left = q.sub(columns, whole_columns)
    with q.if_then(q.icmp_signed(">", left, i64(0))), counted_loop(q, square_rows) as row:
        _square(q, v, source, target, q.mul(row, i64(v.lanes)), whole_columns, left)
    with counted_loop(q, columns) as j, counted_loop(q, q.sub(rows, whole_rows)) as below:
        i = q.add(whole_rows, below)
        q.store(q.load(source.at(q, i, j)), target.at(q, j, i))
    q.ret_void()
    return module


@dataclass
class _Matrix:
    start: ir.Value
    row: ir.Value

    def at(self, q: ir.IRBuilder, i: ir.Value, j: ir.Value) -> ir.Value:
        return q.gep(self.start, [q.add(q.mul(i, self.row), j)])


def _square(
    q: ir.IRBuilder, v: Vectors, source: _Matrix, target: _Matrix, row: ir.Value, column: ir.Value,
    columns: ir.Value | None = None,
) -> None:  # fmt: skip
    """All of a square, or its first `columns`."""
    mask = None if columns is None else v.mask(q, columns)
    lines = [v.load(q, source.at(q, q.add(row, i64(i)), column), mask) for i in range(v.lanes)]
    step = v.lanes // 2
    while step:
        for i in (i for i in range(v.lanes) if not i & step):
            lines[i], lines[i + step] = (_exchange(q, v, lines[i], lines[i + step], step, half) for half in (0, step))
        step //= 2
    for j, line in enumerate(lines):
        with nullcontext() if columns is None else q.if_then(q.icmp_signed(">", columns, i64(j))):
            v.store(q, line, target.at(q, q.add(column, i64(j)), row))


def _exchange(q: ir.IRBuilder, v: Vectors, upper: ir.Value, lower: ir.Value, step: int, half: int) -> ir.Value:
    """The first halves (or second, with half = step) of both lines' runs of 2 step elements, in turns."""
    lanes = [(e & ~step) + half + (v.lanes if e & step else 0) for e in range(v.lanes)]
    kind = ir.VectorType(I32, v.lanes)
    return q.shuffle_vector(upper, lower, ir.Constant(kind, [ir.Constant(I32, lane) for lane in lanes]))
