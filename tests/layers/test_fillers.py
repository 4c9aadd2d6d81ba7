"""Fillers against the statistics and formulas that Caffe's filler.hpp states."""

import numpy as np
import pytest

from breve.errors import LayerError
from breve.layers.fillers import FILLERS, fill
from breve.proto import FillerParameter


def filled(shape, dtype=np.float64, seed=0, **fields):
    array = np.full(shape, np.nan, dtype)
    fill(array, FillerParameter(**fields), np.random.default_rng(seed))
    return array


def test_constant_is_the_default_and_zero():
    assert (filled((2, 3)) == 0).all()
    assert (filled((2, 3), type="constant", value=0.5) == 0.5).all()


def test_uniform_fills_its_range_evenly():
    x = filled((200, 500), type="uniform", min=-1, max=3)
    assert x.min() >= -1
    assert x.max() < 3
    assert x.mean() == pytest.approx(1, abs=0.02)
    assert x.var() == pytest.approx(16 / 12, rel=0.02)


def test_gaussian_has_its_mean_and_std():
    x = filled((200, 500), type="gaussian", mean=2, std=0.5)
    assert x.mean() == pytest.approx(2, abs=0.01)
    assert x.std() == pytest.approx(0.5, rel=0.02)
    assert (np.abs(x - 2) < 0.5).mean() == pytest.approx(0.6827, abs=0.01)


def test_gaussian_sparse_keeps_that_many_weights_an_input():
    x = filled((100, 1000), type="gaussian", sparse=15)
    assert (x != 0).sum(axis=0).mean() == pytest.approx(15, rel=0.05)


def test_positive_unitball_rows_sum_to_one():
    x = filled((5, 3, 4), type="positive_unitball")
    assert (x >= 0).all()
    np.testing.assert_allclose(x.sum(axis=(1, 2)), 1)


@pytest.mark.parametrize(("norm", "n"), [("FAN_IN", 300), ("FAN_OUT", 600), ("AVERAGE", 450)])
def test_xavier_and_msra_scale_by_variance_norm(norm, n):
    shape = (200, 100, 3)  # fan_in = 100 * 3, fan_out = 200 * 3
    x = filled(shape, type="xavier", variance_norm=norm)
    assert np.abs(x).max() == pytest.approx(np.sqrt(3 / n), rel=1e-3)
    assert filled(shape, type="msra", variance_norm=norm).std() == pytest.approx(np.sqrt(2 / n), rel=0.01)


def test_fan_out_of_one_axis_is_the_whole_count():
    assert np.abs(filled((3000,), type="xavier", variance_norm="FAN_OUT")).max() == pytest.approx(
        np.sqrt(3 / 3000), rel=1e-2
    )


@pytest.mark.parametrize(("size", "row"), [(4, [0.25, 0.75, 0.75, 0.25]), (3, [0.5, 1.0, 0.5]), (1, [1.0])])
def test_bilinear_interpolates(size, row):
    np.testing.assert_allclose(
        filled((2, 3, size, size), type="bilinear"), np.broadcast_to(np.outer(row, row), (2, 3, size, size))
    )


@pytest.mark.parametrize("kind", sorted(FILLERS))
def test_fill_repeats_and_rounds_alike_in_both_dtypes(kind):
    shape = (3, 2, 5, 5)
    first = filled(shape, type=kind, value=0.3)
    np.testing.assert_array_equal(first, filled(shape, type=kind, value=0.3))
    np.testing.assert_allclose(filled(shape, np.float32, type=kind, value=0.3), first, rtol=1e-6, atol=1e-7)


def test_fill_draws_large_arrays_in_blocks_as_if_at_once():
    x = filled((3, 700_000), type="gaussian")
    np.testing.assert_array_equal(x, np.random.default_rng(0).normal(size=x.shape))


def test_fill_follows_the_order_of_axes_not_of_memory():
    strided = np.zeros((2, 4, 5, 3)).transpose(0, 3, 1, 2)
    fill(strided, FillerParameter(type="gaussian"), np.random.default_rng(0))
    np.testing.assert_array_equal(strided, filled((2, 3, 4, 5), type="gaussian"))


def test_fill_reaches_a_parameter_without_axes():
    assert filled((), type="gaussian") == np.random.default_rng(0).normal()


@pytest.mark.parametrize(
    ("shape", "fields", "message"),
    [
        ((2, 3), {"type": "gausian"}, "unknown filler type 'gausian'; did you mean 'gaussian'?"),
        ((0, 3), {"type": "constant"}, "nothing to fill"),
        ((2, 3), {"type": "uniform", "min": 2}, "min is above max"),
        ((2, 3), {"type": "xavier", "sparse": 3}, "does not support sparse"),
        ((2, 3), {"type": "gaussian", "sparse": 3}, "above the number of outputs"),
        ((2, 3), {"type": "gaussian", "std": -1}, "negative"),
        ((2, 3, 4, 5), {"type": "bilinear"}, "not square"),
        ((4, 4), {"type": "bilinear"}, "not square"),
    ],
)
def test_fill_refuses_with_a_reason(shape, fields, message):
    with pytest.raises(LayerError, match=message.replace("?", r"\?")):
        filled(shape, **fields)
