"""Depthwise convolution as LLVM IR: a run of pixels in one row, a vector of channels at a time.

    correlate   y[p] = bias + sum over rows r and taps j of w[r, j] x[r, p stride + j step]
    accumulate  w[r, j] += sum over pixels p of y[p] x[r, p stride + j step]

for p < pixels, every number a vector of channels. Positions of x before `first` or from `last` on lie outside the
image: they are left out when the code is made, so edges cost nothing. Each x is loaded once for all the sums it takes
part in. One call computes several runs side by side, of one row of pixels or of two, the lower of which sees a row of x
with the weights that the upper one has for the row before. Meanwhile it fetches what the next row of pixels needs of x,
and what the next run needs of y: up to a seventh faster where both come from the third-level cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from llvmlite import ir

from breve.kernels.microkernel.brgemm import RELU, STREAM
from breve.kernels.microkernel.instruction_sets import InstructionSet
from breve.kernels.microkernel.vectors import I64, LINE_BYTES, Vectors, counted_loop, i64, local, opaque

FETCH = 16  # beside RELU and STREAM: fetch y, and `fresh` rows of x `ahead` elements behind the run's first position
_VECTOR_REGISTER = {("x86_64", 16): "x", ("x86_64", 32): "v", ("aarch64", 32): "w"}  # LLVM's letters, by registers


class Run(NamedTuple):
    """What a function is made for."""

    pixels: int
    taps: int
    stride: int
    step: int
    first: int
    last: int
    fresh: int = 1
    """Rows of x that the next row of pixels sees first."""
    fetch_level: int = 2
    """Of the cache that they are fetched into."""
    lines: int = 1
    """Cache lines of channels worked on together, if there are registers: a tenth to a quarter faster while near."""
    rows: int = 1
    """Rows of pixels computed together, 1 or 2."""


def emit_correlate(isa: InstructionSet, dtype: str, run: Run) -> ir.Module:
    """The module with `run`, whose arguments are `_Arguments`."""
    v, q, a = _function(isa, dtype)
    clamps, streams = (q.icmp_unsigned("!=", q.and_(a.flags, i64(bit)), i64(0)) for bit in (RELU, STREAM))
    lowest = q.select(clamps, v.constant(0.0), v.constant(float("-inf")))

    def body(line: _Line, x: ir.Value, y: ir.Value) -> None:
        start = line.load(a.bias)
        sums = [line.variables(start) for _ in range(run.rows * run.pixels)]
        for first_row, count, numbers in _stretches(q, a, run):
            with counted_loop(q, count) as index:
                row = q.add(first_row, index)
                w_rows = [_row(q, a.w, q.sub(row, i64(n)), a.w_row) for n in numbers]
                weights = [[line.load(at) for at in _along(q, w_row, a.w_tap, run.taps)] for w_row in w_rows]
                for position, value in _pixels(q, line, _row(q, x, row, a.x_row), a.x_col, run):
                    for n, taps in zip(numbers, weights, strict=True):
                        for pixel, tap in _pairs(run, position):
                            line.multiply_add(value, taps[tap], sums[n * run.pixels + pixel])
                    line.fence(sums)
        places = [at for n in range(run.rows) for at in _along(q, _row(q, y, i64(n), a.y_row), a.y_col, run.pixels)]

        def write(store: Callable[[list[ir.Value], ir.Value], None]) -> None:
            for slots, at in zip(sums, places, strict=True):
                values = [q.load(slot) for slot in slots]
                store([q.select(q.fcmp_ordered("<", value, lowest), lowest, value) for value in values], at)

        if line.mask is not None:
            write(line.store)
            return
        with q.if_else(streams) as (streaming, storing):
            with streaming:
                write(line.stream)
            with storing:
                write(line.store)

    most = isa.registers // (run.rows * (run.pixels + run.taps) + 1)
    _each_line(q, v, a, run, max(line_vectors(isa), min(run.lines * line_vectors(isa), most)), body, writes=True)
    return v.module


def emit_accumulate(isa: InstructionSet, dtype: str, run: Run) -> ir.Module:
    """The module with `run` of the same arguments, `bias` and all flags but FETCH unused."""
    v, q, a = _function(isa, dtype)

    def body(line: _Line, x: ir.Value, y: ir.Value) -> None:
        with counted_loop(q, a.rows) as row:
            places = _along(q, _row(q, a.w, row, a.w_row), a.w_tap, run.taps)
            sums = [line.variables(line.load(at, masked=False)) for at in places]
            pixels = _along(q, y, a.y_col, run.pixels)
            gradients: dict[int, list[ir.Value]] = {}
            for position, value in _pixels(q, line, _row(q, x, row, a.x_row), a.x_col, run):
                for pixel, tap in _pairs(run, position):
                    if pixel not in gradients:
                        gradients[pixel] = line.load(pixels[pixel])
                    line.multiply_add(value, gradients[pixel], sums[tap])
                line.fence(sums)
            for slots, at in zip(sums, places, strict=True):
                line.store([q.load(slot) for slot in slots], at, masked=False)

    _each_line(q, v, a, run, min(run.lines * line_vectors(isa), isa.registers * 3 // 4 // run.taps), body, writes=False)
    return v.module


def line_vectors(isa: InstructionSet) -> int:
    """Vectors in a cache line."""
    return max(1, LINE_BYTES // isa.vector_bytes)


class _Line:
    """Some vectors of channels that are worked on together, the only one of a tail masked."""

    def __init__(self, q: ir.IRBuilder, v: Vectors, first: ir.Value, vectors: int, mask: ir.Value | None) -> None:
        self.q, self.v, self.vectors, self.mask = q, v, vectors, mask
        self.first = first

    def _pointers(self, at: ir.Value) -> list[ir.Value]:
        return [self.q.gep(at, [self.q.add(self.first, i64(u * self.v.lanes))]) for u in range(self.vectors)]

    def load(self, at: ir.Value, masked: bool = True) -> list[ir.Value]:
        """The channels of a pixel; a buffer has room for whole vectors and needs no mask."""
        return [self.v.load(self.q, pointer, self.mask if masked else None) for pointer in self._pointers(at)]

    def store(self, values: list[ir.Value], at: ir.Value, masked: bool = True) -> None:
        """Write the channels of a pixel."""
        for value, pointer in zip(values, self._pointers(at), strict=True):
            self.v.store(self.q, value, pointer, self.mask if masked else None)

    def stream(self, values: list[ir.Value], at: ir.Value) -> None:
        """Write the channels of a pixel past the caches; there is no tail then."""
        for value, pointer in zip(values, self._pointers(at), strict=True):
            self.v.stream(self.q, value, pointer)

    def variables(self, values: list[ir.Value]) -> list[ir.Value]:
        """Registers that hold the values for now."""
        slots = [local(self.q, self.v.vector) for _ in values]
        for slot, value in zip(slots, values, strict=True):
            self.q.store(value, slot)
        return slots

    def multiply_add(self, a: list[ir.Value], b: list[ir.Value], slots: list[ir.Value]) -> None:
        """slots += a b."""
        for x, y, slot in zip(a, b, slots, strict=True):
            self.q.store(self.v.multiply_add(self.q, x, y, self.q.load(slot)), slot)

    def fence(self, variables: list[list[ir.Value]]) -> None:
        """Have these sums up to date before the next load: LLVM would load all first and run out of registers."""
        isa = self.v.isa
        constraint = _VECTOR_REGISTER.get((isa.machine, isa.registers))
        values = [self.q.load(slot) for slots in variables for slot in slots]
        if constraint is not None and len(values) <= isa.registers * 3 // 4:
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in values])
            self.q.asm(kind, "", ",".join([constraint] * len(values) + ["~{memory}"]), values, side_effect=True)


class _Arguments(NamedTuple):
    """Arrays, and distances in elements."""

    runs: ir.Value
    """How many, one `x_run` and `y_run` further than the other."""
    x: ir.Value
    x_run: ir.Value
    x_row: ir.Value
    x_col: ir.Value
    w: ir.Value
    w_row: ir.Value
    w_tap: ir.Value
    y: ir.Value
    y_run: ir.Value
    y_col: ir.Value
    rows: ir.Value
    channels: ir.Value
    bias: ir.Value
    flags: ir.Value
    ahead: ir.Value
    """From a run's x to what is fetched for the next row of pixels: `fresh` rows, `ahead_row` apart."""
    ahead_row: ir.Value
    y_ahead: ir.Value
    """The same for its y."""
    y_row: ir.Value
    """From a row of pixels to the next, where a run has two."""
    upper: ir.Value
    """1 if the upper of them has a row of x for itself, before the `rows` that both see, else 0."""
    lower: ir.Value
    """The same for the lower one, behind them."""


