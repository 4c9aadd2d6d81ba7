"""BatchNorm."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import channels
from breve.layers.base import Layer
from breve.layers.coefficients import Coefficients, KeptBottom
from breve.proto import FillerParameter


class BatchNorm(Layer):
    """Each channel brought to mean 0 and variance 1, by the statistics of the batch or of all batches so far.

    Forward: y = (x - mean) / sqrt(variance + eps), per channel. Without `use_global_stats` mean and variance (divided
        by the number m of values) are the batch's, over N and all spatial axes, and the parameters move on: mean sum =
        mean + f mean sum, variance sum = m / (m - 1) variance + f variance sum, factor = 1 + f factor, where f is
        `moving_average_fraction`. With it they are the two sums divided by the factor (0 where that is still 0).
    Backward: with z = y as computed here, dx = (dy - mean(dy) - z mean(dy z)) / sqrt(variance + eps), the means over
        the batch: three paths, by x itself, by the mean and by the variance. With `use_global_stats` dx = dy /
        sqrt(variance + eps).
    Blobs: bottom (N, C, ...); top of the same shape, in place if wished.
    Params: mean sum (C); variance sum (C); factor (1). They are no weights: they get no gradient, and their `lr_mult`
        is 0.
    Fields: batch_norm_param: `use_global_stats` (true in TEST, false in TRAIN), `moving_average_fraction` (0.999),
        `eps` (1e-5).
    Errors: a bottom of one axis, or whose channels change; an `lr_mult` for a parameter that is not 0.
    Source: Caffe's batch_norm_layer; S. Ioffe and C. Szegedy, Batch normalization, 2015.
    """

    in_place: ClassVar[bool] = True

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the statistics, all zero."""
        param = self.param.batch_norm_param
        self.use_global_stats = param.use_global_stats if param.HasField("use_global_stats") else self.phase == "TEST"
        if bottom[0].ndim < 2:
            raise LayerError("BatchNorm needs an axis of channels", expected="(N, C, ...)", found=bottom[0].shape)
        self.channels, self.kept = bottom[0].shape[1], KeptBottom()
        for shape in ((self.channels,), (self.channels,), (1,)):
            self.add_parameter(shape, FillerParameter())
        self._freeze_statistics()

    def _freeze_statistics(self) -> None:
        """Give each of the three parameters lr_mult 0, as Caffe does."""
        for i in range(3):
            if i == len(self.param.param):
                self.param.param.add(lr_mult=0)
            elif self.param.param[i].lr_mult != 0:
                raise LayerError(
                    "the statistics of BatchNorm do not learn",
                    expected=f"param {i} with lr_mult 0",
                    found=f"{self.param.param[i].lr_mult:g}",
                    hint="remove its param entries",
                )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top as bottom."""
        shape = bottom[0].shape
        if len(shape) < 2 or shape[1] != self.channels:
            raise LayerError("the bottom's channels have changed", expected=self.channels, found=shape)
        self.coefficients = Coefficients(shape, 1, shape[1:2])
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Take the statistics, move the parameters, normalise."""
        bottom_data = self.coefficients.grouped(bottom[0].data)
        self.mean, variance = self._statistics(bottom_data)
        self.inverse = 1 / np.sqrt(variance + self.dtype.type(self.param.batch_norm_param.eps))
        kept = self.kept.keep(bottom_data, top[0] is bottom[0] and not self.use_global_stats)
        with self.coefficients.overwritten(top[0].data) as top_data:
            channels.normalise(bottom_data, self.mean, self.inverse, top_data, kept)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """The gradient's three paths, or the one when the statistics are constants."""
        if not propagate_down[0]:
            return
        top_diff, mean, inverse = self.coefficients.grouped(top[0].diff), self.mean, self.inverse
        with self.coefficients.overwritten(bottom[0].diff) as bottom_diff:
            if self.use_global_stats:
                np.multiply(top_diff, inverse, out=bottom_diff)
                return
            mean_dy, mean_dy_x = np.empty_like(mean), np.empty_like(mean)
            channels.normalise_sums(top_diff, self.kept.values, mean, inverse, mean_dy, mean_dy_x)
            for sums in (mean_dy, mean_dy_x):
                sums /= max(1, top_diff.shape[1])
            channels.normalise_backward(top_diff, self.kept.values, mean, inverse, mean_dy, mean_dy_x, bottom_diff)

    def _statistics(self, bottom_data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance to normalise by, (1, C) each."""
        mean_sum, variance_sum, factor = (blob.data for blob in self.blobs)
        if self.use_global_stats:
            scale = 0 if factor[0] == 0 else 1 / factor[0]
            return (mean_sum * scale)[None], (variance_sum * scale)[None]
        mean, variance = np.zeros((2, 1, self.channels), self.dtype)
        count = bottom_data.shape[1]
        if count:
            channels.moments(bottom_data, mean, variance)
            fraction = self.dtype.type(self.param.batch_norm_param.moving_average_fraction)
            unbiased = variance[0] * self.dtype.type(count / max(1, count - 1))
            for total, value in ((mean_sum, mean[0]), (variance_sum, unbiased), (factor, 1)):
                total *= fraction
                total += value
        return mean, variance
