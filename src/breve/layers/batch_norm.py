"""BatchNorm, as Caffe has it and in the dialect of NVIDIA's fork."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
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
        dialect da = the sum of dy z, db = the sum of dy, and dx is a times as large.
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
        statistics = NvidiaStatistics if self.is_nvidia else CaffeStatistics
        self.statistics: Statistics = statistics(self.blobs, param.moving_average_fraction, self.eps)
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
        """Normalise; in NVIDIA's dialect scale and shift."""
        factor, shift = (blob.data for blob in self.blobs[3:]) if self.is_nvidia else (None, None)
        keeps = self.is_nvidia or not self.use_global_stats
        self.forward_scaled(bottom[0], top[0], factor, shift, keeps=keeps)

    def forward_scaled(
        self,
        bottom: Blob,
        top: Blob,
        factor: np.ndarray | None,
        shift: np.ndarray | None,
        slope: float = 1.0,
        keeps: bool = True,
    ) -> None:
        """Normalise, times `factor` plus `shift` (C), negative values times `slope`: BatchNorm, Scale and ReLU at once.

        With `keeps` the bottom's values are there for backward even when the top overwrites them.
        """
        bottom_data = self.coefficients.grouped(bottom.data)
        self.plain_rule = self._plain_rule(*self._statistics(bottom_data))
        self.rule = self.plain_rule.then(factor, shift, slope)
        kept = self.kept.keep(bottom_data, keeps and top is bottom)
        with self.coefficients.overwritten(top.data) as top_data:
            channels.normalise(bottom_data, self.rule, top_data, kept)

    def constant_rule(self, factor: np.ndarray | None, shift: np.ndarray | None, slope: float) -> channels.Rule:
        """What `forward_scaled` computes of each value with `use_global_stats`, whatever the bottom."""
        return self._plain_rule(*self.statistics.mean_and_variance()).then(factor, shift, slope)

    def _plain_rule(self, mean: np.ndarray, variance: np.ndarray) -> channels.Rule:
        return channels.plain_rule(mean, 1 / np.sqrt(variance + self.dtype.type(self.eps)))

    def _statistics(self, bottom_data: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Mean and variance to normalise by, (1, C) each; the batch's own move the parameters."""
        if self.use_global_stats:
            return self.statistics.mean_and_variance()
        mean, variance = np.zeros((2, 1, self.channels), self.dtype)
        if bottom_data.size:
            channels.moments(bottom_data, mean, variance)
            self.statistics.update(mean[0], variance[0], bottom_data.shape[1])
        return mean, variance

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """The gradient's three paths, or the one when the statistics are constants."""
        if self.is_nvidia:
            diffs = self.backward_scaled(top[0], bottom[0], propagate_down[0])
            for i, diff in zip((3, 4), diffs, strict=True):
                if self.param_propagate_down[i]:
                    self.blobs[i].diff[...] += diff
        elif propagate_down[0] and self.use_global_stats:
            with self.coefficients.overwritten(bottom[0].diff) as bottom_diff:
                np.multiply(self.coefficients.grouped(top[0].diff), self.rule.gain, out=bottom_diff)
        elif propagate_down[0]:
            self.backward_scaled(top[0], bottom[0], True)

    def backward_scaled(
        self, top: Blob, bottom: Blob, wanted: bool, leaves_diff: bool = False
    ) -> tuple[np.ndarray, np.ndarray]:
        """The gradient of `forward_scaled` wrt factor and shift (C); that wrt the bottom is written where `wanted`.

        With `leaves_diff` the top's diff becomes that of z, as Scale and ReLU in place would leave it.
        """
        top_diff, x = self.coefficients.grouped(top.diff), self.kept.values
        sums = np.empty((2, 1, self.channels), self.dtype)
        channels.normalise_sums(top_diff, x, self.rule, sums[0], sums[1])
        if wanted:
            share = 0 if self.use_global_stats else 1 / max(1, top_diff.shape[1])
            offset, tilt = sums[0] * self.dtype.type(share), sums[1] * self.dtype.type(share) * self.rule.inverse
            nothing = nullcontext(np.empty((1, 0, 0), self.dtype))
            left = self.coefficients.overwritten(top.diff) if leaves_diff else nothing
            with self.coefficients.overwritten(bottom.diff) as bottom_diff, left as normal_diff:
                channels.normalise_backward(top_diff, x, self.rule, offset, tilt, bottom_diff, normal_diff)
        return sums[1, 0], sums[0, 0]

    def unscale(self) -> np.ndarray:
        """After `forward_scaled` let backward be that of a plain BatchNorm; its output z, (1, rows, C)."""
        self.rule, normal = self.plain_rule, np.empty_like(self.kept.values)
        channels.normalise(self.kept.values, self.rule, normal, np.empty((1, 0, 0), self.dtype))
        return normal

    def state(self) -> dict[str, Any]:
        """Beside the random state, how many batches NVIDIA's statistics have seen."""
        return super().state() | {"batches": self.statistics.batches}

    def set_state(self, state: dict[str, Any]) -> None:
        """Go on from what `state` returned."""
        super().set_state(state)
        self.statistics.batches = state["batches"]