def _function(isa, dtype):
    v = Vectors(ir.Module("depthwise"), isa, dtype)
    pointers = dict.fromkeys(("x", "w", "y", "bias"), v.pointer)
    kinds = [pointers.get(name, I64) for name in _Arguments._fields]
    fn = ir.Function(v.module, ir.FunctionType(ir.VoidType(), kinds), "run")
    arguments = _Arguments(*fn.args)
    for pointer in (arguments.x, arguments.w, arguments.y):
        pointer.add_attribute("noalias")
    return v, ir.IRBuilder(fn.append_basic_block("entry")), arguments


def _each_line(q, v, a, run, vectors, body, writes):
    """Emit, for each run, the body for some vectors of channels at a time, and for single ones of what is left.

    With 2^n channels all pixels of a row share few cache sets: a line should be used up before the next one is touched.
    """
    vectors = max(1, vectors)
    width = vectors * v.lanes
    asked = q.and_(a.flags, i64(FETCH | STREAM))
    fetches_x = q.icmp_unsigned("!=", q.and_(asked, i64(FETCH)), i64(0))
    fetches_y = q.icmp_unsigned("==", asked, i64(FETCH))

    def fetch(start: ir.Value, first: ir.Value, pixels: int, pixel: ir.Value, **options: Any) -> None:
        """A share of so many pixels: with stride 1 line by line as they lie, else those of the same channels."""
        along, step = (q.mul(first, i64(pixels)), i64(width)) if writes and run.stride == 1 else (first, pixel)
        for number in range(pixels):
            v.prefetch(q, _row(q, q.gep(start, [along]), i64(number), step), **options)

    with counted_loop(q, a.runs) as number:
        x, y = _row(q, a.x, number, a.x_run), _row(q, a.y, number, a.y_run)
        with counted_loop(q, q.sdiv(q.add(a.channels, i64(width - 1)), i64(width))) as line:
            first = q.mul(line, i64(width))
            left = q.sub(a.channels, first)
            with q.if_then(fetches_x):
                for row in range(run.fresh):
                    ahead = q.gep(x, [q.add(a.ahead, q.mul(a.ahead_row, i64(row)))])
                    fetch(ahead, first, run.pixels * run.stride, a.x_col, level=run.fetch_level)
            with q.if_then(fetches_y):
                fetch(q.gep(y, [a.y_ahead]), first, run.pixels, a.y_col, level=1 if writes else 2, write=writes)
            with q.if_else(q.icmp_signed(">=", left, i64(width))) as (full, tail):
                with full:
                    body(_Line(q, v, first, vectors, None), x, y)
                with tail, counted_loop(q, q.sdiv(q.add(left, i64(v.lanes - 1)), i64(v.lanes))) as vector:
                    skip = q.mul(vector, i64(v.lanes))
                    body(_Line(q, v, q.add(first, skip), 1, v.mask(q, q.sub(left, skip))), x, y)
    q.ret_void()


