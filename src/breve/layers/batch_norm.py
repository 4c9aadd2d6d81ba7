"""BatchNorm, as Caffe has it and in the dialect of NVIDIA's fork."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import channels
from breve.layers.base import Layer
from breve.layers.batch_norm_statistics import CaffeStatistics, NvidiaStatistics, Statistics
from breve.layers.coefficients import Coefficients, KeptBottom
from breve.proto import FillerParameter


class BatchNorm(Layer):
    """Each channel brought to mean 0 and variance 1, by the statistics of the batch or of all batches so far.

    Forward: y = z = (x - mean) / sqrt(variance + eps), per channel. Without `use_global_stats` mean and variance
        (divided by the number m of values) are the batch's, over N and all spatial axes, and the parameters move on:
        mean sum = mean + f mean sum, variance sum = m / (m - 1) variance + f variance sum, factor = 1 + f factor, where
        f is `moving_average_fraction`. With it they are the two sums divided by the factor (0 where that is still 0).
        In NVIDIA's dialect (`scale_bias`, or one of its fillers) y = a z + b, and the parameters are moving averages
        themselves: mean = (1 - f) mean + f old, likewise variance + eps; the first two batches replace them.
    Backward: dx = (dy - mean(dy) - z mean(dy z)) / sqrt(variance + eps), the means over the batch: three paths, by x
        itself, by the mean and by the variance. With `use_global_stats` dx = dy / sqrt(variance + eps). In NVIDIA's
        dialect da = the sum of dy z, db = the sum of dy, and dx has a dy in the place of dy.
    Blobs: bottom (N, C, ...); top of the same shape, in place if wished (then x is kept aside).
    Params: mean sum (C); variance sum (C); factor (1); they are no weights: they get no gradient, and their `lr_mult`
        is 0. NVIDIA's dialect: mean (C); variance (C); 1 (1); a (C); b (C).
    Fields: batch_norm_param: `use_global_stats` (true in TEST, false in TRAIN), `moving_average_fraction` (0.999),
        `eps` (1e-5). NVIDIA's dialect: `scale_bias` (false), `scale_filler` (constant 1), `bias_filler` (constant 0);
        `eps` is 1e-5 at least, and TEST always uses the global statistics.
    Errors: a bottom of one axis, or whose channels change; an `lr_mult` for a statistic that is not 0.
    Source: Caffe's batch_norm_layer and that of NVIDIA's fork; S. Ioffe and C. Szegedy, Batch normalization, 2015.
    """

    in_place: ClassVar[bool] = True
    fork_fields: ClassVar[frozenset[str]] = frozenset(
        f"batch_norm_param.{name}" for name in ("scale_bias", "scale_filler", "bias_filler")
    )

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the statistics, all zero, and in NVIDIA's dialect the coefficients."""
        param = self.param.batch_norm_param
        if bottom[0].ndim < 2:
            raise LayerError("BatchNorm needs an axis of channels", expected="(N, C, ...)", found=bottom[0].shape)
        self.channels, self.kept = bottom[0].shape[1], KeptBottom()
        self.is_nvidia = param.scale_bias or param.HasField("scale_filler") or param.HasField("bias_filler")
        for shape in ((self.channels,), (self.channels,), (1,)):
            self.add_parameter(shape, FillerParameter())
        if self.is_nvidia:
            one = FillerParameter(value=1)
            self.add_parameter((self.channels,), param.scale_filler if param.HasField("scale_filler") else one)
            self.add_parameter((self.channels,), param.bias_filler)
        self.eps = max(param.eps, 1e-5) if self.is_nvidia else param.eps
        self.use_global_stats = self._reads_statistics(param)
        rule = NvidiaStatistics if self.is_nvidia else CaffeStatistics
        self.statistics: Statistics = rule(self.blobs, param.moving_average_fraction, self.eps)
        self._freeze_statistics()

    def _reads_statistics(self, param: Any) -> bool:
        is_test = self.phase == "TEST"
        if self.is_nvidia:
            return is_test or param.use_global_stats
        return param.use_global_stats if param.HasField("use_global_stats") else is_test

    def _freeze_statistics(self) -> None:
        """Give each of the three statistics lr_mult 0, as Caffe does."""
        for i in range(3):
            if i == len(self.param.param):
                self.param.param.add(lr_mult=0)
            elif self.is_nvidia:
                self.param.param[i].lr_mult = 0
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
        if self.use_global_stats:
            self.mean, variance = self.statistics.mean_and_variance()
        else:
            self.mean, variance = np.zeros((2, 1, self.channels), self.dtype)
            if bottom_data.size:
                channels.moments(bottom_data, self.mean, variance)
                self.statistics.update(self.mean[0], variance[0], bottom_data.shape[1])
        self.inverse = 1 / np.sqrt(variance + self.dtype.type(self.eps))
        gain, shift = self._gain(), self.blobs[4].data[None] if self.is_nvidia else np.zeros_like(self.mean)
        is_kept = top[0] is bottom[0] and (self.is_nvidia or not self.use_global_stats)
        kept = self.kept.keep(bottom_data, is_kept)
        with self.coefficients.overwritten(top[0].data) as top_data:
            channels.normalise(bottom_data, self.mean, gain, shift, top_data, kept)

    def _gain(self) -> np.ndarray:
        """What x - mean is multiplied by."""
        return self.inverse * self.blobs[3].data if self.is_nvidia else self.inverse

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """The gradient's three paths, or the one when the statistics are constants."""
        if not (propagate_down[0] or self.is_nvidia):
            return
        top_diff, mean, inverse = self.coefficients.grouped(top[0].diff), self.mean, self.inverse
        offset, slope, gain = np.zeros_like(mean), np.zeros_like(mean), self._gain()
        if self.is_nvidia or not self.use_global_stats:
            sum_dy, sum_dy_z = np.empty_like(mean), np.empty_like(mean)
            channels.normalise_sums(top_diff, self.kept.values, mean, inverse, sum_dy, sum_dy_z)
            self._accumulate(sum_dy_z[0], sum_dy[0])
        if not self.use_global_stats:
            count = max(1, top_diff.shape[1])
            offset, slope = sum_dy / count, sum_dy_z * inverse / count
        if propagate_down[0]:
            with self.coefficients.overwritten(bottom[0].diff) as bottom_diff:
                if self.use_global_stats:
                    np.multiply(top_diff, gain, out=bottom_diff)
                else:
                    channels.normalise_backward(top_diff, self.kept.values, mean, offset, slope, gain, bottom_diff)

    def _accumulate(self, factor_diff: np.ndarray, shift_diff: np.ndarray) -> None:
        """Add to the gradients of NVIDIA's coefficients."""
        if self.is_nvidia and self.param_propagate_down[3]:
            self.blobs[3].diff[...] += factor_diff
        if self.is_nvidia and self.param_propagate_down[4]:
            self.blobs[4].diff[...] += shift_diff

    def state(self) -> dict[str, Any]:
        """Beside the random state, how many batches NVIDIA's statistics have seen."""
        return super().state() | {"batches": self.statistics.batches}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        super().set_state(state)
        self.statistics.batches = state["batches"]
