"""Convolution and Deconvolution: every term, and three derivations that meet in one number.

Both are one relation between an image side (pixels i) and an output side (positions y):
y stride - pad + r dilation = i. A Convolution's bottom is the image and its top the output; a Deconvolution's are
exchanged.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import numpy as np

from breve.explain import indexing
from breve.explain.indexing import Axis, Solutions
from breve.explain.layers.base import Linear
from breve.explain.layers.convolution_matrices import by_columns, by_correlation
from breve.explain.model import Derivation, Index, Lost, Terms
from breve.explain.record import Record
from breve.explain.wrt import Wrt

AXIS_NAMES = ("hwd", "yxz", "rsq")  # pixels, outputs, taps


class ConvolutionExplainer(Linear):
    """dX gathers dY through the weights, dW gathers dY through X, db gathers dY."""

    batchwise = True
    bottom_is_image: ClassVar[bool] = True

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        layer: Any = record.layer
        self.group, self.window = layer.group, layer.window
        first = layer.axis + 1
        self.batch = math.prod(record.bottom_data[0].shape[: layer.axis])
        self.bottom_space = record.bottom_data[0].shape[first:]
        self.top_space = record.top_data[0].shape[first:]
        self.channels = record.bottom_data[0].shape[layer.axis]
        self.num_output = record.top_data[0].shape[layer.axis]
        image, out = (
            (self.bottom_space, self.top_space) if self.bottom_is_image else (self.top_space, self.bottom_space)
        )
        w = self.window
        self.axes = [Axis(*sizes) for sizes in zip(image, w.kernel, w.stride, w.pad, w.dilation, out, strict=True)]

    @property
    def algorithm(self) -> dict[str, str]:
        """What the plan chose; a Deconvolution runs the passes exchanged."""
        chosen = dict(self.layer.plan.algorithms)  # type: ignore[attr-defined]
        if not self.bottom_is_image:
            chosen["forward"], chosen["backward_data"] = chosen["backward_data"], chosen["forward"]
        return chosen

    def bottom_maps(self, number: int) -> np.ndarray:
        """A bottom's data as (batch, channels, *space)."""
        return self.record.bottom_data[number].reshape(self.batch, self.channels, *self.bottom_space)

    def top_maps(self, number: int) -> np.ndarray:
        """A top's diff as (batch, num_output, *space)."""
        return self.record.top_diff[number].reshape(self.batch, self.num_output, *self.top_space)

    def place(self, index: Index) -> tuple[int, int, Index]:
        """Image, channel and pixel of an index of a bottom."""
        axis: int = self.layer.axis  # type: ignore[attr-defined]
        image = int(np.ravel_multi_index(index[:axis], self.record.bottom_data[0].shape[:axis])) if axis else 0
        return image, index[axis], index[axis + 1 :]

    def formula(self, wrt: Wrt) -> str:
        """The gradient as a sum."""
        pixel, out, tap = (", ".join(names[: len(self.axes)]) for names in AXIS_NAMES)
        here, there = (pixel, out) if self.bottom_is_image else (out, pixel)
        weight = f"W[k, c, {tap}]" if self.bottom_is_image else f"W[c, k, {tap}]"
        if not wrt.is_param:
            return f"dX[n, c, {here}] = sum over k, {tap} of dY[n, k, {there}] * {weight}"
        if wrt.number == 0:
            return f"d{weight} = sum over n, {out} of dY[n, k, {there}] * X[n, c, {here}]"
        return f"db[k] = sum over n, {there} of dY[n, k, {there}]"

    def index_equations(self, wrt: Wrt, index: Index) -> list[str]:
        """y stride - pad + r dilation = i along each axis, with this layer's numbers and the element's own."""
        if wrt.is_param and wrt.number:
            return []
        known = index[2:] if wrt.is_param else self.place(index)[2]
        which = 2 if wrt.is_param else 0 if self.bottom_is_image else 1
        lines = []
        for a, (axis, value) in enumerate(zip(self.axes, known, strict=True)):
            names = [AXIS_NAMES[side][a] for side in range(3)]
            names[which] = f"{names[which]}={value}"
            lines.append(f"{names[1]} * {axis.stride} - {axis.pad} + {names[2]} * {axis.dilation} = {names[0]}")
        return lines

    def solutions(self, wrt: Wrt, index: Index) -> list[Solutions]:
        """The index equation solved along each axis for this element."""
        if wrt.is_param:
            return [indexing.at_tap(axis, r) for axis, r in zip(self.axes, index[2:], strict=True)]
        solve = indexing.at_pixel if self.bottom_is_image else indexing.at_output
        return [solve(axis, i) for axis, i in zip(self.axes, self.place(index)[2], strict=True)]

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """All pairs of top diff and weight, or of top diff and input."""
        if not wrt.is_param:
            return self._data_terms(wrt.number, index)
        tops = range(len(self.record.top_diff))
        one = self._bias_terms if wrt.number else self._weight_terms
        return Terms.join([one(top, index) for top in tops])

    def _data_terms(self, bottom: int, index: Index) -> Terms:
        image, c, _ = self.place(index)
        tap, position = indexing.combine(self.solutions(Wrt(False, bottom), index), self.window.kernel, self.top_space)
        k, weight_row = self._outputs_of(c)
        top_position = (image * self.num_output + k)[:, None] * math.prod(self.top_space) + position
        weight_position = weight_row[:, None] * math.prod(self.window.kernel) + tap
        return Terms.gather(
            self.record.top_diff, bottom, top_position.ravel(), self.record.param_data[0], weight_position.ravel(), "W"
        )

    def _outputs_of(self, c: int) -> tuple[np.ndarray, np.ndarray]:
        """The top's channels of c's group, and for each the kernel (a row of the weights) that joins the two."""
        fan_in, fan_out = self.channels // self.group, self.num_output // self.group
        k = c // fan_in * fan_out + np.arange(fan_out)
        return k, (k * fan_in + c % fan_in if self.bottom_is_image else c * fan_out + k % fan_out)

    def channels_of(self, index: Index) -> tuple[int, int]:
        """The bottom's and the top's channel that a weight joins."""
        first, second = index[:2]
        fan_in, fan_out = self.channels // self.group, self.num_output // self.group
        if self.bottom_is_image:
            return first // fan_out * fan_in + second, first
        return first, first // fan_in * fan_out + second

    def _weight_terms(self, top: int, index: Index) -> Terms:
        c, k = self.channels_of(index)
        pairs = indexing.combine(
            self.solutions(Wrt(True, 0), index), tuple(a.out for a in self.axes), tuple(a.size for a in self.axes)
        )
        here, there = pairs[::-1] if self.bottom_is_image else pairs
        n = np.arange(self.batch)[:, None]
        bottom_position = (n * self.channels + c) * math.prod(self.bottom_space) + here
        top_position = (n * self.num_output + k) * math.prod(self.top_space) + there
        bottom_data = self.record.bottom_data[top]
        return Terms.gather(self.record.top_diff, top, top_position.ravel(), bottom_data, bottom_position.ravel(), "X")

    def _bias_terms(self, top: int, index: Index) -> Terms:
        n, pixel = np.arange(self.batch)[:, None], np.arange(math.prod(self.top_space))
        position = (n * self.num_output + index[0]) * len(pixel) + pixel
        return Terms.gather(self.record.top_diff, top, position.ravel(), np.float64(1))

    def lost(self, wrt: Wrt, index: Index) -> list[Lost]:
        """Taps without an output, outputs whose taps miss the pixel, taps on the padding."""
        return [] if wrt.is_param and wrt.number else indexing.lost_terms(self.solutions(wrt, index))

    def derivations(self, wrt: Wrt, index: Index) -> dict[str, Derivation]:
        """Correlation and columns."""
        return {"rotated_kernel": by_correlation(self, wrt, index), "gemm_col2im": by_columns(self, wrt, index)}

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """Groups, and the 1x1 shortcut."""
        said = []
        if self.group > 1 and not (wrt.is_param and wrt.number):
            c = self.channels_of(index)[0] if wrt.is_param else self.place(index)[1]
            fan_in, fan_out = self.channels // self.group, self.num_output // self.group
            g = c // fan_in
            said.append(
                f"group {g} of {self.group}: channels {g * fan_in} to {(g + 1) * fan_in - 1} meet outputs "
                f"{g * fan_out} to {(g + 1) * fan_out - 1} alone; the other blocks of the weight matrix are zero"
            )
        if all((a.kernel, a.stride, a.pad) == (1, 1, 0) for a in self.axes):
            said.append(
                "1x1, stride 1, no padding: the column matrix is the input itself, im2col and col2im copy nothing"
            )
        return said


class DeconvolutionExplainer(ConvolutionExplainer):
    """The mirror: what is backward there is forward here. dX is a convolution of dY with the kernel as it stands."""

    bottom_is_image: ClassVar[bool] = False
