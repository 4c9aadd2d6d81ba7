"""The micro-kernel as LLVM IR: a batch-reduce GEMM. Its contract is docs/microkernel.md.

A function for each register tile, `rows` by `vectors`, the last vector of C whole or masked; and `brgemm`, which deals
a product of any size out to them.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I64, INTEGERS, LINE_BYTES, Vectors, counted_loop, i64, local, opaque

ACCUMULATE, BIAS, RELU, STREAM, FAR_B = 1, 2, 4, 8, 16  # bits of `flags`
FAR_STEPS, FAR_TILES = 256, 16
"""A tile of fewer steps of k times vectors is done before rows of A come from memory, after some 0.1 us.

Then they are fetched three tiles ahead, if there are so many: with k = 64 and 32 columns of C 1.3 times as fast.
"""
STEPS = 4
"""Steps of k written out, one of which fetches a line of the next panel of B.

They beat a fetch with each step by 2 to 7 %, and by up to 15 % where another thread has a share of the core. Two of
them fetch where B is far.
"""
C_ROWS = 2
"""Rows of C that are fetched with each line of k.

All at once, 24 lines of a full tile, took up the 16 buffers in which a core waits for lines, and what was multiplied
waited for them too: products that come from the third-level cache took 1.01 to 1.07 times as long on a Xeon.
"""


def emit_brgemm(isa: InstructionSet, dtype: Any, fetches_k: bool = False) -> ir.Module:
    """The module with the function `brgemm` for one dtype. It fetches the next rows of A, or the next k."""
    module = ir.Module("brgemm")
    v = Vectors(module, isa, dtype)
    tiles = [
        Tile(v, rows, vectors, masked, fetches_k).emit()
        for masked in (False, True)
        for vectors in range(1, isa.tile_vectors + 1)
        for rows in range(1, isa.tile_rows + 1)
    ]
    kind = ir.ArrayType(tiles[0].type, len(tiles))
    table = ir.GlobalVariable(module, kind, "tiles")
    table.initializer, table.global_constant, table.linkage = ir.Constant(kind, tiles), True, "internal"
    _emit_dealer(v, table)
    return module


@dataclass
class Operand:
    """A matrix in memory: where it begins, and the distance in elements of its rows (C, A) and k (A, B)."""

    start: ir.Value
    row: ir.Value | None = None
    k: ir.Value | None = None


@dataclass
class Ahead:
    """What a tile fetches while it multiplies: how far on in A and in B, and how many rows of C (0 if streamed).

    Of the steps of k written out one fetches `b` on; where B is far another one as well, else `far_b` is 0: a line that
    was just read. A branch there had LLVM emit the loop twice.
    """

    a: ir.Value
    b: ir.Value
    far_b: ir.Value
    c: Operand
    c_rows: ir.Value


def parts_of_sum(isa: InstructionSet, rows: int, vectors: int) -> int:
    """Sets of sums for a tile: enough to keep the FMA pipelines busy, as far as the registers go."""
    enough = -(-isa.chains // (rows * vectors))
    return max(1, min(enough, (isa.registers - vectors - 1) // (rows * vectors)))


class Tile:
    """C[i, j] (+)= sum_t sum_k A B for `rows` i and `vectors` of j, repeated over many tiles of rows.

    The sums stay in registers over t and k. Where rows * vectors of them are too few to hide the latency of an FMA,
    k is dealt out over several parts, each with sums of its own.

    What will be needed next is fetched meanwhile: C of this tile, to be written at its end; A of the next, or that of
    the next k, of which all tiles together fetch as many elements as they read; and of the next panel of B some of the
    lines, other ones for each tile. A product of what comes from memory took up to twice the time without.
    """

    def __init__(self, v: Vectors, rows: int, vectors: int, masked: bool, fetches_k: bool) -> None:
        self.v, self.rows, self.vectors, self.masked, self.fetches_k = v, rows, vectors, masked, fetches_k
        self.parts = parts_of_sum(v.isa, rows, vectors)
        self.line = LINE_BYTES // v.align_bytes
        self.line_starts = range(0, vectors * v.lanes, self.line)
        self.unrolled = STEPS if self.parts == 1 else 1
        p = v.pointer
        arguments = [I64, I64, I64, I64, p, I64, I64, p, I64, I64, p, I64, INTEGERS, p, I64, I64]
        self.function = ir.Function(v.module, ir.FunctionType(ir.VoidType(), arguments), self.name)
        self.function.linkage = "internal"
        self.q = ir.IRBuilder(self.function.append_basic_block("entry"))

    @property
    def name(self) -> str:
        """For example `tile_6x2` or `tile_6x2_masked`."""
        return f"tile_{self.rows}x{self.vectors}" + "_masked" * self.masked

    def emit(self) -> ir.Function:
        """The function (tiles, row, k, taps, a, ..., bias, flags, last_lanes): so many tiles, from `row` of C on."""
        v, q, args = self.v, self.q, self.function.args
        tiles, row, k, taps, a, a_row, a_k, b, b_k, b_panel, c, c_row = args[:12]
        offsets, bias, flags, self.last_lanes = args[12:]
        self.last_mask = v.mask(q, self.last_lanes) if self.masked else None
        cells = [(i, j) for i in range(self.rows) for j in range(self.vectors)]
        sums = [{cell: local(q, v.vector) for cell in cells} for _ in range(self.parts)]
        reach = self._reach(tiles, k, taps, a_row)
        streams, is_far = (q.icmp_unsigned("!=", q.and_(flags, i64(bit)), i64(0)) for bit in (STREAM, FAR_B))
        c_rows = q.select(streams, i64(0), i64(self.rows))
        body = q.append_basic_block("body")
        q.branch(body)
        q.position_at_end(body)
        with counted_loop(q, tiles) as tile:
            first = q.mul(tile, i64(self.rows))
            tiles_before = q.udiv(row, i64(self.rows + 1))  # they are higher by one row
            next_b = q.add(b_panel, self._share(q.add(tiles_before, tile), b_k, is_far))
            far_b = q.select(is_far, next_b, i64(0))
            c_tile = Operand(q.gep(c, [q.mul(first, c_row)]), row=c_row)
            for part in sums:
                for variable in part.values():
                    q.store(v.constant(0.0), variable)
            with counted_loop(q, taps) as tap:
                a_offset = q.add(q.load(q.gep(offsets, [q.mul(tap, i64(2))])), q.mul(first, a_row))
                b_offset = q.load(q.gep(offsets, [q.add(q.mul(tap, i64(2)), i64(1))]))
                a_tap, b_tap = q.gep(a, [a_offset]), q.gep(b, [b_offset])
                share = q.and_(k, i64(-self.line))  # elements that each row fetches of the next k
                behind = q.add(q.mul(k, a_k), q.mul(q.add(row, first), share))
                ahead = Ahead(behind if self.fetches_k else reach, next_b, far_b, c_tile, c_rows)
                self._sum_over_k(sums, k, tap, Operand(a_tap, row=a_row, k=a_k), Operand(b_tap, k=b_k), ahead)
            self._merge(sums)
            self._finish(sums[0], c_tile, bias, flags)
        q.ret_void()
        return self.function

    def _reach(self, tiles: ir.Value, k: ir.Value, taps: ir.Value, a_row: ir.Value) -> ir.Value:
        """How far away in A lie the rows that a tile fetches."""
        q = self.q
        is_short = q.icmp_signed("<", q.mul(q.mul(k, taps), i64(self.vectors)), i64(FAR_STEPS))
        is_far = q.and_(is_short, q.icmp_signed(">=", tiles, i64(FAR_TILES)))
        return q.mul(a_row, q.select(is_far, i64(3 * self.rows), i64(self.rows)))

    def _share(self, tile: ir.Value, b_k: ir.Value, is_far: ir.Value) -> ir.Value:
        """Where in each `unrolled` rows of a panel of B, or in half of them, the line lies that a tile fetches."""
        q, lines = self.q, len(self.line_starts)
        number = q.urem(tile, q.select(is_far, i64(max(1, self.unrolled // 2) * lines), i64(self.unrolled * lines)))
        return q.add(q.mul(q.udiv(number, i64(lines)), b_k), q.mul(q.urem(number, i64(lines)), i64(self.line)))

    def _fetch_c(self, line: ir.Value, ahead: Ahead) -> None:
        """Some rows of C for each line of k."""
        q, first = self.q, self.q.mul(line, i64(C_ROWS))
        with q.if_then(q.icmp_signed("<", first, ahead.c_rows)):
            for i in range(C_ROWS):
                for start in self.line_starts:
                    at = q.add(q.mul(ahead.c.row, q.add(first, i64(i))), i64(start))
                    self.v.prefetch(q, q.gep(ahead.c.start, [at]), level=1, write=True)

    def _sum_over_k(self, sums: list[dict], k: ir.Value, tap: ir.Value, a: Operand, b: Operand, ahead: Ahead) -> None:
        """Add the products of one tap, line by line of A."""
        q = self.q
        a_rows = [q.gep(a.start, [q.mul(a.row, i64(i))]) for i in range(self.rows)]
        a_index, b_pointer = local(q, I64), local(q, self.v.pointer)
        q.store(i64(0), a_index)
        q.store(b.start, b_pointer)

        fetched = {0: ahead.b, STEPS // 2: ahead.far_b}

        def step(part: dict, number: int = 0) -> None:
            b_row = [self.v.load(q, q.gep(q.load(b_pointer), [i64(j * self.v.lanes)])) for j in range(self.vectors)]
            for i in range(self.rows):
                element = self.v.broadcast(q, q.load(q.gep(a_rows[i], [q.load(a_index)])))
                for j in range(self.vectors):
                    q.store(self.v.multiply_add(q, element, b_row[j], q.load(part[i, j])), part[i, j])
            if number in fetched:
                self.v.prefetch(q, q.gep(q.load(b_pointer), [fetched[number]]), level=2)
            q.store(opaque(q, q.add(q.load(a_index), a.k)), a_index)
            q.store(q.gep(q.load(b_pointer), [b.k]), b_pointer)

        lines = _ceil_div(q, k, self.line)
        lines_before = q.mul(tap, lines)
        with counted_loop(q, lines) as line:
            self._fetch_c(q.add(lines_before, line), ahead)
            left = q.sub(k, q.mul(line, i64(self.line)))
            count = q.select(q.icmp_signed("<", left, i64(self.line)), left, i64(self.line))
            for i, row in enumerate(a_rows):
                if self.fetches_k:
                    number = q.add(q.mul(line, i64(self.rows)), i64(i))
                    at = q.gep(a.start, [q.add(ahead.a, q.mul(number, i64(self.line)))])
                else:
                    at = q.gep(row, [q.add(q.load(a_index), ahead.a)])
                self.v.prefetch(q, at, level=1)
            steps = sums * self.unrolled
            with counted_loop(q, q.udiv(count, i64(len(steps)))):
                for i, part in enumerate(steps):
                    step(part, i % self.unrolled)
            if len(steps) > 1:
                with counted_loop(q, q.urem(count, i64(len(steps)))):
                    step(sums[0])

    def _merge(self, sums: list[dict]) -> None:
        q = self.q
        for part in sums[1:]:
            for cell, variable in part.items():
                q.store(q.fadd(q.load(sums[0][cell]), q.load(variable)), sums[0][cell])

    def _finish(self, sums: dict, c: Operand, bias: ir.Value, flags: ir.Value) -> None:
        v, q = self.v, self.q
        c_rows = [q.gep(c.start, [q.mul(c.row, i64(i))]) for i in range(self.rows)]
        with self._if(flags, ACCUMULATE):
            for (i, j), variable in sums.items():
                q.store(q.fadd(q.load(variable), self._load(c_rows[i], j)), variable)
        with self._if(flags, BIAS):
            bias_row = [self._load(bias, j) for j in range(self.vectors)]
            for (_, j), variable in sums.items():
                q.store(q.fadd(q.load(variable), bias_row[j]), variable)
        with self._if(flags, RELU):
            zero = v.constant(0.0)
            for variable in sums.values():  # so written, NaN stays NaN
                value = q.load(variable)
                q.store(q.select(q.fcmp_ordered("<", value, zero), zero, value), variable)
        places = {(i, j): q.gep(c_rows[i], [i64(j * v.lanes)]) for i, j in sums}
        whole = [
            (q.load(sums[cell]), at) for cell, at in places.items() if not self.masked or cell[1] < self.vectors - 1
        ]
        for streams, store in ((False, v.store), (True, v.stream)):
            with self._if(flags, STREAM, streams):
                for value, at in whole:
                    store(q, value, at)
        if self.masked:
            last = [(sums[i, self.vectors - 1], places[i, self.vectors - 1]) for i in range(self.rows)]
            v.store_first(q, last, self.last_lanes)

    def _load(self, row: ir.Value, j: int) -> ir.Value:
        return self.v.load(self.q, self.q.gep(row, [i64(j * self.v.lanes)]), self._mask(j))

    def _mask(self, j: int) -> ir.Value | None:
        return self.last_mask if j == self.vectors - 1 else None

    @contextmanager
    def _if(self, flags: ir.Value, bit: int, is_set: bool = True) -> Iterator[None]:
        with self.q.if_then(self.q.icmp_unsigned("!=" if is_set else "==", self.q.and_(flags, i64(bit)), i64(0))):
            yield


def _emit_dealer(v: Vectors, table: ir.GlobalVariable) -> None:
    """`brgemm`: for each panel of columns, tiles of rows that differ in height by one at most."""
    p, isa = v.pointer, v.isa
    arguments = [I64, I64, I64, I64, p, I64, I64, p, I64, I64, p, I64, INTEGERS, p, I64]
    function = ir.Function(v.module, ir.FunctionType(ir.VoidType(), arguments), "brgemm")
    m, n, k, taps, a, a_row, a_k, b, b_k, b_panel, c, c_row, offsets, bias, flags = function.args
    q = ir.IRBuilder(function.append_basic_block("entry"))
    with q.if_then(q.icmp_signed("<", m, i64(1))):
        q.ret_void()
    tiles = _ceil_div(q, m, isa.tile_rows)
    rows, taller = q.udiv(m, tiles), q.urem(m, tiles)
    columns = isa.tile_vectors * v.lanes
    with counted_loop(q, _ceil_div(q, n, columns)) as panel:
        first = q.mul(panel, i64(columns))
        left = q.sub(n, first)
        width = q.select(q.icmp_signed("<", left, i64(columns)), left, i64(columns))
        vectors = _ceil_div(q, width, v.lanes)
        last_lanes = q.sub(width, q.mul(q.sub(vectors, i64(1)), i64(v.lanes)))
        masked = q.zext(q.icmp_signed("<", last_lanes, i64(v.lanes)), I64)
        kind = q.add(q.mul(masked, i64(isa.tile_vectors)), q.sub(vectors, i64(1)))
        b_here, bias_here, c_here = q.gep(b, [q.mul(panel, b_panel)]), q.gep(bias, [first]), q.gep(c, [first])

        def call(count: ir.Value, rows: ir.Value, row: ir.Value) -> None:
            with q.if_then(q.icmp_signed(">", count, i64(0))):
                index = q.add(q.mul(kind, i64(isa.tile_rows)), q.sub(rows, i64(1)))
                a_row0, c_row0 = q.gep(a, [q.mul(row, a_row)]), q.gep(c_here, [q.mul(row, c_row)])
                passed = [count, row, k, taps, a_row0, a_row, a_k, b_here, b_k, b_panel, c_row0, c_row]
                q.call(q.load(q.gep(table, [i64(0), index])), [*passed, offsets, bias_here, flags, last_lanes])

        call(taller, q.add(rows, i64(1)), i64(0))
        call(q.sub(tiles, taller), rows, q.mul(taller, q.add(rows, i64(1))))
    q.ret_void()


def _ceil_div(q: ir.IRBuilder, value: ir.Value, divisor: int) -> ir.Value:
    return q.sdiv(q.add(value, i64(divisor - 1)), i64(divisor))
