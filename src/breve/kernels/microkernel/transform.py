"""Winograd's and Strassen's transforms as LLVM IR: a small constant matrix from both sides, on vectors of channels.

    dst[i, j] (=) sum_y sum_x  matrix[i, y] src[y, x] matrix[j, x]   (+ bias, clamped from below)

`src` is n by n, `dst` out by out; element (i, j) of channel c lies at `i row + j col + c / nr * panel + c % nr`, with
strides for each side, so that a transform reads a feature map and writes panels of a GEMM or the other way round. The
last vector of channels is masked on one side (`masked`), where it touches a feature map; buffers have room for it.
There the next tile lies some columns further, and what of it is new is fetched meanwhile: hardware does not see the
pattern, and tiles that come from memory took up to 1.3 times as long.
With `quadrants` that side is a matrix of 4 rows by 4 blocks, halved twice in both directions: i chooses a half of the
rows (i // 2, `row` apart) and of the blocks (i % 2), j a half of these (`col` apart); blocks are `panel` apart.
Rows, or columns, of the matrix that differ in the sign of every other coefficient only (points p and -p) share their
sums: a tile of F(4, 3) takes 144 additions and multiplications instead of 168, F(5, 3) back 240 instead of 348.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I64, Vectors, counted_loop, i64, realign_stack

Row = tuple[float, ...]
Matrix = tuple[Row, ...]
ALL = -1  # rows, or columns, are in the image


def emit_transform(
    isa: InstructionSet, dtype: str, matrix: Matrix, masked: str, step: int, epilogue: bool, stream: bool,
    quadrants: bool,
) -> ir.Module:  # fmt: skip
    """The module with the function `transform`; `masked` is "src", "dst" or ""; `epilogue` adds bias and clamps.

    The next tile lies `step` columns further on the masked side. With `stream` whole vectors are written past the
    caches, to addresses that are multiples of their size.

    transform(src, src_row, src_col, src_panel, dst, dst_row, dst_col, dst_panel, channels, ...)

    ... is `bias, relu` with an epilogue, and `rows, columns` where `src` is masked: bit y of rows and bit x of columns
    say whether src[y, x] lies in the image; else it is not read, but 0.
    """
    module = ir.Module("transform")
    v = Vectors(module, isa, dtype)
    p = v.pointer
    args = [p, I64, I64, I64, p, I64, I64, I64, I64]
    args += [p, I64] if epilogue else [I64, I64] if masked == "src" else []
    fn = ir.Function(module, ir.FunctionType(ir.VoidType(), args), "transform")
    realign_stack(fn)
    fn.args[0].add_attribute("noalias")
    fn.args[4].add_attribute("noalias")
    _Transform(v, fn, matrix, masked, step, epilogue, stream, quadrants).emit()
    return module


class _Transform:
    """Emits the body: loops over panels and their vectors around straight code for one vector."""

    def __init__(
        self, v: Vectors, fn: ir.Function, matrix: Matrix, masked: str, step: int, epilogue: bool, stream: bool,
        quadrants: bool,
    ) -> None:  # fmt: skip
        self.v, self.fn, self.matrix, self.masked, self.step = v, fn, matrix, masked, step
        self.epilogue, self.stream, self.quadrants = epilogue, stream, quadrants
        self.src, *self.src_strides = fn.args[:4]
        self.dst, *self.dst_strides = fn.args[4:8]
        self.channels, *self.options = fn.args[8:]

    def emit(self) -> None:
        """The function."""
        v, q = self.v, ir.IRBuilder(self.fn.append_basic_block("entry"))
        if self.epilogue:
            self.bias, relu = self.options
            clamps = q.icmp_signed("!=", relu, i64(0))
            self.lowest = q.select(clamps, v.constant(0.0), v.constant(float("-inf")))
        vectors = q.sdiv(q.add(self.channels, i64(v.lanes - 1)), i64(v.lanes))
        with counted_loop(q, vectors) as vector:
            panel, within = q.sdiv(vector, i64(v.isa.tile_vectors)), q.srem(vector, i64(v.isa.tile_vectors))
            first, in_panel = q.mul(vector, i64(v.lanes)), q.mul(within, i64(v.lanes))
            src, dst = (
                q.gep(pointer, [first if self._has_blocks(side) else q.add(q.mul(panel, strides[2]), in_panel)])
                for side, pointer, strides in (("src", self.src, self.src_strides), ("dst", self.dst, self.dst_strides))
            )
            left = q.sub(self.channels, first)
            with q.if_else(q.icmp_signed(">=", left, i64(v.lanes))) as (full, tail):
                with full:
                    self._whole_vector(q, src, dst, first)
                with tail:
                    self._vector(q, src, dst, first, v.mask(q, left), self.masked == "src")
        q.ret_void()

    def _whole_vector(self, q: ir.IRBuilder, src: ir.Value, dst: ir.Value, first: ir.Value) -> None:
        if self.masked != "src":
            self._vector(q, src, dst, first, None, False)
            return
        everything = i64((1 << len(self.matrix[0])) - 1)
        rows, columns = self.options
        with q.if_else(q.icmp_signed("==", q.and_(everything, q.and_(rows, columns)), everything)) as (inside, rim):
            for part, is_rim in ((inside, False), (rim, True)):
                with part:
                    self._vector(q, src, dst, first, None, is_rim)

    def _vector(
        self, q: ir.IRBuilder, src: ir.Value, dst: ir.Value, first: ir.Value, mask: ir.Value | None, is_rim: bool
    ) -> None:
        v, size = self.v, len(self.matrix[0])
        read = self._read_inside if is_rim else self._read
        src_mask, dst_mask = (mask if self.masked == side else None for side in ("src", "dst"))
        if self.masked == "src":
            self._fetch(q, src, size)
        elif not self.stream:
            self._fetch(q, dst, len(self.matrix))
        half: list[list[ir.Value]] = []
        for x in range(size):
            half.append(self._apply(q, [read(q, src, y, x, src_mask) for y in range(size)]))
        for i in range(len(self.matrix)):
            for j, value in enumerate(self._apply(q, [half[x][i] for x in range(size)])):
                if self.epilogue:
                    bias = v.load(q, q.gep(self.bias, [q.add(first, self._block(q, "dst", i, j))]), mask)
                    value = q.fadd(value, bias)
                    value = q.select(q.fcmp_ordered("<", value, self.lowest), self.lowest, value)
                at = self._at(q, dst, "dst", i, j)
                if self.stream and mask is None:
                    v.stream(q, value, at)
                else:
                    v.store(q, value, at, dst_mask)

    def _read(self, q: ir.IRBuilder, src: ir.Value, y: int, x: int, mask: ir.Value | None) -> ir.Value:
        return self.v.load(q, self._at(q, src, "src", y, x), mask)

    def _read_inside(self, q: ir.IRBuilder, src: ir.Value, y: int, x: int, mask: ir.Value | None) -> ir.Value:
        """The same, or zeros outside the image: from an address of their own, so that nothing else is touched."""
        row, column = (q.and_(bits, i64(1 << n)) for bits, n in zip(self.options, (y, x), strict=True))
        is_inside = q.and_(*(q.icmp_signed("!=", bit, i64(0)) for bit in (row, column)))
        place = q.select(is_inside, self._at(q, src, "src", y, x), self.v.zeros(q))
        return self.v.load(q, place, mask)

    def _fetch(self, q: ir.IRBuilder, pointer: ir.Value, size: int) -> None:
        """What the next tile has of a row of tiles for itself: `step` columns, of rows that no tile above it saw.

        With quadrants it is what lies `step` times four blocks further on in each row.
        """
        rows, columns = range(size - self.step, size), range(size, size + self.step)
        if self.quadrants:
            rows, columns = range(size), range(size)
            pointer = q.gep(pointer, [q.mul(self._strides(self.masked)[2], i64(4 * self.step))])
        writes = self.masked == "dst"
        for y in rows:
            for x in columns:
                self.v.prefetch(q, self._at(q, pointer, self.masked, y, x), level=1 if writes else 2, write=writes)

    def _at(self, q: ir.IRBuilder, pointer: ir.Value, side: str, i: int, j: int) -> ir.Value:
        row, col, _ = self._strides(side)
        step = 2 if self._has_blocks(side) else 1
        place = q.add(q.mul(row, i64(i // step)), q.mul(col, i64(j // step)))
        return q.gep(pointer, [q.add(place, self._block(q, side, i, j))])

    def _block(self, q: ir.IRBuilder, side: str, i: int, j: int) -> ir.Value:
        """Where a block begins in its row."""
        return q.mul(self._strides(side)[2], i64(2 * (i % 2) + j % 2)) if self._has_blocks(side) else i64(0)

    def _has_blocks(self, side: str) -> bool:
        return self.quadrants and side == self.masked

    def _strides(self, side: str) -> Sequence[ir.Value]:
        return self.src_strides if side == "src" else self.dst_strides

    def _apply(self, q: ir.IRBuilder, values: list[ir.Value]) -> list[ir.Value]:
        """matrix @ values; rows that mirror one another share their even and odd sums, and so do columns."""
        columns, values = self._with_shared_columns(q, values)
        rows = list(zip(*columns, strict=True))
        out: list[ir.Value] = []
        while len(out) < len(rows):
            row, after = rows[len(out)], rows[len(out) + 1] if len(out) + 1 < len(rows) else ()
            if _mirrored(row, after):
                even, odd = _even_and_odd(row, after)
                factor = 1.0 if 1.0 in odd else next(c for c in odd if c)  # is multiplied where odd is added
                even_sum, odd_sum = self._sum(q, even, values), self._sum(q, [c / factor for c in odd], values)
                out += [self._add(q, even_sum, sign * factor, odd_sum) for sign in (1, -1)]
            else:
                out.append(self._sum(q, row, values))
        return out

    def _with_shared_columns(self, q: ir.IRBuilder, values: list[ir.Value]) -> tuple[list[Row], list[ir.Value]]:
        """Columns and values; in place of two mirrored ones what sees the sum of their values, and the difference."""
        columns: list[Row] = []
        shared: list[ir.Value] = []
        old = list(zip(*self.matrix, strict=True))
        while len(columns) < len(old):
            i = len(columns)
            column, after = old[i], old[i + 1] if i + 1 < len(old) else ()
            if _mirrored(column, after):
                columns += _even_and_odd(column, after)
                shared += [q.fadd(values[i], values[i + 1]), q.fsub(values[i], values[i + 1])]
            else:
                columns.append(column)
                shared.append(values[i])
        return columns, shared

    def _sum(self, q: ir.IRBuilder, row: Sequence[float], values: list[ir.Value]) -> ir.Value:
        """The sum of coefficient times value, terms with coefficient 1 first."""
        terms = sorted(((c, x) for c, x in zip(row, values, strict=True) if c), key=lambda term: term[0] != 1)
        (c, total), *rest = terms
        if c != 1:
            total = q.fmul(total, self.v.constant(c))
        for c, x in rest:
            total = self._add(q, total, c, x)
        return total

    def _add(self, q: ir.IRBuilder, total: ir.Value, c: float, x: ir.Value) -> ir.Value:
        """total + c x."""
        if abs(c) == 1:
            return q.fadd(total, x) if c == 1 else q.fsub(total, x)
        return self.v.multiply_add(q, x, self.v.constant(c), total)


def _even_and_odd(row: Row, other: Row) -> tuple[Row, Row]:
    """Where the signs of two mirrored rows are equal, and where they differ: their even part and their odd one."""
    pairs = list(zip(row, other, strict=True))
    return tuple(c if c * d > 0 else 0.0 for c, d in pairs), tuple(c if c * d < 0 else 0.0 for c, d in pairs)


def _mirrored(row: Row, other: Row) -> bool:
    """Whether two rows differ in the signs of some coefficients, but not of all."""
    alike = [math.isclose(abs(c), abs(d), abs_tol=1e-12) for c, d in zip(row, other, strict=False)]
    signs = {c * d > 0 for c, d in zip(row, other, strict=False) if c}
    return len(other) > 0 and all(alike) and len(signs) == 2