def _stretches(q, a, run):
    """Rows of x that the same rows of pixels see: the first, how many, and the numbers of those."""
    if run.rows == 1:
        return [(i64(0), a.rows, (0,))]
    return [(i64(0), a.upper, (0,)), (a.upper, a.rows, (0, 1)), (q.add(a.upper, a.rows), a.lower, (1,))]


def _row(q, base, row, stride):
    return q.gep(base, [q.mul(row, stride)])


def _along(q, at, stride, count):
    """`count` pointers at a stride, each reached from the one before."""
    pointers = [at]
    for _ in range(count - 1):
        pointers.append(opaque(q, q.gep(pointers[-1], [stride])))
    return pointers[:count]


def _pixels(q, line, x, x_col, run):
    """Load the positions of a row that lie inside the image, one by one."""
    start = q.gep(x, [q.mul(x_col, i64(run.first))])
    for position, at in enumerate(_along(q, start, x_col, run.last - run.first), run.first):
        if _pairs(run, position):
            yield position, line.load(at)


def _pairs(run: Run, position: int) -> list[tuple[int, int]]:
    """The (pixel, tap) pairs that a position of x takes part in."""
    pairs = ((p, j) for p in range(run.pixels) for j in range(run.taps))
    return [(p, j) for p, j in pairs if p * run.stride + j * run.step == position]
