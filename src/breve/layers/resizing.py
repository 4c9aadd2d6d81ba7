"""Interp and Resize: bilinear interpolation, each along its own rule, as one matrix for each axis."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError, UnsupportedError
from breve.layers.base import Layer
from breve.layers.views import channels_last, image_shape, overwritten_channels_last


class BilinearLayer(Layer):
    """y = A x B^T in each channel, A (out_h, in_h) and B (out_w, in_w) having two weights a row; dx = A^T dy B."""

    rows: np.ndarray
    columns: np.ndarray

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Interpolate along rows, then along columns."""
        with overwritten_channels_last(top[0].data) as y:
            y[...] = _both_axes(self.rows, self.columns, channels_last(bottom[0].data))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """The transposes."""
        if any(propagate_down[1:]):
            raise LayerError("the second bottom only gives its size", hint="set propagate_down: false for it")
        if propagate_down[0]:
            with overwritten_channels_last(bottom[0].diff) as dx:
                dx[...] = _both_axes(self.rows.T, self.columns.T, channels_last(top[0].diff))


class Interp(BilinearLayer):
    """Bilinear interpolation, corner to corner.

    Forward: y[n,c,i,j] interpolates x at row i (in_h - 1) / (out_h - 1) and column j (in_w - 1) / (out_w - 1); in_h and
        in_w are counted after cropping `pad_beg` and `pad_end` pixels off each axis.
    Backward: dx = the transpose, each dy shared out by the same weights; 0 where x was cropped.
    Blobs: bottom (N, C, H, W), and if wished a second whose height and width the top takes; top (N, C, out_h, out_w).
    Fields: interp_param: `height` and `width`; or `shrink_factor` s: out = (in - 1) // s + 1; or `zoom_factor` z: out =
        in + (in - 1) (z - 1); or both, shrinking first; or none of them with a second bottom. `pad_beg` (0), `pad_end`
        (0), 0 or less. `interp_type` (bilinear).
    Errors: no size, or two; a pad above zero; nothing left to interpolate.
    Source: interp_layer of the DeepLab and PSPNet forks.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the parameters."""
        param = self.param.interp_param
        if param.pad_beg > 0 or param.pad_end > 0:
            raise LayerError("Interp only crops", expected="pad_beg and pad_end of 0 or less")
        if min(param.zoom_factor, param.shrink_factor) < 1:
            raise LayerError("zoom_factor or shrink_factor is below 1")
        if param.interp_type != "bilinear":
            raise UnsupportedError("unknown interp_type", expected="bilinear", found=param.interp_type)
        factors = param.HasField("zoom_factor") or param.HasField("shrink_factor")
        sizes = param.HasField("height") and param.HasField("width")
        if factors + sizes + (len(bottom) > 1) != 1:
            raise LayerError(
                "Interp needs its size once",
                expected="height and width, or zoom_factor and shrink_factor, or a second bottom",
            )

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the two matrices."""
        batch, channels, *in_shape = image_shape(bottom[0], "interpolation")
        out_shape = [self._size(bottom, axis, size) for axis, size in enumerate(in_shape)]
        self.rows, self.columns = (
            self._matrix(size, out_size) for size, out_size in zip(in_shape, out_shape, strict=True)
        )
        top[0].reshape(batch, channels, *out_shape)

    def _size(self, bottom: Sequence[Blob], axis: int, size: int) -> int:
        """Pixels of the top along an axis."""
        param = self.param.interp_param
        inner = size + param.pad_beg + param.pad_end
        if len(bottom) > 1:
            out_size = image_shape(bottom[1], "interpolation")[2 + axis]
        elif param.HasField("zoom_factor") or param.HasField("shrink_factor"):
            shrunk = (inner - 1) // param.shrink_factor + 1
            out_size = shrunk + (shrunk - 1) * (param.zoom_factor - 1)
        else:
            out_size = (param.height, param.width)[axis]
        if inner < 1 or out_size < 1:
            raise LayerError("there is nothing to interpolate", found=f"{inner} to {out_size} pixels")
        return out_size

    def _matrix(self, size: int, out_size: int) -> np.ndarray:
        """Weights along one axis, corner to corner of what the crop leaves."""
        param = self.param.interp_param
        inner = size + param.pad_beg + param.pad_end
        step = (inner - 1) / (out_size - 1) if out_size > 1 else 0.0
        weights = interpolation_matrix(np.arange(out_size) * step, inner)
        return np.pad(weights, [(0, 0), (-param.pad_beg, -param.pad_end)]).astype(self.dtype)


class Resize(BilinearLayer):
    """Bilinear interpolation, pixel i of the top lying at i in / out of the bottom.

    Forward: y[n,c,i,j] interpolates x at row i in_h / out_h and column j in_w / out_w; a neighbour beyond the last row
        or column counts as 0.
    Backward: dx = the transpose, each dy shared out by the same weights.
    Blobs: bottom (N, C, H, W); top (N, C, out_h, out_w).
    Fields: resize_param: `height` and `width`; or with `is_pyramid_test` (false) `out_height_scale` and
        `out_width_scale`: out = in times scale, rounded down.
    Errors: a size or a scale that is missing; nothing left.
    Source: resize_layer of happynear's caffe-windows.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check that the size is given."""
        param = self.param.resize_param
        if param.HasField("resize_ratio"):
            raise UnsupportedError("resize_ratio is not supported", hint="use out_height_scale and out_width_scale")
        fields = ("out_height_scale", "out_width_scale") if param.is_pyramid_test else ("height", "width")
        for field in fields:
            if not getattr(param, field) > 0:
                raise LayerError(f"{field} is missing or zero", expected=" and ".join(fields))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the two matrices."""
        batch, channels, height, width = image_shape(bottom[0], "interpolation")
        param = self.param.resize_param
        out_shape = (param.height, param.width)
        if param.is_pyramid_test:
            out_shape = (int(param.out_height_scale * height), int(param.out_width_scale * width))
        if min(height, width, *out_shape) < 1:
            raise LayerError("there is nothing to resize", found=f"{(height, width)} to {out_shape}")
        self.rows, self.columns = (
            interpolation_matrix(np.arange(out_size) * (size / out_size), size).astype(self.dtype)
            for size, out_size in zip((height, width), out_shape, strict=True)
        )
        top[0].reshape(batch, channels, *out_shape)


def interpolation_matrix(places: np.ndarray, size: int) -> np.ndarray:
    """The matrix that interpolates `size` values linearly at `places` (from 0 on); beyond the last they count as 0.

    >>> interpolation_matrix(np.array([0.0, 0.75, 1.5]), 2)
    array([[1.  , 0.  ],
           [0.25, 0.75],
           [0.  , 0.5 ]])
    """
    return np.maximum(0, 1 - np.abs(places[:, None] - np.arange(size)))


def _both_axes(rows: np.ndarray, columns: np.ndarray, x: np.ndarray) -> np.ndarray:
    """rows (i, h) and columns (j, w) applied to x (N, H, W, C): (N, i, j, C)."""
    batch, height, width, channels = x.shape
    y = rows @ x.reshape(batch, height, width * channels)
    y = columns @ y.reshape(batch * len(rows), width, channels)
    return y.reshape(batch, len(rows), len(columns), channels)
