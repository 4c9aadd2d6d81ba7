"""MVN: mean-variance normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import channels
from breve.layers.base import Layer
from breve.layers.coefficients import Coefficients, KeptBottom


class MVN(Layer):
    """Each channel of each image, or each image, brought to mean 0 and variance 1.

    Forward: y = (x - mean) / (sqrt(variance) + eps), mean and variance (divided by the number of values) over a channel
        of one image, or with `across_channels` over all of it; without `normalize_variance` y = x - mean.
    Backward: dx = (dy - mean(dy) - y mean(dy y)) / (sqrt(variance) + eps); without `normalize_variance` dx = dy -
        mean(dy). This is Caffe's rule: it takes eps for 0 where the standard deviation itself is differentiated.
    Blobs: bottom (N, C, ...); top of the same shape, but with axes of 1 up to four; in place if wished (then x is kept
        aside, and the shape stays).
    Fields: mvn_param: `normalize_variance` (true), `across_channels` (false), `eps` (1e-9).
    Errors: a bottom without axes.
    Source: Caffe's mvn_layer.
    """

    in_place: ClassVar[bool] = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Nothing to learn."""
        self.kept = KeptBottom()

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top as bottom, with four axes at least."""
        if not bottom[0].ndim:
            raise LayerError("MVN needs a batch", expected="(N, C, ...)", found=())
        shape = bottom[0].shape + (1,) * (4 - bottom[0].ndim)
        self.coefficients = Coefficients(shape, 0, shape[:2])
        if bottom[0].ndim < 4 and top[0] is not bottom[0]:
            top[0].reshape(*shape)
        else:
            top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Subtract the mean, divide by the standard deviation."""
        bottom_data = self.coefficients.grouped(bottom[0].data)
        mean, variance = np.zeros((2, bottom_data.shape[0], bottom_data.shape[2]), self.dtype)
        if bottom_data.size:
            channels.moments(bottom_data, mean, variance)
        if self.param.mvn_param.across_channels:
            channel_mean, mean = mean, self._over_channels(mean)
            variance = self._over_channels(variance + (channel_mean - mean) ** 2)
        eps = self.dtype.type(self.param.mvn_param.eps)
        inverse = np.ones_like(variance)
        if self.param.mvn_param.normalize_variance:
            inverse /= np.sqrt(variance) + eps
        self.rule = channels.plain_rule(mean, inverse)
        kept = self.kept.keep(bottom_data, top[0] is bottom[0])
        with self.coefficients.overwritten(top[0].data) as top_data:
            channels.normalise(bottom_data, self.rule, top_data, kept)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """By x itself, by the mean and by the variance."""
        if not propagate_down[0]:
            return
        top_diff, x, rule = self.coefficients.grouped(top[0].diff), self.kept.values, self.rule
        sums = np.empty((2, *rule.mean.shape), self.dtype)
        channels.normalise_sums(top_diff, x, rule, sums[0], sums[1])
        mean_dy, mean_dy_y = sums / max(1, top_diff.shape[1])
        if self.param.mvn_param.across_channels:
            mean_dy, mean_dy_y = self._over_channels(mean_dy), self._over_channels(mean_dy_y)
        tilt = mean_dy_y * rule.inverse if self.param.mvn_param.normalize_variance else np.zeros_like(mean_dy)
        with self.coefficients.overwritten(bottom[0].diff) as bottom_diff:
            channels.normalise_backward(top_diff, x, rule, mean_dy, tilt, bottom_diff, np.empty((1, 0, 0), self.dtype))

    def _over_channels(self, values: np.ndarray) -> np.ndarray:
        """The mean of (N, C) over channels, given to each of them."""
        result = np.empty_like(values)
        result[...] = values.mean(axis=1, keepdims=True)
        return result
