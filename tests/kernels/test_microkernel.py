"""The micro-kernel: numbers around the edges of its tiles, and the text of what is emitted."""

import os
import re
import subprocess
import sys
from itertools import product

import numba
import numpy as np
import pytest

from breve.blob import aligned_zeros
from breve.kernels.microkernel import (
    ACCUMULATE,
    BIAS,
    FAR_B,
    INSTRUCTION_SETS,
    RELU,
    STREAM,
    brgemm_address,
    call,
    fetch_flag,
    host_instruction_set,
    tile_columns,
    tile_rows,
)
from breve.kernels.microkernel.brgemm import STEPS, emit_brgemm, parts_of_sum
from breve.kernels.microkernel.compile import assembly
from breve.kernels.microkernel.instruction_sets import runs_here

HERE = [isa for isa in INSTRUCTION_SETS.values() if runs_here(isa)]
DTYPES = [np.float32, np.float64]


@numba.njit
def run(address, m, n, k, taps, a, a0, a_row, a_k, b, b0, b_k, b_panel, c, c0, c_row, offsets, bias, flags):
    call(address, m, n, k, taps, a, a0, a_row, a_k, b, b0, b_k, b_panel, c, c0, c_row, offsets, 0, bias, 0, flags)


class Product:
    """Operands spread over larger arrays of NaN, so that whatever is read beside them shows."""

    def __init__(self, isa, dtype, m, n, k, taps=1, seed=0):
        rng = np.random.default_rng(seed)
        self.isa, self.dtype, self.sizes = isa, np.dtype(dtype), (m, n, k, taps)
        nr, lanes = tile_columns(dtype, isa), isa.lanes(dtype)
        self.panels = -(-n // nr)
        self.a, self.b = rng.standard_normal((taps, m, k)), rng.standard_normal((taps, k, n))
        self.c, self.bias = rng.standard_normal((m, n)), rng.standard_normal(n).astype(dtype)
        for name in ("a", "b", "c"):
            setattr(self, name, getattr(self, name).astype(dtype))
        self.a_memory = np.full((taps, m + 1, k + 3), np.nan, dtype)
        self.a_memory[:, :m, :k] = self.a
        self.b_memory = np.full((taps, self.panels, k + 1, nr), np.nan, dtype)
        for panel in range(self.panels):
            width = min(nr, n - panel * nr)
            self.b_memory[:, panel, :k, : -(-width // lanes) * lanes] = 0
            self.b_memory[:, panel, :k, :width] = self.b[:, :, panel * nr : panel * nr + width]

    def __call__(self, flags=0, before=None):
        m, n, k, taps = self.sizes
        c_memory = np.full((m + 2, n + 5), 7.0, self.dtype)
        c_memory[1 : m + 1, 2 : n + 2] = np.nan if before is None else before
        offsets = np.array(
            [[t * (m + 1) * (k + 3), t * self.panels * (k + 1) * self.nr] for t in range(taps)], np.int64
        )
        run(
            brgemm_address(self.dtype, self.isa), m, n, k, taps,
            self.a_memory.ravel(), 0, k + 3, 1, self.b_memory.ravel(), 0, self.nr, (k + 1) * self.nr,
            c_memory.ravel(), n + 5 + 2, n + 5, offsets.ravel(), self.bias, flags,
        )  # fmt: skip
        inside = c_memory[1 : m + 1, 2 : n + 2].copy()
        c_memory[1 : m + 1, 2 : n + 2] = 7.0
        np.testing.assert_array_equal(c_memory, 7.0, "written beside C")
        return inside

    @property
    def nr(self):
        return tile_columns(self.dtype, self.isa)

    def expected(self):
        return np.einsum("tik,tkj->ij", self.a.astype("d"), self.b.astype("d"))

    def check(self, found, expected):
        _, _, k, taps = self.sizes
        scale = np.einsum("tik,tkj->ij", abs(self.a.astype("d")), abs(self.b.astype("d"))) + 4
        assert (abs(found - expected) <= 2 * (k * taps + 3) * np.finfo(self.dtype).eps * scale).all()


@pytest.fixture(params=HERE, ids=lambda isa: isa.name)
def isa(request):
    return request.param


@pytest.fixture(params=DTYPES, ids=lambda dtype: np.dtype(dtype).name)
def dtype(request):
    return request.param


def around(*sizes):
    return sorted({max(1, s + d) for s in sizes for d in (-1, 0, 1)})


def test_every_tile_gives_the_sum(isa, dtype):
    lanes = isa.lanes(dtype)
    for m in range(1, 2 * isa.tile_rows + 3):
        for n in {1, 2, 3, *around(*(v * lanes for v in range(1, isa.tile_vectors + 2)))}:
            product = Product(isa, dtype, m, n, k=5, taps=2, seed=m * n)
            product.check(product(), product.expected())


@pytest.mark.parametrize("k", [0, 1, 2, 7, 8, 9, 17])
def test_any_depth_of_sum(isa, dtype, k):
    for m, n in ((1, 1), (1, tile_columns(dtype, isa)), (tile_rows(isa), 3)):
        for taps in (0, 1, 3):
            product = Product(isa, dtype, m, n, k, taps)
            product.check(product(), product.expected())


@pytest.mark.parametrize("flags", range(8))
def test_epilogue(isa, dtype, flags):
    for n in (3, tile_columns(dtype, isa), tile_columns(dtype, isa) + 1):
        product = Product(isa, dtype, m=tile_rows(isa) + 1, n=n, k=4)
        expected = product.expected()
        if flags & ACCUMULATE:
            expected = expected + product.c
        if flags & BIAS:
            expected = expected + product.bias
        if flags & RELU:
            expected = np.maximum(expected, 0)
        product.check(product(flags, before=product.c if flags & ACCUMULATE else None), expected)


@pytest.mark.parametrize("k", [0, 1, 16, 37])
def test_what_is_fetched_makes_no_difference(isa, dtype, k):
    n, taps, rng = tile_columns(dtype, isa) + 3, 2, np.random.default_rng(k)
    for m in (1, tile_rows(isa) + 1, 20 * tile_rows(isa) - 1):  # of 16 tiles on, rows farther away are fetched
        a, b = rng.standard_normal(taps * k * m).astype(dtype), rng.standard_normal(taps * k * 2 * n).astype(dtype)
        c = np.zeros((4, m, n), dtype)
        for out, (fetches_k, flags) in zip(c, product((False, True), (0, FAR_B)), strict=True):
            run(
                brgemm_address(dtype, isa, fetches_k), m, n, k, taps, a, 0, 1, m, b, 0, 2 * n, tile_columns(dtype, isa),
                out.reshape(-1), 0, n, np.array([0, 0, k * m, k * 2 * n]), np.zeros(0, dtype), flags,
            )  # fmt: skip
        assert (c == c[0]).all()
        expected = a.reshape(-1, m).astype("d").T @ b.reshape(-1, 2 * n)[:, :n].astype("d")
        np.testing.assert_allclose(c[0], expected, atol=1e3 * np.finfo(dtype).eps)


@pytest.mark.parametrize("tail", [0, 1, 3])
def test_what_is_streamed_is_what_would_be_stored(isa, dtype, tail):
    lanes, nr, m, k = isa.lanes(dtype), tile_columns(dtype, isa), tile_rows(isa) + 1, 9
    n = min(nr + lanes + tail, 2 * nr)
    rng, row = np.random.default_rng(tail), 2 * nr
    a, b, bias = (rng.standard_normal(size).astype(dtype) for size in (m * k, 2 * k * nr, n))
    stored, streamed = aligned_zeros(2 * m * row, dtype).reshape(2, -1)
    for c, flag in ((stored, 0), (streamed, STREAM)):
        run(
            brgemm_address(dtype, isa), m, n, k, 1, a, 0, k, 1, b, 0, nr, k * nr, c, 0, row, np.zeros(2, np.int64),
            bias, BIAS | RELU | flag,
        )  # fmt: skip
    np.testing.assert_array_equal(streamed, stored)
    assert (stored.reshape(m, row)[:, n:] == 0).all()
    assert stored.max() > 0


def test_relu_keeps_nan(isa, dtype):
    product = Product(isa, dtype, m=3, n=3, k=4)
    product.a_memory[0, 1, 2] = np.nan
    assert np.isnan(product(RELU)).all(axis=1).tolist() == [False, True, False]


def test_strides_of_every_kind(isa, dtype):
    """A transposed and backwards, rows of C interleaved with others: whatever strides can say."""
    rng = np.random.default_rng(1)
    m, n, k, nr = 7, tile_columns(dtype, isa) + 2, 6, tile_columns(dtype, isa)
    a, b = rng.standard_normal((k, m)).astype(dtype), rng.standard_normal((k, 2 * nr)).astype(dtype)
    c = np.zeros((m, 3, n), dtype)
    offsets = np.zeros(2, np.int64)
    run(brgemm_address(dtype, isa), m, n, k, 1, a.ravel(), (k - 1) * m, 1, -m, b.ravel(), 0, 2 * nr, nr,
        c.ravel(), n, 3 * n, offsets, b.ravel(), 0)  # fmt: skip
    np.testing.assert_allclose(c[:, 1], (a[::-1].T.astype("d") @ b[:, :n].astype("d")), rtol=1e-4, atol=1e-5)
    assert not c[:, 0].any()
    assert not c[:, 2].any()


def test_nothing_to_do_writes_nothing(isa, dtype):
    c = np.full(4, 7.0, dtype)
    one, offsets = np.ones(64, dtype), np.zeros(2, np.int64)
    for m, n in ((0, 1), (1, 0), (0, 0)):
        run(brgemm_address(dtype, isa), m, n, 1, 1, one, 0, 1, 1, one, 0, 1, 1, c, 0, 1, offsets, one, 0)
    assert (c == 7).all()


def test_address_of_another_dtype_is_another_function(isa):
    assert brgemm_address(np.float32, isa) != brgemm_address(np.float64, isa)
    assert brgemm_address(np.float32, isa) == brgemm_address("f", isa)


def tile_functions(text):
    """The lines of each tile function, by name."""
    return dict(re.findall(r"^(tile_\w+):(.*?)(?=^\.?\w*func_end|\Z)", text, re.M | re.S))


MULTIPLY_ADD = r"^\s+(?:vfmadd\w+p[sd]|fmla)\s.*$"
STACK = r"%[xyz]mm\d+, -?\d*\(%rsp\)|-?\d+\(%rsp\), .*%[xyz]mm|^\s+(?:st|ld)[rp]\s+q\d+.*\[sp"
VECTOR = {"avx512": "zmm", "avx2": "ymm", "neon": "v"}


@pytest.mark.parametrize("fetches_k", [False, True])
@pytest.mark.parametrize("name", ["avx512", "avx2", "neon"])
def test_text_has_as_many_fmas_as_the_tile_and_no_spills_in_its_loops(name, fetches_k, dtype):
    isa = INSTRUCTION_SETS[name]
    bodies = tile_functions(assembly(emit_brgemm, np.dtype(dtype).char, fetches_k, isa=isa))
    assert len(bodies) == 2 * isa.tile_rows * isa.tile_vectors
    for tile, body in bodies.items():
        rows, vectors = map(int, re.findall(r"\d+", tile))
        parts = parts_of_sum(isa, rows, vectors)
        steps = (parts if parts > 1 else STEPS) + 1  # those that are left over, one by one
        multiply_adds = re.findall(MULTIPLY_ADD, body, re.M)
        assert len(multiply_adds) == rows * vectors * steps, tile
        assert all(VECTOR[name] in line for line in multiply_adds), tile
        loops = [block for block in re.split(r"^\.LBB\w+:", body, flags=re.M) if re.search(MULTIPLY_ADD, block, re.M)]
        assert not re.search(STACK, "\n".join(loops), re.M), tile


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_text_fetches_two_lines_of_b_in_the_steps_written_out(name):
    isa = INSTRUCTION_SETS[name]
    for tile, body in tile_functions(assembly(emit_brgemm, "f", isa=isa)).items():
        fetches = len(re.findall(r"^\s+prefetcht1\s", body, re.M))
        parts = parts_of_sum(isa, *map(int, re.findall(r"\d+", tile)))
        assert fetches == (parts if parts > 1 else 2) + 1, tile  # and in those that are left over


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_text_has_a_streaming_store_for_each_whole_vector(name):
    for tile, body in tile_functions(assembly(emit_brgemm, "f", isa=INSTRUCTION_SETS[name])).items():
        rows, vectors = map(int, re.findall(r"\d+", tile))
        whole = rows * (vectors - tile.endswith("masked"))
        stores = re.findall(r"^\s+vmovntps\s", body, re.M)
        assert len(stores) == whole, tile


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_fetch_flag_is_set_where_that_has_a_call_fetch_all_of_a_panel(name, dtype):
    """Each tile fetches a line with every fourth of its steps, or with FAR_B with every second."""
    isa, steps = INSTRUCTION_SETS[name], 128
    lines = steps * tile_columns(dtype, isa) * np.dtype(dtype).itemsize // 64
    for rows in (1, 6, 12, 20, 32, 43, 48, 64, 90, 91, 128):
        tiles = -(-rows // tile_rows(isa))
        without, with_flag = (tiles * steps * share // STEPS for share in (1, 2))
        expected = FAR_B if without < lines <= with_flag else 0
        assert fetch_flag(rows, dtype, isa) == expected, rows


def test_forced_instruction_set():
    code = "from breve.kernels.microkernel import host_instruction_set; print(host_instruction_set().name)"
    for isa in HERE:
        environment = {**os.environ, "BREVE_INSTRUCTION_SET": isa.name}
        found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert found.stdout.strip() == isa.name, found.stderr
    for name, message in (("avx3", "unknown instruction set"), (not_here(), "this processor lacks")):
        environment = {**os.environ, "BREVE_INSTRUCTION_SET": name}
        found = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert message in found.stderr


def not_here():
    return next(name for name, isa in INSTRUCTION_SETS.items() if not runs_here(isa))


def test_host_takes_the_first_row_that_runs():
    assert host_instruction_set() is HERE[0] or "BREVE_INSTRUCTION_SET" in os.environ
