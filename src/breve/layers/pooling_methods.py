"""The three ways to pool a window: the largest value, the average, a random one.

Arrays are contiguous (N, H, W, C); a window is (kernel_h, kernel_w, stride_h, stride_w, pad_h, pad_w).
"""

from __future__ import annotations

import itertools

import numpy as np

from breve.kernels import pooling

PoolWindow = tuple[int, ...]
Shape = tuple[int, ...]


class PoolMethod:
    """One way to pool. `mask` holds, where a method takes one pixel of each window, the index h W + w of that pixel."""

    def __init__(self, phase: str, rng: np.random.Generator) -> None:
        self.phase, self.rng = phase, rng
        self.mask = np.empty((0, 0, 0, 0), np.int32)

    def reshape(self, window: PoolWindow, in_shape: Shape, out_shape: Shape) -> None:
        """Take the window, and the shapes of `x` and `y`."""
        self.window, self.in_shape, self.out_shape = window, in_shape, out_shape

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Overwrite `y`."""
        raise NotImplementedError

    def backward(self, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """Overwrite `dx`."""
        raise NotImplementedError

    def _new_mask(self) -> None:
        if self.mask.shape != self.out_shape:
            self.mask = np.empty(self.out_shape, np.int32)


class Maximum(PoolMethod):
    """The largest value; its gradient goes to the first pixel that has it."""

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Take the largest, and remember where it was."""
        self._new_mask()
        pooling.maximum(x, self.window, y, self.mask)

    def backward(self, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """Give the gradient to the pixel that was taken."""
        pooling.maximum_backward(dy, self.mask, self.window, dx)


class Average(PoolMethod):
    """The sum divided by the window's area inside the padded image."""

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Average."""
        pooling.average(x, self.window, y)

    def backward(self, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """Spread the gradient evenly."""
        pooling.average_backward(dy, self.window, dx)


class AverageInside(Average):
    """The sum divided by the window's area inside the image, that is without its pad."""

    def reshape(self, window: PoolWindow, in_shape: Shape, out_shape: Shape) -> None:
        """Find each window's area with the pad in parts of that without."""
        super().reshape(window, in_shape, out_shape)
        rows, columns = (
            _pad_factors(in_shape[axis], out_shape[axis], *window[axis - 1 :: 2]) for axis in (1, 2)
        )  # of an (N, H, W, C)
        self.factors = np.outer(rows, columns)[..., None]

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Average."""
        super().forward(x, y)
        y *= self.factors.astype(y.dtype)

    def backward(self, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """Spread the gradient evenly."""
        super().backward(x, dy * self.factors.astype(dy.dtype), dx)


def _pad_factors(size: int, out_size: int, kernel: int, stride: int, pad: int) -> np.ndarray:
    """Along one axis, the pixels of each window with the pad over those without; 0 where there are none without."""
    start = np.arange(out_size) * stride - pad
    padded = np.minimum(start + kernel, size + pad) - start
    inside = np.minimum(start + kernel, size) - np.maximum(start, 0)
    return np.where(inside > 0, padded / np.maximum(inside, 1), 0)


class Stochastic(PoolMethod):
    """A pixel drawn with a probability proportional to its value; in TEST the mean weighted by the values."""

    def forward(self, x: np.ndarray, y: np.ndarray) -> None:
        """Draw, or weigh."""
        patches = self._patches(x)
        if self.phase == "TRAIN":
            taps = self._draw(patches)
            y[...] = np.take_along_axis(patches, taps[..., None], -1)[..., 0]
            self._new_mask()
            self.mask[...] = self._pixels(taps)
        else:
            total = patches.sum(-1)
            y[...] = np.divide(np.square(patches).sum(-1), total, out=np.zeros_like(total), where=total > 0)

    def backward(self, x: np.ndarray, dy: np.ndarray, dx: np.ndarray) -> None:
        """To the pixel drawn, or by the quotient rule to all."""
        if self.phase == "TRAIN":
            pooling.maximum_backward(dy, self.mask, self.window, dx)
            return
        patches = self._patches(x)
        total = patches.sum(-1, keepdims=True)
        slope = 2 * patches * total - np.square(patches).sum(-1, keepdims=True)
        slope = np.divide(slope, total * total, out=np.zeros_like(slope), where=total > 0)
        self._add_patches(slope * dy[..., None], dx)

    def _draw(self, patches: np.ndarray) -> np.ndarray:
        """In each window the first tap at which the running sum reaches a random part of the whole."""
        running = patches.cumsum(-1)
        threshold = self.rng.random(self.out_shape)[..., None] * running[..., -1:]
        return (running >= threshold).argmax(-1)

    def _pixels(self, taps: np.ndarray) -> np.ndarray:
        """The pixel h W + w of each window's tap."""
        _, kernel_w, stride_h, stride_w, _, _ = self.window
        rows = np.arange(self.out_shape[1]).reshape(-1, 1, 1) * stride_h + taps // kernel_w
        columns = np.arange(self.out_shape[2]).reshape(-1, 1) * stride_w + taps % kernel_w
        return rows * self.in_shape[2] + columns

    def _full_shape(self) -> Shape:
        """Of the image enlarged until the last windows fit in whole."""
        kernel_h, kernel_w, stride_h, stride_w, _, _ = self.window
        batch, out_h, out_w, channels = self.out_shape
        height, width = (out_h - 1) * stride_h + kernel_h, (out_w - 1) * stride_w + kernel_w
        return batch, max(height, self.in_shape[1]), max(width, self.in_shape[2]), channels

    def _patches(self, x: np.ndarray) -> np.ndarray:
        """The values of each window (N, out_h, out_w, C, taps), zero outside the image."""
        kernel_h, kernel_w, stride_h, stride_w, _, _ = self.window
        full = np.zeros(self._full_shape(), x.dtype)
        full[:, : x.shape[1], : x.shape[2]] = x
        windows = np.lib.stride_tricks.sliding_window_view(full, (kernel_h, kernel_w), axis=(1, 2))
        windows = windows[:, ::stride_h, ::stride_w][:, : self.out_shape[1], : self.out_shape[2]]
        return windows.reshape(*self.out_shape, kernel_h * kernel_w)

    def _add_patches(self, patches: np.ndarray, dx: np.ndarray) -> None:
        """The transpose of `_patches`."""
        kernel_h, kernel_w, stride_h, stride_w, _, _ = self.window
        full = np.zeros(self._full_shape(), dx.dtype)
        _, out_h, out_w, _ = self.out_shape
        for tap, (r, s) in enumerate(itertools.product(range(kernel_h), range(kernel_w))):
            full[:, r::stride_h, s::stride_w][:, :out_h, :out_w] += patches[..., tap]
        dx[...] = full[:, : dx.shape[1], : dx.shape[2]]


METHODS: dict[str, type[PoolMethod]] = {"MAX": Maximum, "AVE": Average, "STOCHASTIC": Stochastic}
"""By their names in PoolingParameter."""
