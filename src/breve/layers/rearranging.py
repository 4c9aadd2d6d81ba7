"""Layers that put values in another place: Permute, ShuffleChannel, Reorg."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import elementwise
from breve.layers.base import Layer
from breve.layers.concat import matrix_shape


class Permute(Layer):
    """Axes in another order.

    Forward: y = x with axis order[i] as its i-th.
    Backward: dx = dy with its axes put back.
    Blobs: one bottom; top with the axes in the new order.
    Fields: permute_param: `order`; axes that it leaves out follow in their own order.
    Errors: an axis twice, or out of range.
    Source: the SSD fork's permute_layer.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Complete the order and apply it to the shape."""
        if top[0] is bottom[0]:
            raise LayerError("Permute cannot work in place", hint="give its top another name")
        shape, order = bottom[0].shape, list(self.param.permute_param.order)
        if len(set(order)) < len(order) or any(axis >= len(shape) for axis in order):
            raise LayerError(
                "permute_param.order names an axis twice or out of range",
                expected=f"0 to {len(shape) - 1}",
                found=order,
            )
        self.order = [*order, *(axis for axis in range(len(shape)) if axis not in order)]
        top[0].reshape(*(shape[axis] for axis in self.order))

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy in the new order."""
        top[0].data[...] = bottom[0].data.transpose(self.order)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy back."""
        if propagate_down[0]:
            bottom[0].diff.transpose(self.order)[...] = top[0].diff


class ShuffleChannel(Layer):
    """Channels of groups interleaved, so that the next grouped convolution sees all groups.

    Forward: y[:, j group + i] = x[:, i C / group + j], i < group, j < C / group.
    Backward: dx = dy with its channels put back.
    Fields: shuffle_channel_param: `group` (1).
    Errors: a number of channels that is no multiple of `group`.
    Source: the ShuffleNet fork's shuffle_channel_layer; Zhang et al., "ShuffleNet", 2017.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the channels."""
        if top[0] is bottom[0]:
            raise LayerError("ShuffleChannel cannot work in place", hint="give its top another name")
        group, channels = self.param.shuffle_channel_param.group, bottom[0].shape[1]
        if group < 1 or channels < 1 or channels % group:
            raise LayerError("channels are not divisible by group", expected=f"a multiple of {group}", found=channels)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy group by group."""
        self._shuffle(bottom[0], top[0], "memory", self.param.shuffle_channel_param.group)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy back: as many groups as there were channels in one undo the shuffle."""
        if propagate_down[0]:
            group = bottom[0].shape[1] // self.param.shuffle_channel_param.group
            self._shuffle(top[0], bottom[0], "diff_memory", group)

    @staticmethod
    def _shuffle(source: Blob, target: Blob, name: str, group: int) -> None:
        channels = source.shape[1]
        rows, width = matrix_shape(source, 1)
        shape = (rows, group, channels // group, width // channels)
        swapped = (rows, channels // group, group, width // channels)
        elementwise.swap_axes(getattr(source, name).reshape(shape), getattr(target, name).reshape(swapped))


class Reorg(Layer):
    """Pixels of a block made channels, as YOLO's passthrough does it.

    Forward: x is read as (N, C / s^2, H, s, W, s) whatever its shape, and y is that as (N, s, s, C / s^2, H, W), in the
        order of values; with `reverse` y is x read as (N, s, s, C / s^2, H, W), as (N, C / s^2, H, s, W, s).
    Backward: dx = dy put back.
    Blobs: bottom (N, C, H, W); top (N, C s^2, H / s, W / s), with `reverse` (N, C / s^2, H s, W s).
    Fields: reorg_param: `stride` s, required; `reverse` (false).
    Errors: C, H or W that is no multiple of what it is divided by.
    Source: darknet's reorg layer and the forks that took it over. It mixes channels and pixels as above; a plain space
        to depth would give other values, and weights trained with the one do not fit the other.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check that the sizes can be divided."""
        stride, reverse = self.param.reorg_param.stride, self.param.reorg_param.reverse
        if bottom[0].ndim != 4 or stride < 1:
            raise LayerError(
                "Reorg needs four axes and a stride",
                expected="stride >= 1",
                found=f"{bottom[0].shape}, stride {stride}",
            )
        n, c, h, w = bottom[0].shape
        if c % stride**2 or (not reverse and (h % stride or w % stride)):
            raise LayerError(
                "channels must be divisible by stride^2, height and width by stride", expected=stride, found=(c, h, w)
            )
        self.blocks = (n, c // stride**2, h, stride, w, stride)
        top[0].reshape(
            *((n, c // stride**2, h * stride, w * stride) if reverse else (n, c * stride**2, h // stride, w // stride))
        )

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Copy in the other order."""
        top[0].data[...] = self._moved(bottom[0].data, self.param.reorg_param.reverse).reshape(top[0].shape)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Copy back: the other direction undoes the one."""
        if propagate_down[0]:
            bottom[0].diff[...] = self._moved(top[0].diff, not self.param.reorg_param.reverse).reshape(bottom[0].shape)

    def _moved(self, x: np.ndarray, reverse: bool) -> np.ndarray:
        n, c, h, stride, w, _ = self.blocks
        if reverse:
            return x.reshape(n, stride, stride, c, h, w).transpose(0, 3, 4, 1, 5, 2)
        return x.reshape(self.blocks).transpose(0, 3, 5, 1, 2, 4)
