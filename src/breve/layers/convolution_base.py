"""What Convolution and Deconvolution share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels.convolution import ConvGeometry, plan
from breve.layers.base import Layer
from breve.layers.window import HOLES, Sizes, Window, read_window


class ConvolutionBase(Layer):
    """A layer with one plan, weights and bias, applied to each bottom alike.

    Feature maps are (*batch, channels, *spatial), `axis` being that of the channels. The plan sees them as
    (batch, channels, height, width) or with more spatial axes.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (1, None)
    top_counts: ClassVar[tuple[int, int | None]] = (1, None)
    equal_counts: ClassVar[bool] = True
    fork_fields: ClassVar[frozenset[str]] = HOLES

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the parameters; make weight and bias."""
        param = self.param.convolution_param
        self.axis = self.canonical_axis(param.axis, bottom[0].ndim)
        self.window = read_window(param, bottom[0].ndim - self.axis - 1)
        self.channels, self.num_output = bottom[0].shape[self.axis], param.num_output
        self.group = self.read_group()
        if self.num_output < 1:
            raise LayerError("num_output is missing or zero", expected="at least 1")
        for name, count in (("channels", self.channels), ("num_output", self.num_output)):
            if self.group < 1 or count < 1 or count % self.group:
                raise LayerError(
                    f"{name} do not divide into groups", expected=f"a multiple of {self.group}", found=count
                )
        self.add_parameter((*self.weight_channels(), *self.window.kernel), param.weight_filler)
        if param.bias_term:
            self.add_parameter((self.num_output,), param.bias_filler)
        caffe_engine = param.engine == param.CAFFE or param.force_nd_im2col
        self.algorithm = "im2col" if caffe_engine else None
        self.plan: Any = None

    def read_group(self) -> int:
        """Number of groups."""
        return self.param.convolution_param.group

    def weight_channels(self) -> tuple[int, int]:
        """The first two axes of the weights."""
        raise NotImplementedError

    def out_shape(self, in_shape: Sizes) -> Sizes:
        """Spatial shape of the tops."""
        raise NotImplementedError

    def plan_geometry(self, batch: int, in_shape: Sizes, out_shape: Sizes, window: Window) -> ConvGeometry:
        """The convolution to plan, on two spatial axes at least."""
        raise NotImplementedError

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Shape the tops; plan anew when the geometry has changed."""
        self._check_bottoms(bottom)
        shape = bottom[0].shape
        in_shape = shape[self.axis + 1 :]
        out_shape = self.out_shape(in_shape)
        if any(o < 1 for o in out_shape):
            raise LayerError("nothing is left of the input", expected="tops of one pixel at least", found=out_shape)
        for blob in top:
            blob.reshape(*shape[: self.axis], self.num_output, *out_shape)
        batch, ones = math.prod(shape[: self.axis]), (1,) * (2 - len(in_shape))
        self._bottom_maps = (batch, self.channels, *ones, *in_shape)
        self._top_maps = (batch, self.num_output, *ones, *out_shape)
        geometry = self.plan_geometry(batch, self._bottom_maps[2:], self._top_maps[2:], self.window.plane())
        if self.plan is None or self.plan.geometry != geometry:
            self.plan = plan(geometry, self.dtype, self.algorithm)

    def _check_bottoms(self, bottom: Sequence[Blob]) -> None:
        shape = bottom[0].shape
        if len(shape) != self.axis + 1 + len(self.window.kernel):
            raise LayerError("the number of axes has changed", found=shape)
        if shape[self.axis] != self.channels:
            raise LayerError(
                "the bottom's channels do not fit the weights", expected=self.channels, found=shape[self.axis]
            )
        for blob in bottom[1:]:
            if blob.shape != shape:
                raise LayerError("bottoms differ in shape", expected=shape, found=blob.shape)

    def _weight(self, array: np.ndarray) -> np.ndarray:
        """The weights, or their diff, with the kernel on as many axes as the plan's."""
        return array.reshape(*array.shape[:2], *self.window.plane().kernel)
