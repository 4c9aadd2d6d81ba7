"""Rows of channels with statistics and coefficients for each channel, as LLVM IR: BatchNorm, Scale and ReLU.

    "sum"       first[c] = sum_r  x
    "squares"   first[c] = sum_r  off^2,   off = x - mean[c]
    "sums"      first[c] = sum_r  dv,   second[c] = sum_r  dv off
    "forward"   first[r, c] = v if v > 0 else slope[c] v,   v = off gain[c] + shift[c];   second[r, c] = x
    "backward"  first[r, c] = (dv - offset[c] - off tilt[c]) gain[c],   dv = dy if v > 0 else slope[c] dy;
                second[r, c] = dv factor[c]

with x and dy of row r and channel c. For sums some vectors of channels at a time go down all rows, so that sums stay in
registers. numba's loop over the channels of a row loaded and stored them for each row: with 64 channels, all of it in
the third-level cache, that took twice to three times as long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I64, Vectors, counted_loop, i64, local

AHEAD = 16  # rows that are fetched before they are needed: sums took up to 30 % longer with 4
SECOND, STREAM_FIRST, STREAM_SECOND = 1, 2, 4  # bits of `flags`: `second` is wanted; what is written past the caches
COEFFICIENTS = "mean", "gain", "shift", "slope", "offset", "tilt", "factor"
READS = {
    "sum": COEFFICIENTS[:0],
    "squares": COEFFICIENTS[:1],
    "sums": COEFFICIENTS[:4],
    "forward": COEFFICIENTS[:4],
    "backward": COEFFICIENTS,
}
"""What each kind reads of them."""
SUMS = "sum", "squares", "sums"


def emit_normalisation(isa: InstructionSet, dtype: Any, kind: str) -> ir.Module:
    """The module with the function `normalisation`; what a kind does not name may be anything.

    normalisation(rows, channels, x, dy, coefficients, apart, first, second, flags)

    Rows lie one after another; so do the coefficients of a name, which are `apart` from those of the next. `first` and
    `second` may be x or dy itself. With STREAM_ flags whole vectors of them lie on multiples of their size.
    """
    module = ir.Module("normalisation")
    v = Vectors(module, isa, dtype)
    arguments = [I64, I64, v.pointer, v.pointer, v.pointer, I64, v.pointer, v.pointer, I64]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), "normalisation")
    q = ir.IRBuilder(function.append_basic_block("entry"))
    body = _Channels(q, v, kind, function.args)
    if kind in SUMS:
        body.over_channels(body.sum_rows)
    else:
        with counted_loop(q, body.rows) as row:
            body.row = q.mul(row, body.channels)
            body.over_channels(body.map_row)
    q.ret_void()
    return module


class _Channels:
    """Some neighbouring vectors of channels: all of them whole, or one of `count` lanes."""

    def __init__(self, q: ir.IRBuilder, v: Vectors, kind: str, args: tuple[ir.Argument, ...]) -> None:
        self.q, self.v, self.kind = q, v, kind
        self.rows, self.channels, self.x, self.dy, coefficients, apart, self.first, self.second, self.flags = args
        self.pointers = {name: q.gep(coefficients, [q.mul(apart, i64(i))]) for i, name in enumerate(COEFFICIENTS)}
        self.row = i64(0)

    def over_channels(self, emit: Callable[[list[ir.Value]], None]) -> None:
        """Emit for all channels, given where some vectors begin."""
        q, lanes, width = self.q, self.v.lanes, self.v.isa.registers // 8
        wide = q.sdiv(self.channels, i64(width * lanes))
        self.count = self.mask = None
        with counted_loop(q, wide) as index:
            first = q.mul(index, i64(width * lanes))
            emit([q.add(first, i64(j * lanes)) for j in range(width)])
        done = q.mul(wide, i64(width * lanes))
        with counted_loop(q, q.sdiv(q.add(q.sub(self.channels, done), i64(lanes - 1)), i64(lanes))) as index:
            place = q.add(done, q.mul(index, i64(lanes)))
            left = q.sub(self.channels, place)
            with q.if_else(q.icmp_signed(">=", left, i64(lanes))) as (whole, tail):
                with whole:
                    emit([place])
                with tail:
                    self.count, self.mask = left, self.v.mask(q, left)
                    emit([place])

    def sum_rows(self, places: list[ir.Value]) -> None:
        """The sums of all rows."""
        q, v = self.q, self.v
        coefficients = [self._coefficients(place) for place in places]
        outputs = [self.first, self.second] if self.kind == "sums" else [self.first]
        sums = [[local(q, v.vector) for _ in outputs] for _ in places]
        for variable in (variable for variables in sums for variable in variables):
            q.store(v.constant(0.0), variable)
        with counted_loop(q, self.rows) as row:
            start = q.mul(row, self.channels)
            for place, variables, of in zip(places, sums, coefficients, strict=True):
                self._add(variables, q.add(start, place), of)
        for place, variables in zip(places, sums, strict=True):
            for variable, output in zip(variables, outputs, strict=True):
                self._store(q.load(variable), output, place)

    def map_row(self, places: list[ir.Value]) -> None:
        """Outputs of one row."""
        for place in places:
            self._map(self.q.add(self.row, place), self._coefficients(place))

    def _coefficients(self, place: ir.Value) -> dict[str, ir.Value]:
        return {name: self._load(self.pointers[name], place) for name in READS[self.kind]}

    def _add(self, sums: list[ir.Value], at: ir.Value, of: dict[str, ir.Value]) -> None:
        """One vector of a row, added to its sums."""
        q, v = self.q, self.v
        if self.kind == "sums":
            off, dv = self._passed(at, of)
            q.store(q.fadd(q.load(sums[0]), dv), sums[0])
            q.store(v.multiply_add(q, dv, off, q.load(sums[1])), sums[1])
            return
        x = self._fetching(self.x, at)
        if self.kind == "sum":
            q.store(q.fadd(q.load(sums[0]), x), sums[0])
        else:
            off = q.fsub(x, of["mean"])
            q.store(v.multiply_add(q, off, off, q.load(sums[0])), sums[0])

    def _map(self, at: ir.Value, of: dict[str, ir.Value]) -> None:
        """One vector of a row of outputs."""
        q, v = self.q, self.v
        if self.kind == "forward":
            second = self._fetching(self.x, at)
            value = v.multiply_add(q, q.fsub(second, of["mean"]), of["gain"], of["shift"])
            first = q.select(self._positive(value), value, q.fmul(value, of["slope"]))
        else:
            off, dv = self._passed(at, of)
            tilted = q.fsub(q.fsub(dv, of["offset"]), q.fmul(off, of["tilt"]))
            first, second = q.fmul(tilted, of["gain"]), q.fmul(dv, of["factor"])
        with q.if_then(self._set(SECOND)):
            self._write(second, self.second, at, STREAM_SECOND)
        self._write(first, self.first, at, STREAM_FIRST)

    def _passed(self, at: ir.Value, of: dict[str, ir.Value]) -> tuple[ir.Value, ir.Value]:
        """off and dv."""
        q, v = self.q, self.v
        off, dy = q.fsub(self._fetching(self.x, at), of["mean"]), self._fetching(self.dy, at)
        value = v.multiply_add(q, off, of["gain"], of["shift"])
        return off, q.select(self._positive(value), dy, q.fmul(dy, of["slope"]))

    def _positive(self, value: ir.Value) -> ir.Value:
        return self.q.fcmp_ordered(">", value, self.v.constant(0.0))

    def _fetching(self, array: ir.Value, at: ir.Value) -> ir.Value:
        """A vector of a row; for sums, which skip from row to row, that of a later row is fetched meanwhile."""
        if self.kind in SUMS:
            ahead = self.q.add(at, self.q.mul(self.channels, i64(AHEAD)))
            self.v.prefetch(self.q, self.q.gep(array, [ahead]), level=1)
        return self._load(array, at)

    def _load(self, array: ir.Value, at: ir.Value) -> ir.Value:
        return self.v.load(self.q, self.q.gep(array, [at]), self.mask)

    def _write(self, value: ir.Value, array: ir.Value, at: ir.Value, bit: int) -> None:
        if self.count is not None:
            self._store(value, array, at)
            return
        with self.q.if_else(self._set(bit)) as (streams, stores):
            with streams:
                self.v.stream(self.q, value, self.q.gep(array, [at]))
            with stores:
                self._store(value, array, at)

    def _store(self, value: ir.Value, array: ir.Value, at: ir.Value) -> None:
        pointer = self.q.gep(array, [at])
        if self.count is None:
            self.v.store(self.q, value, pointer)
        else:
            variable = local(self.q, self.v.vector)
            self.q.store(value, variable)
            self.v.store_first(self.q, [(variable, pointer)], self.count)

    def _set(self, bit: int) -> ir.Value:
        return self.q.icmp_unsigned("!=", self.q.and_(self.flags, i64(bit)), i64(0))
