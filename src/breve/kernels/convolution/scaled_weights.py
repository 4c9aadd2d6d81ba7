"""Weights times a factor for each output: so a normalisation by constants becomes part of the convolution before it."""

from __future__ import annotations

import numpy as np

from breve.blob import Storage
from breve.kernels.microkernel.launch import launch
from breve.kernels.threads import inline, launching, threads_for


class ScaledWeights:
    """The product, computed anew where a weight or a factor has changed."""

    def __init__(self) -> None:
        self._product: np.ndarray | None = None

    def of(self, weight: np.ndarray, gain: np.ndarray) -> np.ndarray:
        """weight[k] gain[k], from (num_output, ...) and (num_output). Nobody writes to it: a new one is a new array."""
        if self._product is None or not is_product(weight, gain, self._product):
            self._product = Storage(weight.dtype).array(weight.size).reshape(weight.shape)
            np.multiply(_rows(weight), gain[:, None], out=_rows(self._product))
        return self._product


def is_product(weight: np.ndarray, gain: np.ndarray, product: np.ndarray) -> bool:
    """Whether product[k] = weight[k] gain[k], to the last bit; a NaN equals nothing."""
    differs = np.zeros(1, np.bool_)
    _compare(_rows(weight), gain, _rows(product), differs, threads_for(8 * weight.size))
    return not differs[0]


@launching
def _compare(weight, gain, product, differs, workers):
    launch(_compare_output, len(gain), workers, (weight, gain, product, differs))


@inline
def _compare_output(k, worker, weight, gain, product, differs):
    if not differs[0]:
        row, factor, scaled, different = weight[k], gain[k], product[k], 0
        for i in range(row.size):
            different |= row[i] * factor != scaled[i]
        if different:
            differs[0] = True


def _rows(weight: np.ndarray) -> np.ndarray:
    return weight.reshape(len(weight), -1)
