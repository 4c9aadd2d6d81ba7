"""How BatchNorm remembers mean and variance over batches: Caffe's rule, and that of NVIDIA's fork."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.blob import Blob


class Statistics:
    """What BatchNorm normalises by when it does not take the batch's own mean and variance."""

    def __init__(self, blobs: Sequence[Blob], fraction: float, eps: float) -> None:
        """`blobs` are two of shape (C) and one of shape (1); `fraction` is how much of the old a batch leaves."""
        self.blobs, self.fraction, self.eps = blobs[:3], fraction, eps
        self.batches = 0

    def mean_and_variance(self) -> tuple[np.ndarray, np.ndarray]:
        """What is remembered, (1, C) each."""
        raise NotImplementedError

    def update(self, mean: np.ndarray, variance: np.ndarray, count: int) -> None:
        """Take in the mean and the variance (C) of a batch with `count` values a channel."""
        raise NotImplementedError


class CaffeStatistics(Statistics):
    """Decaying sums of means and variances, and the factor to divide them by.

    sum = value + f sum, factor = 1 + f factor; variances count m / (m - 1) times, m being the values of a batch. A
    factor of 0 means that there are no statistics yet; then mean and variance are 0.
    """

    def mean_and_variance(self) -> tuple[np.ndarray, np.ndarray]:
        """What is remembered, (1, C) each."""
        mean_sum, variance_sum, factor = (blob.data for blob in self.blobs)
        share = 0 if factor[0] == 0 else 1 / factor[0]
        return (mean_sum * share)[None], (variance_sum * share)[None]

    def update(self, mean: np.ndarray, variance: np.ndarray, count: int) -> None:
        """Add to the sums."""
        dtype = mean.dtype.type
        unbiased = variance * dtype(count / max(1, count - 1))
        for blob, value in zip(self.blobs, (mean, unbiased, 1), strict=True):
            blob.data[...] = blob.data * dtype(self.fraction) + value


class NvidiaStatistics(Statistics):
    """Moving averages: average = f average + (1 - f) value, for the variance with eps in it; the factor stays 1.

    The first two batches replace the averages, as nothing is known before.
    """

    def __init__(self, blobs: Sequence[Blob], fraction: float, eps: float) -> None:
        """The factor is 1."""
        super().__init__(blobs, fraction, eps)
        self.blobs[2].data[...] = 1

    def mean_and_variance(self) -> tuple[np.ndarray, np.ndarray]:
        """What is remembered, (1, C) each."""
        return self.blobs[0].data[None].copy(), self.blobs[1].data[None].copy()

    def update(self, mean: np.ndarray, variance: np.ndarray, count: int) -> None:
        """Move the averages."""
        dtype = mean.dtype.type
        fraction = dtype(self.fraction if self.batches > 1 else 0)
        for blob, value in zip(self.blobs, (mean, variance + dtype(self.eps)), strict=False):
            blob.data[...] = fraction * blob.data + (1 - fraction) * value
        self.batches += 1
