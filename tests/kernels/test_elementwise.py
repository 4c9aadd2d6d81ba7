"""Element-wise and exponential kernels against NumPy in float64, around vector sizes, in place, on any threads."""

import numpy as np
import pytest

from breve.kernels import elementwise, exponential
from breve.kernels.threads import get_num_threads, set_num_threads

SIZES = (0, 1, 7, 8, 9, 31, 33, 1000)
DTYPES = (np.float32, np.float64)


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def mish_slope(x):
    t = np.tanh(np.log1p(np.exp(x)))
    return t + x * (1 - t * t) * sigmoid(x)


UNARY = {
    "relu": (lambda x, y: elementwise.relu(x, x.dtype.type(0.1), y), lambda x: np.where(x > 0, x, 0.1 * x)),
    "relu6": (lambda x, y: elementwise.relu6(x, x.dtype.type(0), y), lambda x: np.clip(x, 0, 6)),
    "hard_swish": (elementwise.hard_swish, lambda x: x * np.clip(x + 3, 0, 6) / 6),
    "scaled": (lambda x, y: elementwise.scaled(x, x.dtype.type(-3), y), lambda x: -3 * x),
    "sigmoid": (exponential.sigmoid, sigmoid),
    "tanh": (exponential.tanh, np.tanh),
    "elu": (
        lambda x, y: exponential.elu(x, x.dtype.type(1), x.dtype.type(0.5), y),
        lambda x: np.where(x > 0, x, 0.5 * (np.exp(np.minimum(x, 0)) - 1)),
    ),
    "mish": (exponential.mish, lambda x: x * np.tanh(np.log1p(np.exp(x)))),
}
BINARY = {
    "relu_backward": (
        lambda x, dy, dx: elementwise.relu_backward(x, dy, x.dtype.type(0.1), dx),
        lambda x, dy: dy * np.where(x > 0, 1, 0.1),
    ),
    "relu6_backward": (
        lambda x, dy, dx: elementwise.relu6_backward(x, dy, x.dtype.type(0.1), dx),
        lambda x, dy: dy * np.where(x > 0, x < 6, 0.1),
    ),
    "hard_swish_backward": (
        elementwise.hard_swish_backward,
        lambda x, dy: dy * np.where(x >= 3, 1, np.where(x > -3, (2 * x + 3) / 6, 0)),
    ),
    "sigmoid_backward": (exponential.sigmoid_backward, lambda y, dy: dy * y * (1 - y)),
    "tanh_backward": (exponential.tanh_backward, lambda y, dy: dy * (1 - y * y)),
    "elu_backward": (
        lambda x, dy, dx: exponential.elu_backward(x, x, dy, x.dtype.type(2), x.dtype.type(0.5), dx),
        lambda x, dy: dy * np.where(x > 0, 2, x + 1),
    ),
    "mish_backward": (exponential.mish_backward, lambda x, dy: dy * mish_slope(x)),
    "weighted_sum": (
        lambda a, b, y: elementwise.weighted_sum(a, a.dtype.type(2), b, a.dtype.type(-0.5), y),
        lambda a, b: 2 * a - 0.5 * b,
    ),
}


def assert_close(got, want):
    rtol = 4e-7 if got.dtype == np.float32 else 1e-14
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol * max(1, np.abs(want).max(initial=0)))


def draw(size, dtype, seed=0):
    return np.random.default_rng(seed).uniform(-9, 9, size).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", UNARY)
def test_unary_kernel(name, dtype):
    kernel, formula = UNARY[name]
    for size in SIZES:
        x = draw(size, dtype)
        y = np.full_like(x, np.nan)
        kernel(x, y)
        assert_close(y, formula(x.astype(np.float64)))
        kernel(x, x)
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", BINARY)
def test_binary_kernel(name, dtype):
    kernel, formula = BINARY[name]
    for size in SIZES:
        a, b = draw(size, dtype), draw(size, dtype, seed=1)
        y = np.full_like(a, np.nan)
        kernel(a, b, y)
        assert_close(y, formula(a.astype(np.float64), b.astype(np.float64)))
        kernel(a, b, b)
        np.testing.assert_array_equal(b, y)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(0, 3), (1, 1), (5, 2), (3, 17), (7, 1000)])
def test_softmax_rows(shape, dtype):
    x, dy = draw(shape, dtype), draw(shape, dtype, seed=1)
    exact = np.exp(x.astype(np.float64))
    exact /= exact.sum(axis=1, keepdims=True)
    y, dx = np.empty_like(x), np.empty_like(x)
    exponential.softmax(x, y)
    assert_close(y, exact)
    exponential.softmax_backward(y, dy, dx)
    wide = y.astype(np.float64)
    assert_close(dx, wide * (dy - (wide * dy).sum(axis=1, keepdims=True)))


def test_softmax_of_huge_scores_is_finite():
    y = np.empty((1, 3), np.float32)
    exponential.softmax(np.array([[3e38, -3e38, 3e38]], np.float32), y)
    np.testing.assert_allclose(y, [[0.5, 0, 0.5]], atol=1e-30)


@pytest.mark.parametrize("dtype", DTYPES)
def test_exponentials_at_the_ends_of_the_range(dtype):
    x = np.array([-np.inf, -1e30, -100, -0.0, 1e-30, 100, 1e30, np.inf, np.nan], dtype)
    y = np.empty_like(x)
    exponential.sigmoid(x, y)
    np.testing.assert_allclose(y, [0, 0, 0, 0.5, 0.5, 1, 1, 1, np.nan], atol=1e-37)
    exponential.tanh(x, y)
    np.testing.assert_allclose(y, [-1, -1, -1, 0, 1e-30, 1, 1, 1, np.nan], rtol=1e-6)


@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_results_do_not_depend_on_threads(name):
    kernel = {**UNARY, **BINARY}[name][0]
    arrays = [draw(100_003, np.float32, seed) for seed in range(1 if name in UNARY else 2)]
    before, results = get_num_threads(), []
    try:
        for count in (1, 2, 3):
            set_num_threads(count)
            results.append(np.empty_like(arrays[0]))
            kernel(*arrays, results[-1])
    finally:
        set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[0], results[2])


def test_mask_has_the_ratio_and_differs_by_key():
    masks = np.empty((2, 200_000), np.uint8)
    for mask, key in zip(masks, ([1, 2], [1, 3]), strict=True):
        elementwise.draw_mask(np.array(key, np.uint32), 0.3, mask)
    kept = masks.mean(axis=1)
    np.testing.assert_allclose(kept, 0.7, atol=0.005)  # five standard deviations
    assert (masks[0] & masks[1]).mean() == pytest.approx(0.49, abs=0.006)
    neighbours = (masks[:, 1:] & masks[:, :-1]).mean()
    assert neighbours == pytest.approx(0.49, abs=0.006)


def test_mask_of_ratio_zero_keeps_everything():
    mask = np.zeros(1000, np.uint8)
    elementwise.draw_mask(np.array([5, 6], np.uint32), 0.0, mask)
    assert mask.all()


def test_columns_go_in_and_out():
    whole, part = np.zeros((5, 7), np.float32), draw((5, 3), np.float32)
    elementwise.insert_columns(part, 2, whole)
    np.testing.assert_array_equal(whole[:, 2:5], part)
    assert not whole[:, :2].any()
    assert not whole[:, 5:].any()
    back = np.empty_like(part)
    elementwise.extract_columns(back, 2, whole)
    np.testing.assert_array_equal(back, part)
