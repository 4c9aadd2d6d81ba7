"""Matrix products of all forms against float64, at sizes around the register tile and the blocks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from breve.errors import LayerError
from breve.kernels import microkernel
from breve.kernels.gemm import RUN, STREAMS, block_depth, gemm
from breve.kernels.threads import get_num_threads, set_num_threads

DTYPES = [np.float32, np.float64]
MR, NR, KC = microkernel.tile_rows(), microkernel.tile_columns(np.float32), block_depth(1000, np.float32)
SIZES = [
    (1, 1, 1), (1, 10, 500), (2, 3, 5), (4, 33, 17), (5, 33, 17), (MR - 1, NR - 1, KC - 1), (MR, NR, KC),
    (MR + 1, NR + 1, KC + 1), (64, 500, 800), (64, 10, 500), (500, 800, 64), (200, 3, 70), (3, 700, 2 * KC + 3),
    (8, 2 * RUN + NR, 2 * STREAMS + 1), (3, NR, STREAMS), (9, 2 * NR, 40), (100, NR, 500),
]  # fmt: skip


def matrix(rng, rows, columns, dtype, transposed):
    return rng.standard_normal((columns, rows) if transposed else (rows, columns)).astype(dtype)


def product(a, b):
    """In float64, or wider than that: BLAS's own float64 product errs by as much as ours, or more."""
    wide = np.longdouble if a.dtype == np.float64 else np.float64
    return a.astype(wide) @ b.astype(wide)


def assert_close(out, expected, k):
    scale = np.sqrt(k) + 1
    np.testing.assert_allclose(out, expected, rtol=0, atol=20 * np.finfo(out.dtype).eps * scale)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", [0.0, 1.0])
@pytest.mark.parametrize("trans_b", [False, True])
@pytest.mark.parametrize("trans_a", [False, True])
@pytest.mark.parametrize("size", SIZES, ids=str)
def test_product_agrees_with_float64(size, trans_a, trans_b, beta, dtype):
    m, n, k = size
    rng = np.random.default_rng(0)
    a, b = matrix(rng, m, k, dtype, trans_a), matrix(rng, k, n, dtype, trans_b)
    out = rng.standard_normal((m, n)).astype(dtype)
    left, right = (x.T if t else x for x, t in ((a, trans_a), (b, trans_b)))
    expected = product(left, right) + beta * out
    if beta == 0:
        out[...] = np.nan
    assert gemm(a, b, out, trans_a, trans_b, beta=beta) is out
    assert_close(out, expected, k)


@pytest.mark.parametrize("k", [1024, 1000, KC + 5])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_would_meet_in_one_set_of_the_cache(dtype, k):
    rng = np.random.default_rng(k)
    wide, b = rng.standard_normal((205, 1024)).astype(dtype), rng.standard_normal((k, NR + 5)).astype(dtype)
    a, out = wide[:, 1024 - k :], np.empty((205, NR + 5), dtype)  # rows 4 or 8 KB apart
    assert_close(gemm(a, b, out), product(a, b), k)


@pytest.mark.parametrize(("alpha", "beta"), [(2.0, 0.0), (-0.5, 1.0), (1.0, 0.25), (0.0, 1.0)])
def test_factors_scale_product_and_old_values(alpha, beta):
    rng = np.random.default_rng(0)
    a, b, out = rng.standard_normal((7, 9)), rng.standard_normal((9, 5)), rng.standard_normal((7, 5))
    expected = alpha * (a @ b) + beta * out
    gemm(a, b, out, alpha=alpha, beta=beta)
    assert_close(out, expected, 9)


def strided(draw, rows, columns, rng):
    """A matrix in the middle of a larger one, with steps, and perhaps turned round or transposed."""
    step_r, step_c = draw(st.integers(-2, 3).filter(bool)), draw(st.integers(-2, 3).filter(bool))
    big = rng.standard_normal((abs(step_r) * rows + 3, abs(step_c) * columns + 2)).astype(np.float32)
    return big[1:][::step_r][:rows, ::step_c][:, :columns]


@settings(max_examples=60, deadline=None)
@given(st.data(), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_strides_do_not_matter_and_nothing_else_is_written(data, m, n, k):
    rng = np.random.default_rng(m * 1600 + n * 40 + k)
    a, b = strided(data.draw, m, k, rng), strided(data.draw, k, n, rng)
    around = np.full((m + 2, 2 * n + 2), 7, np.float32)
    out = around[1:-1, 1 : 1 + n] if data.draw(st.booleans()) else around[1:-1, 1 : 1 + 2 * n : 2]
    gemm(a, b, out)
    assert_close(out, product(a, b), k)
    out[...] = 7
    assert (around == 7).all()


def test_transposed_output_is_written_in_place():
    rng = np.random.default_rng(0)
    a, b, out = rng.standard_normal((70, 30)), rng.standard_normal((30, 90)), np.empty((90, 70)).T
    gemm(a, b, out)
    assert_close(out, a @ b, 30)


def test_empty_sum_is_zero_and_empty_output_is_left():
    out = np.full((2, 3), np.nan, np.float32)
    gemm(np.empty((2, 0), np.float32), np.empty((0, 3), np.float32), out)
    assert (out == 0).all()
    assert gemm(np.ones((0, 4)), np.ones((4, 3)), np.empty((0, 3))).shape == (0, 3)


@pytest.mark.parametrize("size", [(64, 500, 800), (3, 700, 300), (300, 20, 40)], ids=str)
def test_threads_do_not_change_a_bit(size):
    m, n, k = size
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((m, k), (n, k)))
    before, results = get_num_threads(), []
    try:
        for threads in (1, 2):
            set_num_threads(threads)
            results.append(gemm(a, b, np.empty((m, n), np.float32), trans_b=True))
    finally:
        set_num_threads(before)
    np.testing.assert_array_equal(*results)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(LayerError, match=r"gemm: the shapes do not fit.*found \(2, 3\) by \(4, 5\)"):
        gemm(np.ones((2, 3)), np.ones((4, 5)), np.ones((2, 5)))
