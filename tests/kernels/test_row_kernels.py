"""Kernels over rows of channels and over windows: against plain NumPy in float64, on any threads."""

import itertools

import numpy as np
import pytest

from breve.kernels import channels, lrn, pooling
from breve.kernels.threads import get_num_threads, set_num_threads

WIDTHS = (1, 3, 7, 8, 9, 17, 33)
DTYPES = (np.float32, np.float64)
TOLERANCE = {np.float32: 2e-5, np.float64: 1e-12}
NOTHING = {dtype: np.empty((1, 0, 0), dtype) for dtype in DTYPES}


def draw(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def close(got, want, dtype):
    np.testing.assert_allclose(got, want, rtol=0, atol=TOLERANCE[dtype] * max(1, np.abs(want).max(initial=0)))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("rows", [1, 31, 33, 700, 1100])
@pytest.mark.parametrize("width", WIDTHS)
def test_moments(width, rows, dtype):
    x = 5 + 3 * draw(2, rows, width, dtype=dtype)
    mean, variance = np.empty((2, 2, width), dtype)
    channels.moments(x, mean, variance)
    close(mean, x.mean(axis=1, dtype="d"), dtype)
    close(variance, x.var(axis=1, dtype="d"), dtype)


def test_moments_of_large_values_keep_their_variance():
    x = (10_000 + draw(1, 4096, 4)).astype(np.float32)
    mean, variance = np.empty((2, 1, 4), np.float32)
    channels.moments(x, mean, variance)
    np.testing.assert_allclose(variance, x.var(axis=1, dtype="d"), rtol=1e-3)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("slope", [1, 0, 0.1])
@pytest.mark.parametrize("width", WIDTHS)
def test_normalise_and_its_gradient(width, slope, dtype):
    x, dy = draw(2, 40, width, dtype=dtype), draw(2, 40, width, dtype=dtype, seed=1)
    mean, inverse, factor, shift, offset, tilt = draw(6, 2, width, dtype=dtype, seed=2)
    rule = channels.plain_rule(mean, inverse).then(factor, shift, slope)
    y, dx = np.empty_like(x), np.empty_like(x)
    channels.normalise(x, rule, y, NOTHING[dtype])
    m, i, f, b, o, t = (np.asarray(v, "d")[:, None] for v in (mean, inverse, factor, shift, offset, tilt))
    z = (x - m) * i
    v = z * f + b
    close(y, np.where(v > 0, v, slope * v), dtype)
    dv = np.where(v > 0, dy, slope * dy)
    sums = np.empty((2, 2, width), dtype)
    channels.normalise_sums(dy, x, rule, sums[0], sums[1])
    close(sums[0], dv.sum(axis=1), dtype)
    close(sums[1], (dv * z).sum(axis=1), dtype)
    dz = dy.copy()
    channels.normalise_backward(dz, x, rule, offset, tilt, dx, dz)
    close(dx, (dv - o - (x - m) * t) * i * f, dtype)
    close(dz, dv * f, dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("width", WIDTHS)
def test_scale_and_prelu_gradients(width, dtype):
    x, dy = draw(2, 40, width, dtype=dtype), draw(2, 40, width, dtype=dtype, seed=1)
    factor = draw(2, width, dtype=dtype, seed=2)
    dx, sums = np.empty_like(x), np.empty((2, 2, width), dtype)
    channels.scale_backward(dy, x, factor, dx, *sums)
    close(dx, dy * factor[:, None], dtype)
    close(sums[0], dy.sum(axis=1, dtype="d"), dtype)
    close(sums[1], (dy.astype("d") * x).sum(axis=1), dtype)
    y = np.empty_like(x)
    channels.prelu(x, factor, y, NOTHING[dtype])
    close(y, np.where(x > 0, x, factor[:, None] * x), dtype)
    channels.prelu_backward(dy, x, factor, dx, sums[0])
    close(dx, np.where(x > 0, dy, factor[:, None] * dy), dtype)
    close(sums[0], np.where(x > 0, 0, dy.astype("d") * x).sum(axis=1), dtype)


@pytest.mark.parametrize("kernel", [channels.normalise, channels.prelu], ids=["normalise", "prelu"])
def test_in_place_keeps_the_old_values(kernel):
    x = draw(1, 20, 9)
    slope = draw(1, 9, seed=3)
    rule = channels.plain_rule(slope, slope) if kernel is channels.normalise else slope
    apart, work, kept = np.empty_like(x), x.copy(), np.empty_like(x)
    kernel(x, rule, apart, NOTHING[np.float64])
    kernel(work, rule, work, kept)
    np.testing.assert_array_equal(work, apart)
    np.testing.assert_array_equal(kept, x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("beta", [0.75, 0.6])
@pytest.mark.parametrize("size", [1, 3, 5, 9])
@pytest.mark.parametrize("width", WIDTHS)
def test_lrn_across_channels(width, size, beta, dtype):
    x, dy = draw(19, width, dtype=dtype), draw(19, width, dtype=dtype, seed=1)
    alpha, k = dtype(0.7), dtype(1.5)
    padded = np.pad(x.astype("d") ** 2, [(0, 0), (size // 2, size // 2)])
    s = k + alpha / size * sum(padded[:, t : t + width] for t in range(size))
    y, dx = np.empty_like(x), np.empty_like(x)
    lrn.across_channels(x, size, alpha, dtype(beta), k, y)
    close(y, x * s**-beta, dtype)
    through = np.pad(dy * x * s ** (-beta - 1), [(0, 0), (size // 2, size // 2)])
    around = sum(through[:, t : t + width] for t in range(size))
    lrn.across_channels_backward(dy, x, size, alpha, dtype(beta), k, dx)
    close(dx, dy * s**-beta - 2 * alpha * beta / size * x * around, dtype)


WINDOWS = [  # kernel, stride, pad, all height first
    ((2, 2), (2, 2), (0, 0)),
    ((3, 3), (2, 2), (1, 1)),
    ((3, 2), (1, 2), (2, 0)),
    ((5, 6), (1, 1), (0, 0)),
    ((1, 1), (3, 2), (0, 0)),
]


def windows(in_shape, out_shape, kernel, stride, pad):
    """Each output pixel with the slices of input pixels that it sees."""
    for place in itertools.product(*map(range, out_shape)):
        edges = [(p * s - q, p * s - q + k) for p, s, q, k in zip(place, stride, pad, kernel, strict=True)]
        yield (
            place,
            tuple(slice(max(0, a), max(0, min(b, n))) for (a, b), n in zip(edges, in_shape, strict=True)),
            edges,
        )


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("kernel", "stride", "pad"), WINDOWS)
@pytest.mark.parametrize(("batch", "width"), [(1, 1), (2, 9), (3, 20), (9, 33)])
def test_pooling(batch, width, kernel, stride, pad, dtype):
    in_shape, out_shape = (
        (5, 6),
        tuple(-(-(n + 2 * p - k) // s) + 1 for n, p, k, s in zip((5, 6), pad, kernel, stride, strict=True)),
    )
    x = np.random.default_rng(0).integers(-4, 5, (batch, *in_shape, width)).astype(dtype)  # with ties
    dy = draw(batch, *out_shape, width, dtype=dtype, seed=1)
    largest, average = np.zeros_like(dy), np.zeros_like(dy)
    to_largest, to_all = np.zeros(x.shape), np.zeros(x.shape)
    for (i, j), inside, edges in windows(in_shape, out_shape, kernel, stride, pad):
        part = x[:, inside[0], inside[1]]
        area = np.prod([max(1, min(b, n + p) - a) for (a, b), n, p in zip(edges, in_shape, pad, strict=True)])
        average[:, i, j] = part.sum(axis=(1, 2)) / area
        to_all[:, inside[0], inside[1]] += (dy[:, i, j] / area)[:, None, None]
        flat = part.reshape(batch, -1, width)
        largest[:, i, j] = flat.max(axis=1) if flat.size else np.finfo(np.float32).min
        for n, c in itertools.product(range(batch), range(width)) if flat.size else ():
            h, w = divmod(int(flat[n, :, c].argmax()), part.shape[2])
            to_largest[n, inside[0].start + h, inside[1].start + w, c] += dy[n, i, j, c]
    window = (*kernel, *stride, *pad)
    y, dx, mask = np.empty_like(dy), np.empty_like(x), np.empty(dy.shape, np.int32)
    pooling.maximum(x, window, y, mask)
    np.testing.assert_array_equal(y, largest)
    pooling.maximum_backward(dy, mask, window, dx)
    close(dx, to_largest, dtype)
    pooling.average(x, window, y)
    close(y, average, dtype)
    pooling.average_backward(dy, window, dx)
    close(dx, to_all, dtype)


def test_a_maximum_of_nothing_but_nan_takes_no_pixel():
    x = np.full((1, 2, 2, 3), np.nan, np.float32)
    y, mask, dx = np.empty((1, 1, 1, 3), np.float32), np.empty((1, 1, 1, 3), np.int32), np.empty_like(x)
    window = (2, 2, 2, 2, 0, 0)
    pooling.maximum(x, window, y, mask)
    assert (y == np.finfo(np.float32).min).all()
    assert (mask == -1).all()
    pooling.maximum_backward(np.ones_like(y), mask, window, dx)
    assert (dx == 0).all()


def results():
    x, dy = draw(3, 900, 33, dtype=np.float32), draw(3, 900, 33, dtype=np.float32, seed=1)
    found = [np.empty((3, 33), np.float32) for _ in range(8)]
    channels.moments(x, found[0], found[1])
    channels.normalise_sums(dy, x, channels.plain_rule(found[0], found[1]), found[2], found[3])
    channels.scale_backward(dy, x, found[0], np.empty_like(x), found[4], found[5])
    channels.prelu_backward(dy, x, found[0], np.empty_like(x), found[6])
    image, top = x.reshape(3, 30, 30, 33), draw(3, 15, 15, 33, dtype=np.float32, seed=2)
    y, mask, dx = np.empty_like(top), np.empty(top.shape, np.int32), np.empty_like(image)
    window = (3, 3, 2, 2, 0, 0)
    pooling.maximum(image, window, y, mask)
    pooling.maximum_backward(top, mask, window, dx)
    return [*found[:7], y, dx]


def test_results_do_not_depend_on_the_number_of_threads():
    before = get_num_threads()
    try:
        set_num_threads(1)
        one = results()
        set_num_threads(2)
        two = results()
    finally:
        set_num_threads(before)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a, b)
