"""Normalize: vectors of channels brought to a learned length."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.base import Layer
from breve.layers.views import channels_last, overwritten_channels_last
from breve.proto import FillerParameter


class Normalize(Layer):
    """The L2 norm over channels, or over all of an image, brought to a learned scale.

    Forward: y = a x / r, r = sqrt(sum of x^2 + eps) over the channels of one pixel, or with `across_spatial` over all
        values of one image.
    Backward: with g = a dy, dx = (g - x (sum of x g) / r^2) / r, the sum over what r is taken over; da = the sum of dy
        x / r over all axes but the channels, or with `channel_shared` over all. (The fork leaves a out of the sum of x
        g, which agrees where a is the same in all channels.)
    Blobs: bottom (N, C, ...); top of the same shape.
    Params: a (C), or () with `channel_shared`.
    Fields: norm_param: `across_spatial` (true), `channel_shared` (true), `scale_filler` (constant 1), `eps` (1e-10).
    Errors: a bottom of one axis, or whose channels change.
    Source: the SSD fork's normalize_layer; W. Liu et al., ParseNet, 2015.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make the scale."""
        param = self.param.norm_param
        if bottom[0].ndim < 2:
            raise LayerError("Normalize needs an axis of channels", expected="(N, C, ...)", found=bottom[0].shape)
        shape = () if param.channel_shared else bottom[0].shape[1:2]
        self.add_parameter(shape, param.scale_filler if param.HasField("scale_filler") else FillerParameter(value=1))

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top as bottom."""
        shape, own = bottom[0].shape, self.blobs[0].shape
        if len(shape) < 2 or (own and shape[1:2] != own):
            raise LayerError("the bottom's channels have changed", expected=own, found=shape)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Divide by the norm, multiply by the scale."""
        x = channels_last(bottom[0].data)
        self.norm = np.sqrt(self._sum(x * x) + self.dtype.type(self.param.norm_param.eps))
        with overwritten_channels_last(top[0].data) as y:
            np.divide(x, self.norm, out=y)
            y *= self.blobs[0].data

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Wrt the scale, then wrt the bottom by itself and by the norm."""
        unit, dy = channels_last(bottom[0].data) / self.norm, channels_last(top[0].diff)
        if self.param_propagate_down[0]:
            total = (dy * unit).sum(axis=tuple(range(dy.ndim - 1)))
            self.blobs[0].diff[...] += total.sum() if self.param.norm_param.channel_shared else total
        if propagate_down[0]:
            with overwritten_channels_last(bottom[0].diff) as dx:
                np.multiply(dy, self.blobs[0].data, out=dx)
                dx -= unit * self._sum(unit * dx)
                dx /= self.norm

    def _sum(self, values: np.ndarray) -> np.ndarray:
        """Over what the norm is taken over, of (N, ..., C)."""
        axes = tuple(range(1, values.ndim)) if self.param.norm_param.across_spatial else (-1,)
        return values.sum(axis=axes, keepdims=True)
