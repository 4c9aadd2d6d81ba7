"""LRN: local response normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import lrn, pooling
from breve.layers.base import Layer
from breve.layers.views import channels_last, image_shape, overwritten_channels_last


class LRN(Layer):
    """Each value divided by a power of the mean square of its neighbours, in other channels or in its own.

    Forward: y = x s^-beta. ACROSS_CHANNELS: s = k + alpha / n times the sum of x^2 over the n = `local_size` channels
        about this one, as far as there are any. WITHIN_CHANNEL: s = 1 + alpha / n^2 times the sum of x^2 over the n x n
        pixels about this one, as far as they are inside; k is not used.
    Backward: dx = dy s^-beta - 2 alpha beta / n (or n^2) x times the sum of dy x s^(-beta - 1) over the same
        neighbours.
    Blobs: bottom (N, C, H, W); top of the same shape, in place if wished (then x is kept aside).
    Fields: lrn_param: `local_size` (5), odd, `alpha` (1), `beta` (0.75), `norm_region` (ACROSS_CHANNELS), `k` (1);
        `engine` is ignored.
    Errors: an even `local_size`; a bottom without four axes.
    Source: Caffe's lrn_layer; A. Krizhevsky et al., ImageNet classification with deep convolutional neural networks,
        2012.
    """

    in_place: ClassVar[bool] = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the parameters."""
        param = self.param.lrn_param
        if param.local_size % 2 == 0:
            raise LayerError("local_size is not odd", expected="1, 3, 5, ...", found=param.local_size)
        self.within = param.norm_region == param.WITHIN_CHANNEL
        self.size = param.local_size
        self.alpha, self.beta, self.k = (self.dtype.type(value) for value in (param.alpha, param.beta, param.k))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top as bottom."""
        image_shape(bottom[0], "LRN")
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Divide by the power of the neighbours' mean square."""
        x = channels_last(bottom[0].data)
        self.bottom_data = x.copy() if top[0] is bottom[0] else x
        with overwritten_channels_last(top[0].data) as y:
            if self.within:
                np.multiply(x, self._powers(self._sums(x)), out=y)
            else:
                lrn.across_channels(_rows(x), self.size, self.alpha, self.beta, self.k, _rows(y))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """By the value itself, and by all the sums that it is part of."""
        if not propagate_down[0]:
            return
        x, dy = self.bottom_data, channels_last(top[0].diff)
        with overwritten_channels_last(bottom[0].diff) as dx:
            if self.within:
                self._within_backward(x, dy, dx)
            else:
                parameters = self.size, self.alpha, self.beta, self.k
                lrn.across_channels_backward(_rows(dy), _rows(x), *parameters, _rows(dx))

    def _within_backward(self, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        s = self._sums(x)
        powers = self._powers(s)
        through_sums = self._mean(dy * x * powers / s)
        dx[...] = dy * powers - (2 * self.alpha * self.beta) * x * through_sums

    def _sums(self, x: np.ndarray) -> np.ndarray:
        """The s of WITHIN_CHANNEL."""
        return 1 + self.alpha * self._mean(x * x)

    def _mean(self, values: np.ndarray) -> np.ndarray:
        """The mean over the size x size pixels about each, zero outside the image."""
        result = np.empty_like(values)
        pooling.average(values, (self.size, self.size, 1, 1, self.size // 2, self.size // 2), result)
        return result

    def _powers(self, s: np.ndarray) -> np.ndarray:
        """s ** -beta."""
        powers = np.empty_like(s)
        lrn.inverse_powers(s.reshape(-1), self.beta, powers.reshape(-1))
        return powers


def _rows(array: np.ndarray) -> np.ndarray:
    """A contiguous (N, H, W, C) array as (pixels, C)."""
    batch, height, width, channels = array.shape
    return array.reshape(batch * height * width, channels)
