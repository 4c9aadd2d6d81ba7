"""The gradient of a bias: the top's gradient summed over images and pixels."""

from __future__ import annotations

import numpy as np

from breve.kernels.microkernel.launch import launch
from breve.kernels.threads import inline, launching, threads_for

ROWS = 512  # rows summed one by one; their sums are added up in float64, so errors do not grow with the batch


def add_bias_diff(top_diff: np.ndarray, bias_diff: np.ndarray) -> None:
    """bias_diff[k] += sum of top_diff[..., k]; `top_diff` has the channels last and is contiguous."""
    matrix = top_diff.reshape(-1, bias_diff.size)
    sums = np.empty((-(-len(matrix) // ROWS), bias_diff.size), matrix.dtype)
    _sum_rows(matrix, sums, threads_for(16 * matrix.size))
    bias_diff += sums.sum(0, dtype=np.float64).astype(bias_diff.dtype)


@launching
def _sum_rows(matrix, sums, workers):
    launch(_sum_block, sums.shape[0], workers, (matrix, sums))


@inline
def _sum_block(block, worker, matrix, sums):
    sums[block, :] = 0
    for row in range(block * ROWS, min(matrix.shape[0], (block + 1) * ROWS)):
        for k in range(matrix.shape[1]):
            sums[block, k] += matrix[row, k]
