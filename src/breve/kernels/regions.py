"""Pooling of regions of interest, on contiguous (N, H, W, C) arrays of one dtype.

Region r lies in image `images[r]`; its bin (i, j) holds the pixels of rows `rows[r, i, 0]` to `rows[r, i, 1]` - 1 and
columns `columns[r, j, 0]` to `columns[r, j, 1]` - 1, all inside the image (intp arrays; a bin may be empty).
"""

from __future__ import annotations

import numpy as np
from numba import prange

from breve.kernels.threads import kernel

LOWEST = np.float32(np.finfo(np.float32).min)  # where Caffe's maximum starts


@kernel
def maximum(x, images, rows, columns, y, mask):
    """y (R, bins_h, bins_w, C) = the largest value of each bin or 0; mask (int32) = its first pixel h W + w or -1."""
    regions, bins_h, bins_w, channels = y.shape
    for r in prange(regions):
        n = images[r]
        for i in range(bins_h):
            for j in range(bins_w):
                first_h, end_h = rows[r, i, 0], rows[r, i, 1]
                first_w, end_w = columns[r, j, 0], columns[r, j, 1]
                is_empty = first_h >= end_h or first_w >= end_w
                for c in range(channels):
                    y[r, i, j, c] = 0 if is_empty else LOWEST
                    mask[r, i, j, c] = -1
                for h in range(first_h, end_h):
                    for w in range(first_w, end_w):
                        pixel = np.int32(h * x.shape[2] + w)
                        for c in range(channels):
                            larger = x[n, h, w, c] > y[r, i, j, c]
                            mask[r, i, j, c] = pixel if larger else mask[r, i, j, c]
                            y[r, i, j, c] = x[n, h, w, c] if larger else y[r, i, j, c]


@kernel
def maximum_backward(dy, images, mask, dx):
    """dx = the sum of dy over the bins that took their value from this pixel, in order; cut into parts by channel."""
    regions, bins_h, bins_w, channels = dy.shape
    width = dx.shape[2]
    parts = (channels + 15) // 16
    for part in prange(parts):
        first_c, end_c = part * 16, min(part * 16 + 16, channels)
        dx[:, :, :, first_c:end_c] = 0
        for r in range(regions):
            n = images[r]
            for i in range(bins_h):
                for j in range(bins_w):
                    for c in range(first_c, end_c):
                        pixel = mask[r, i, j, c]
                        if pixel >= 0:
                            dx[n, pixel // width, pixel % width, c] += dy[r, i, j, c]


@kernel
def position_average(x, images, rows, columns, y):
    """y[r, i, j, d] = the mean over bin (i, j) of channel (d * bins_h + i) * bins_w + j; 0 if the bin is empty."""
    regions, bins_h, bins_w, outputs = y.shape
    for r in prange(regions):
        n = images[r]
        for i in range(bins_h):
            for j in range(bins_w):
                first_h, end_h = rows[r, i, 0], rows[r, i, 1]
                first_w, end_w = columns[r, j, 0], columns[r, j, 1]
                area = y.dtype.type(max(1, (end_h - first_h) * (end_w - first_w)))
                for d in range(outputs):
                    y[r, i, j, d] = 0
                for h in range(first_h, end_h):
                    for w in range(first_w, end_w):
                        for d in range(outputs):
                            y[r, i, j, d] += x[n, h, w, (d * bins_h + i) * bins_w + j]
                for d in range(outputs):
                    y[r, i, j, d] /= area


@kernel
def position_average_backward(dy, images, rows, columns, dx):
    """dx = the sum of dy / area over the bins that hold this pixel; each bin has channels of its own."""
    regions, bins_h, bins_w, outputs = dy.shape
    for bin_index in prange(bins_h * bins_w):
        i = bin_index // bins_w
        j = bin_index - i * bins_w
        for d in range(outputs):
            dx[:, :, :, (d * bins_h + i) * bins_w + j] = 0
        for r in range(regions):
            n = images[r]
            first_h, end_h = rows[r, i, 0], rows[r, i, 1]
            first_w, end_w = columns[r, j, 0], columns[r, j, 1]
            area = dx.dtype.type(max(1, (end_h - first_h) * (end_w - first_w)))
            for h in range(first_h, end_h):
                for w in range(first_w, end_w):
                    for d in range(outputs):
                        dx[n, h, w, (d * bins_h + i) * bins_w + j] += dy[r, i, j, d] / area
