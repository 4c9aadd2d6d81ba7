"""The micro-kernel as LLVM IR: a batch-reduce GEMM. Its contract is docs/microkernel.md."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet

ACCUMULATE, BIAS, RELU = 1, 2, 4

I1, I32, I64 = ir.IntType(1), ir.IntType(32), ir.IntType(64)
SCALARS = {"f": ir.FloatType(), "d": ir.DoubleType()}


def i64(value: int) -> ir.Constant:
    """A 64-bit constant."""
    return ir.Constant(I64, value)


@contextmanager
def counted_loop(q: ir.IRBuilder, count: ir.Value) -> Iterator[ir.Value]:
    """Emit `for index in range(count):`; the body is what is emitted inside."""
    index_slot = alloca(q, I64)
    q.store(i64(0), index_slot)
    head, body, done = (q.append_basic_block(name) for name in ("head", "body", "done"))
    q.branch(head)
    q.position_at_end(head)
    index = q.load(index_slot)
    q.cbranch(q.icmp_signed("<", index, count), body, done)
    q.position_at_end(body)
    yield index
    q.store(q.add(index, i64(1)), index_slot)
    q.branch(head)
    q.position_at_end(done)


def alloca(q: ir.IRBuilder, type_: ir.Type) -> ir.Value:
    """A local variable; LLVM turns it into a register."""
    with q.goto_entry_block():
        return q.alloca(type_)


def opaque(q: ir.IRBuilder, value: ir.Value) -> ir.Value:
    """The value itself, of which LLVM knows nothing.

    Its loop strength reduction would give every row and part a pointer of its own and run out of registers.
    """
    return q.asm(ir.FunctionType(value.type, [value.type]), "", "=r,0", [value], side_effect=False)


class Vectors:
    """Vector operations of one dtype on one instruction set."""

    def __init__(self, module: ir.Module, isa: InstructionSet, dtype: Any) -> None:
        self.module, self.isa = module, isa
        self.char = np.dtype(dtype).char
        self.scalar = SCALARS[self.char]
        self.pointer = self.scalar.as_pointer()
        self.lanes = isa.lanes(dtype)
        self.vector = ir.VectorType(self.scalar, self.lanes)
        self.suffix = f"v{self.lanes}f{32 if self.char == 'f' else 64}"
        self.align_bytes = np.dtype(dtype).itemsize

    def constant(self, value: float) -> ir.Constant:
        """The same number in all lanes."""
        return ir.Constant(self.vector, [ir.Constant(self.scalar, value)] * self.lanes)

    def broadcast(self, q: ir.IRBuilder, value: ir.Value) -> ir.Value:
        """A scalar in all lanes."""
        undef = ir.Constant(ir.VectorType(value.type, self.lanes), ir.Undefined)
        first = ir.Constant(ir.VectorType(I32, self.lanes), [ir.Constant(I32, 0)] * self.lanes)
        return q.shuffle_vector(q.insert_element(undef, value, ir.Constant(I32, 0)), undef, first)

    def multiply_add(self, q: ir.IRBuilder, a: ir.Value, b: ir.Value, c: ir.Value) -> ir.Value:
        """A b + c, rounded once where the processor can."""
        name = f"llvm.fma.{self.suffix}" if self.isa.fma else f"llvm.fmuladd.{self.suffix}"
        return q.call(self._declare(name, self.vector, [self.vector] * 3), [a, b, c])

    def load(self, q: ir.IRBuilder, pointer: ir.Value, mask: ir.Value | None = None) -> ir.Value:
        """A vector from memory; with a mask only its lanes are read, the others are 0."""
        pointer = q.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            return q.load(pointer, align=self.align_bytes)
        name = f"llvm.masked.load.{self.suffix}.p0{self.suffix}"
        function = self._declare(name, self.vector, [pointer.type, I32, mask.type, self.vector])
        return q.call(function, [pointer, ir.Constant(I32, self.align_bytes), mask, self.constant(0.0)])

    def store(self, q: ir.IRBuilder, value: ir.Value, pointer: ir.Value, mask: ir.Value | None = None) -> None:
        """A vector to memory; with a mask only its lanes are written."""
        pointer = q.bitcast(pointer, self.vector.as_pointer())
        if mask is None:
            q.store(value, pointer, align=self.align_bytes)
            return
        name = f"llvm.masked.store.{self.suffix}.p0{self.suffix}"
        function = self._declare(name, ir.VoidType(), [self.vector, pointer.type, I32, mask.type])
        q.call(function, [value, pointer, ir.Constant(I32, self.align_bytes), mask])

    def mask(self, q: ir.IRBuilder, count: ir.Value) -> ir.Value:
        """True in the first `count` lanes."""
        index = I32 if self.char == "f" else I64
        lane = ir.Constant(ir.VectorType(index, self.lanes), [ir.Constant(index, i) for i in range(self.lanes)])
        return q.icmp_signed("<", lane, self.broadcast(q, q.trunc(count, index) if index is I32 else count))

    def _declare(self, name: str, result: ir.Type, args: list[ir.Type]) -> ir.Function:
        known = self.module.globals.get(name)
        return known or ir.Function(self.module, ir.FunctionType(result, args), name)


class Tile:
    """One register tile: `rows` by `vectors`, the last vector masked or not, as a function over many tiles of rows.

    Where rows * vectors sums are too few to hide the latency of an FMA, k is dealt out over several sets of accumulators.
    """

    def __init__(self, v: Vectors, rows: int, vectors: int, masked: bool) -> None:
        self.v, self.rows, self.vectors, self.masked = v, rows, vectors, masked
        self.splits = -(-v.isa.chains // (rows * vectors))
        self.cells = [(i, j) for i in range(rows) for j in range(vectors)]

    @property
    def name(self) -> str:
        """For example `tile_6x2` or `tile_6x2_masked`."""
        return f"tile_{self.rows}x{self.vectors}" + "_masked" * self.masked

    @staticmethod
    def signature(v: Vectors) -> ir.FunctionType:
        """tiles, k, taps, a, a_row, a_k, b, b_k, c, c_row, offsets, bias, flags, last_lanes."""
        p = v.pointer
        args = [I64, I64, I64, p, I64, I64, p, I64, p, I64, I64.as_pointer(), p, I64, I64]
        return ir.FunctionType(ir.VoidType(), args)

    def emit(self) -> ir.Function:
        """The function."""
        v = self.v
        fn = ir.Function(v.module, self.signature(v), self.name)
        fn.linkage = "internal"
        q = ir.IRBuilder(fn.append_basic_block("entry"))
        tiles, k, taps, a, a_row, a_k, b, b_k, c, c_row, offsets, bias, flags, last_lanes = fn.args
        self.tail_mask = v.mask(q, last_lanes) if self.masked else None
        sums = [{cell: alloca(q, v.vector) for cell in self.cells} for _ in range(self.splits)]
        body = q.append_basic_block("tiles")
        q.branch(body)
        q.position_at_end(body)
        with counted_loop(q, tiles) as tile:
            first_row = q.mul(tile, i64(self.rows))
            a_tile, c_tile = q.gep(a, [q.mul(first_row, a_row)]), q.gep(c, [q.mul(first_row, c_row)])
            for part in sums:
                for slot in part.values():
                    q.store(v.constant(0.0), slot)
            with counted_loop(q, taps) as tap:
                at = q.mul(tap, i64(2))
                a_tap = q.gep(a_tile, [q.load(q.gep(offsets, [at]))])
                b_tap = q.gep(b, [q.load(q.gep(offsets, [q.add(at, i64(1))]))])
                self._sum_over_k(q, sums, k, a_tap, a_row, a_k, b_tap, b_k)
            self._merge(q, sums)
            self._finish(q, sums[0], c_tile, c_row, bias, flags)
        q.ret_void()
        return fn

    def _sum_over_k(self, q, sums, k, a, a_row, a_k, b, b_k):
        a_rows = [q.gep(a, [q.mul(a_row, i64(i))]) for i in range(self.rows)]
        a_index, b_index = alloca(q, I64), alloca(q, I64)
        q.store(i64(0), a_index)
        q.store(i64(0), b_index)

        def step(part):
            b_here = q.gep(b, [q.load(b_index)])
            b_row = [self.v.load(q, q.gep(b_here, [i64(j * self.v.lanes)]), self._mask(j)) for j in range(self.vectors)]
            a_here = q.load(a_index)
            for i in range(self.rows):
                element = self.v.broadcast(q, q.load(q.gep(a_rows[i], [a_here])))
                for j in range(self.vectors):
                    slot = part[i, j]
                    q.store(self.v.multiply_add(q, element, b_row[j], q.load(slot)), slot)
            q.store(opaque(q, q.add(a_here, a_k)), a_index)
            q.store(q.add(q.load(b_index), b_k), b_index)

        with counted_loop(q, q.udiv(k, i64(self.splits))):
            for part in sums:
                step(part)
        if self.splits > 1:
            with counted_loop(q, q.urem(k, i64(self.splits))):
                step(sums[0])

    def _mask(self, j: int) -> ir.Value | None:
        return self.tail_mask if j == self.vectors - 1 else None

    def _merge(self, q, sums):
        for part in sums[1:]:
            for cell, slot in part.items():
                q.store(q.fadd(q.load(sums[0][cell]), q.load(slot)), sums[0][cell])

    def _finish(self, q, sums, c, c_row, bias, flags):
        v = self.v

        def c_at(i, j):
            return q.gep(c, [q.add(q.mul(c_row, i64(i)), i64(j * v.lanes))])

        with self._if_flag(q, flags, ACCUMULATE):
            for (i, j), slot in sums.items():
                q.store(q.fadd(q.load(slot), v.load(q, c_at(i, j), self._mask(j))), slot)
        with self._if_flag(q, flags, BIAS):
            for j in range(self.vectors):
                bias_vector = v.load(q, q.gep(bias, [i64(j * v.lanes)]), self._mask(j))
                for i in range(self.rows):
                    q.store(q.fadd(q.load(sums[i, j]), bias_vector), sums[i, j])
        with self._if_flag(q, flags, RELU):
            zero = v.constant(0.0)
            for slot in sums.values():
                value = q.load(slot)
                q.store(q.select(q.fcmp_ordered("<", value, zero), zero, value), slot)
        for (i, j), slot in sums.items():
            v.store(q, q.load(slot), c_at(i, j), self._mask(j))

    @contextmanager
    def _if_flag(self, q, flags, bit):
        with q.if_then(q.icmp_unsigned("!=", q.and_(flags, i64(bit)), i64(0))):
            yield


def emit_brgemm(isa: InstructionSet, dtype: Any) -> ir.Module:
    """The module of one dtype: a function for each register tile, and `brgemm` that deals a whole product out to them."""
    module = ir.Module("brgemm")
    v = Vectors(module, isa, dtype)
    shapes = [
        (masked, vectors, rows)
        for masked in (False, True)
        for vectors in range(1, isa.tile_vectors + 1)
        for rows in range(1, isa.tile_rows + 1)
    ]
    tiles = [Tile(v, rows, vectors, masked).emit() for masked, vectors, rows in shapes]
    table_type = ir.ArrayType(tiles[0].type, len(tiles))
    table = ir.GlobalVariable(module, table_type, "tiles")
    table.initializer, table.global_constant, table.linkage = ir.Constant(table_type, tiles), True, "internal"
    _emit_driver(v, table)
    return module


def _emit_driver(v: Vectors, table: ir.GlobalVariable) -> None:
    p, isa = v.pointer, v.isa
    args = [I64, I64, I64, I64, p, I64, I64, p, I64, I64, p, I64, I64.as_pointer(), p, I64]
    fn = ir.Function(v.module, ir.FunctionType(ir.VoidType(), args), "brgemm")
    m, n, k, taps, a, a_row, a_k, b, b_k, b_panel, c, c_row, offsets, bias, flags = fn.args
    q = ir.IRBuilder(fn.append_basic_block("entry"))
    with q.if_then(q.icmp_signed("<", m, i64(1))):
        q.ret_void()
    tiles = q.udiv(q.add(m, i64(isa.tile_rows - 1)), i64(isa.tile_rows))
    rows, taller = q.udiv(m, tiles), q.urem(m, tiles)
    columns = isa.tile_vectors * v.lanes
    with counted_loop(q, q.sdiv(q.add(n, i64(columns - 1)), i64(columns))) as panel:
        first = q.mul(panel, i64(columns))
        left = q.sub(n, first)
        width = q.select(q.icmp_signed("<", left, i64(columns)), left, i64(columns))
        vectors = q.udiv(q.add(width, i64(v.lanes - 1)), i64(v.lanes))
        last = q.sub(width, q.mul(q.sub(vectors, i64(1)), i64(v.lanes)))
        masked = q.zext(q.icmp_signed("<", last, i64(v.lanes)), I64)
        kind = q.add(q.mul(masked, i64(isa.tile_vectors)), q.sub(vectors, i64(1)))
        b_here, bias_here, c_here = q.gep(b, [q.mul(panel, b_panel)]), q.gep(bias, [first]), q.gep(c, [first])
        kind_rows = q.mul(kind, i64(isa.tile_rows))

        def call(count, rows, first_row):
            with q.if_then(q.icmp_signed(">", count, i64(0))):
                tile = q.load(q.gep(table, [i64(0), q.add(kind_rows, q.sub(rows, i64(1)))]))
                a_from, c_from = q.gep(a, [q.mul(first_row, a_row)]), q.gep(c_here, [q.mul(first_row, c_row)])
                q.call(
                    tile,
                    [count, k, taps, a_from, a_row, a_k, b_here, b_k, c_from, c_row, offsets, bias_here, flags, last],
                )

        more = q.add(rows, i64(1))
        call(taller, more, i64(0))
        call(q.sub(tiles, taller), rows, q.mul(taller, more))
    q.ret_void()
