"""The doctests of the functional interface, and its errors."""

import doctest

import numpy as np
import pytest

import breve.functional
import breve.kernels.convolution
from breve.errors import LayerError, UnsupportedError
from breve.functional import col2im, conv2d, im2col


@pytest.mark.parametrize("module", [breve.functional, breve.kernels.convolution, breve.kernels.convolution.geometry])
def test_examples_run(module):
    namespace = {"np": np, **vars(module)}
    failed, attempted = doctest.testmod(module, extraglobs=namespace)
    assert attempted
    assert not failed


def test_kernel_larger_than_padded_image_is_refused():
    with pytest.raises(LayerError, match="larger than the padded input"):
        conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 7, 3)), pad=1)


def test_channels_that_do_not_fit_the_weights_are_refused():
    with pytest.raises(LayerError, match="weights has a wrong shape"):
        conv2d(np.ones((1, 3, 4, 4)), np.ones((1, 2, 3, 3)))


def test_mixed_dtypes_are_refused():
    with pytest.raises(LayerError, match="wrong dtype"):
        conv2d(np.ones((1, 1, 4, 4), np.float32), np.ones((1, 1, 3, 3)))


def test_unknown_algorithm_names_the_known():
    with pytest.raises(UnsupportedError, match="im2col"):
        conv2d(np.ones((1, 1, 4, 4)), np.ones((1, 1, 3, 3)), algorithm="im2coll")


def test_columns_of_wrong_size_are_refused():
    with pytest.raises(LayerError, match="columns do not fit"):
        col2im(np.ones((9, 5)), (4, 4), kernel=3)


def test_sizes_of_wrong_number_are_refused():
    with pytest.raises(LayerError, match="spatial axes"):
        im2col(np.ones((1, 4, 4)), kernel=(3, 3, 3))
