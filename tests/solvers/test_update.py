"""The update kernels against the papers' formulas in float64, at sizes around a vector's and a thread's share."""

import numpy as np
import pytest

from breve.kernels import threads, update

SCALE, L2, L1, RATE, DELTA = 0.5, 0.01, 0.02, 0.1, 1e-3


def gradient(w, diff):
    return SCALE * diff + L2 * w + L1 * np.sign(w)


def sgd(g, h, momentum):
    h = momentum * h + RATE * g
    return h, (h,)


def nesterov(g, h, momentum, _):
    """Sutskever et al. 2013 as Caffe arranges it: look ahead by one momentum step from the new velocity."""
    new = momentum * h + RATE * g
    return new + momentum * (new - h), (new,)


def adagrad(g, h, delta):
    h = h + g**2
    return RATE * g / (np.sqrt(h) + delta), (h,)


def rmsprop(g, h, decay, _, delta):
    h = decay * h + (1 - decay) * g**2
    return RATE * g / (np.sqrt(h) + delta), (h,)


def adadelta(g, h, u, momentum, _, delta):
    h = momentum * h + (1 - momentum) * g**2
    step = np.sqrt(u + delta) / np.sqrt(h + delta) * g
    return RATE * step, (h, momentum * u + (1 - momentum) * step**2)


def adam(g, m, v, beta1, _, beta2, __, delta):
    m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g**2
    return RATE * m / (np.sqrt(v) + delta), (m, v)


RULES = [
    (update.sgd, sgd, 1, (0.9,)),
    (update.nesterov, nesterov, 1, (0.9, 1.9)),
    (update.adagrad, adagrad, 1, (DELTA,)),
    (update.rmsprop, rmsprop, 1, (0.95, 0.05, DELTA)),
    (update.adadelta, adadelta, 2, (0.95, 0.05, DELTA)),
    (update.adam, adam, 2, (0.9, 0.1, 0.999, 0.001, DELTA)),
]


def arrays(size, num_histories, dtype):
    rng = np.random.default_rng(size)
    w, diff = rng.standard_normal((2, size))
    w[:1] = 0  # where the L1 term has no side
    histories = rng.uniform(0.1, 1, (num_histories, size))
    return [a.astype(dtype) for a in (w, diff, *histories)]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("kernel", "formula", "num_histories", "constants"), RULES, ids=lambda v: getattr(v, "__name__", "")
)
@pytest.mark.parametrize("size", [1, 7, 8, 9, 1000, 70001])
def test_rule_agrees_with_its_formula(kernel, formula, num_histories, constants, size, dtype):
    mine = arrays(size, num_histories, dtype)
    w, diff, *histories = (a.astype(np.float64) for a in mine)
    step, moved = formula(gradient(w, diff), *histories, *constants)
    kernel(*mine, *(dtype(s) for s in (SCALE, L2, L1, RATE, *constants)))
    tolerance = 2e-6 if dtype is np.float32 else 1e-12
    for got, want in zip(mine, (w - step, step, *moved), strict=True):
        np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(
    ("kernel", "formula", "num_histories", "constants"), RULES, ids=lambda v: getattr(v, "__name__", "")
)
def test_rule_gives_the_same_bits_on_any_number_of_threads(kernel, formula, num_histories, constants):
    count, results = threads.get_num_threads(), []
    try:
        for threads_used in (1, 2):
            threads.set_num_threads(threads_used)
            mine = arrays(50021, num_histories, np.float32)
            kernel(*mine, *(np.float32(s) for s in (SCALE, L2, L1, RATE, *constants)))
            results.append(mine)
    finally:
        threads.set_num_threads(count)
    for one, two in zip(*results, strict=True):
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("size", [0, 1, 3, 4, 4095, 4096, 4097, 20000])
def test_sum_of_squares(size, dtype):
    x = np.random.default_rng(size).standard_normal(size).astype(dtype)
    assert update.sum_of_squares(x) == pytest.approx(float((x.astype(np.float64) ** 2).sum()), rel=1e-12)


def test_sum_of_squares_is_the_same_on_any_number_of_threads():
    x = np.random.default_rng(0).standard_normal(100_003).astype(np.float32)
    count, sums = threads.get_num_threads(), set()
    try:
        for threads_used in (1, 2):
            threads.set_num_threads(threads_used)
            sums.add(update.sum_of_squares(x))
    finally:
        threads.set_num_threads(count)
    assert len(sums) == 1
