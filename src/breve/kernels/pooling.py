"""Pooling on contiguous (N, H, W, C) arrays of one dtype.

A window is a tuple (kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w) of plain ints. Output pixel (i, j) sees the
input pixels of rows i stride_h - pad_h to i stride_h - pad_h + kernel_h - 1, likewise columns, as far as there are any.
"""

from __future__ import annotations

import numpy as np

from breve.kernels import microkernel
from breve.kernels.microkernel.launch import launch
from breve.kernels.threads import inline, launching, threads_for


@inline
def _inside(index, stride, pad, kernel_size, size):
    """Pixels inside the image that a window sees along one axis: the first, and the last plus one."""
    start = index * stride - pad
    return max(0, start), min(start + kernel_size, size)


def maximum(x, window, y, mask):
    """y = the largest value in the window, mask (int32) = the first pixel h * W + w that has it, -1 where none has."""
    _maximum(microkernel.maximum_address(y.dtype), x, window, y, mask, threads_for(16 * x.size))


@launching
def _maximum(address, x, window, y, mask, workers):
    launch(_maximum_row, y.shape[0] * y.shape[1], workers, (address, x, window, y, mask))


@inline
def _maximum_row(row, worker, address, x, window, y, mask):
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = window
    _, out_h, out_w, channels = y.shape
    height, width = x.shape[1], x.shape[2]
    n, i = row // out_h, row % out_h
    first_h, end_h = _inside(i, stride_h, pad_h, kernel_h, height)
    for j in range(out_w):
        first_w, end_w = _inside(j, stride_w, pad_w, kernel_w, width)
        pixel, out = first_h * width + first_w, (row * out_w + j) * channels
        microkernel.call(
            address, x, (n * height * width + pixel) * channels, width * channels, channels, end_h - first_h,
            end_w - first_w, y, out, mask, out, channels, pixel, width,
        )  # fmt: skip


def maximum_backward(dy, mask, window, dx):
    """dx = the sum of dy over the outputs that took their value from this pixel.

    Pixels are zeroed just before the first window that holds them, while the cache keeps them. A small batch is cut
    into parts by channel; each element is summed in the order of the outputs however that falls.
    """
    _maximum_backward(dy, mask, window, dx, threads_for(16 * dx.size))


@launching
def _maximum_backward(dy, mask, window, dx, workers):
    launch(_maximum_backward_unit, dy.shape[0] * _parts(dy), workers, (dy, mask, window, dx))


@inline
def _parts(dy):
    return 1 if dy.shape[0] >= 8 else min(8, (dy.shape[3] + 15) // 16)


@inline
def _maximum_backward_unit(unit, worker, dy, mask, window, dx):
    kernel_h, _, stride_h, _, pad_h, _ = window
    _, out_h, out_w, channels = dy.shape
    height, width = dx.shape[1], dx.shape[2]
    parts = _parts(dy)
    n = unit // parts
    first_c = (unit - n * parts) * channels // parts
    end_c = (unit - n * parts + 1) * channels // parts
    flat = dx[n].reshape(-1)
    zeroed = 0
    for i in range(out_h):
        _, end_h = _inside(i, stride_h, pad_h, kernel_h, height)
        for pixel in range(zeroed * width, (height if i == out_h - 1 else end_h) * width):
            flat[pixel * channels + first_c : pixel * channels + end_c] = 0
        zeroed = max(zeroed, end_h)
        for j in range(out_w):
            for c in range(first_c, end_c):
                pixel = mask[n, i, j, c]
                if pixel >= 0:
                    flat[np.uintp(pixel) * np.uintp(channels) + np.uintp(c)] += dy[n, i, j, c]


@inline
def _area(i, j, window, height, width):
    """Pixels of a window clipped to the padded image, what Caffe divides an average by; 1 at least."""
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = window
    rows = min(kernel_h, height + 2 * pad_h - i * stride_h)
    columns = min(kernel_w, width + 2 * pad_w - j * stride_w)
    return max(1, rows) * max(1, columns)


def average(x, window, y):
    """y = the sum over the window, divided by its area inside the padded image."""
    _average(x, window, y, threads_for(16 * x.size))


@launching
def _average(x, window, y, workers):
    launch(_average_row, y.shape[0] * y.shape[1], workers, (x, window, y))


@inline
def _average_row(row, worker, x, window, y):
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = window
    _, out_h, out_w, channels = y.shape
    n = row // out_h
    i = row - n * out_h
    first_h, end_h = _inside(i, stride_h, pad_h, kernel_h, x.shape[1])
    for j in range(out_w):
        first_w, end_w = _inside(j, stride_w, pad_w, kernel_w, x.shape[2])
        for c in range(channels):
            y[n, i, j, c] = 0
        for h in range(first_h, end_h):
            for w in range(first_w, end_w):
                for c in range(channels):
                    y[n, i, j, c] += x[n, h, w, c]
        area = y.dtype.type(_area(i, j, window, x.shape[1], x.shape[2]))
        for c in range(channels):
            y[n, i, j, c] /= area


@inline
def _holding(pixel, stride, pad, kernel_size, out_size):
    """The windows along one axis that hold a pixel: the first, and the last plus one."""
    first = (pixel + pad - kernel_size + stride) // stride
    return max(0, first), min(out_size, (pixel + pad) // stride + 1)


def average_backward(dy, window, dx):
    """dx = the sum of dy / area over the windows that hold this pixel."""
    _average_backward(dy, window, dx, threads_for(16 * dx.size))


@launching
def _average_backward(dy, window, dx, workers):
    launch(_average_backward_row, dx.shape[0] * dx.shape[1], workers, (dy, window, dx))


@inline
def _average_backward_row(row, worker, dy, window, dx):
    kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w = window
    _, height, width, channels = dx.shape
    n = row // height
    h = row - n * height
    first_i, end_i = _holding(h, stride_h, pad_h, kernel_h, dy.shape[1])
    for w in range(width):
        first_j, end_j = _holding(w, stride_w, pad_w, kernel_w, dy.shape[2])
        for c in range(channels):
            dx[n, h, w, c] = 0
        for i in range(first_i, end_i):
            for j in range(first_j, end_j):
                area = dx.dtype.type(_area(i, j, window, height, width))
                for c in range(channels):
                    dx[n, h, w, c] += dy[n, i, j, c] / area
