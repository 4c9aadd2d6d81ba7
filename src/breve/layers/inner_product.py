"""InnerProduct and Embed: layers that multiply by a matrix."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import DataError, LayerError
from breve.kernels.gemm import gemm
from breve.layers.base import Layer
from breve.layers.views import overwritten


class InnerProduct(Layer):
    """Every input connected with every output.

    Forward: y[m,k] = b[k] + sum over i of w[k,i] x[m,i], where x (M, I) is the bottom with its axes before `axis` in M
        and the others, in Caffe's order, in I.
    Backward: dx = dy w; dw = dy^T x; db = the sum of dy over m.
    Blobs: one bottom; top of the bottom's axes before `axis`, then num_output.
    Params: `weight` (num_output, I), or (I, num_output) with `transpose`; `bias` (num_output) where `bias_term`.
    Fields: inner_product_param: `num_output` (required), `bias_term` (true), `weight_filler` (constant 0),
        `bias_filler` (constant 0), `axis` (1), negative ones counted from the last, `transpose` (false).
    Errors: no `num_output`; a bottom whose I has changed.
    Source: Caffe's inner_product_layer.
    """

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make weight and bias."""
        param = self.param.inner_product_param
        if param.num_output < 1:
            raise LayerError("num_output is missing or zero", expected="at least 1")
        self.axis = self.canonical_axis(param.axis, bottom[0].ndim)
        self.num_output, self.inputs = param.num_output, math.prod(bottom[0].shape[self.axis :])
        shape = (self.num_output, self.inputs)
        self.add_parameter(shape[::-1] if param.transpose else shape, param.weight_filler)
        if param.bias_term:
            self.add_parameter((self.num_output,), param.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """The axes from `axis` on become one."""
        shape = bottom[0].shape
        inputs = math.prod(shape[self.axis :])
        if len(shape) <= self.axis or inputs != self.inputs:
            raise LayerError("the bottom does not fit the weights", expected=f"{self.inputs} inputs", found=shape)
        self.rows = math.prod(shape[: self.axis])
        top[0].reshape(*shape[: self.axis], self.num_output)

    def _weight(self, array: np.ndarray) -> np.ndarray:
        """Weights, or their diff, as (num_output, I)."""
        return array.T if self.param.inner_product_param.transpose else array

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Multiply, starting from the bias."""
        bottom_data = bottom[0].data.reshape(self.rows, self.inputs)
        has_bias = len(self.blobs) > 1
        with overwritten(top[0].data, (self.rows, self.num_output)) as top_data:
            if has_bias:
                top_data[...] = self.blobs[1].data
            gemm(bottom_data, self._weight(self.blobs[0].data), top_data, trans_b=True, beta=float(has_bias))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Gradients wrt weight, bias and bottom."""
        top_diff = top[0].diff.reshape(self.rows, self.num_output)
        weight_wanted, bias_wanted = (*self.param_propagate_down, False)[:2]
        if weight_wanted:
            bottom_data = bottom[0].data.reshape(self.rows, self.inputs)
            gemm(top_diff, bottom_data, self._weight(self.blobs[0].diff), trans_a=True, beta=1.0)
        if bias_wanted:
            self.blobs[1].diff[...] += top_diff.sum(axis=0)
        if propagate_down[0]:
            with overwritten(bottom[0].diff, (self.rows, self.inputs)) as bottom_diff:
                gemm(top_diff, self._weight(self.blobs[0].data), bottom_diff)


class Embed(Layer):
    """A learned vector for each number: an InnerProduct of one-hot vectors, given by their indices.

    Forward: y[m,k] = b[k] + w[x[m],k].
    Backward: dw[i,k] = the sum of dy[m,k] over all m with x[m] = i; db = the sum of dy over m; the bottom gets no
        gradient.
    Blobs: bottom of any shape that holds numbers from 0 to input_dim - 1; top of the bottom's axes, then num_output.
    Params: `weight` (input_dim, num_output); `bias` (num_output) where `bias_term`.
    Fields: embed_param: `num_output` (required), `input_dim` (required), `bias_term` (true), `weight_filler` (constant
        0), `bias_filler` (constant 0).
    Errors: no `num_output` or `input_dim`; an index out of range; a gradient wrt the bottom.
    Source: Caffe's embed_layer.
    """

    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({0})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make weight and bias."""
        param = self.param.embed_param
        if param.num_output < 1 or param.input_dim < 1:
            raise LayerError(
                "num_output or input_dim is missing or zero",
                expected="at least 1",
                found=f"num_output {param.num_output}, input_dim {param.input_dim}",
            )
        self.add_parameter((param.input_dim, param.num_output), param.weight_filler)
        if param.bias_term:
            self.add_parameter((param.num_output,), param.bias_filler)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """One more axis."""
        top[0].reshape(*bottom[0].shape, self.param.embed_param.num_output)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Look each vector up."""
        self.indices = self._indices(bottom[0].data)
        top[0].data[...] = self.blobs[0].data[self.indices]
        if len(self.blobs) > 1:
            top[0].data[...] += self.blobs[1].data

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Gradients wrt weight and bias."""
        if propagate_down[0]:
            raise LayerError("Embed gives no gradient wrt its indices", hint="set propagate_down: false")
        top_diff = top[0].diff.reshape(-1, self.param.embed_param.num_output)
        weight_wanted, bias_wanted = (*self.param_propagate_down, False)[:2]
        if weight_wanted:
            np.add.at(self.blobs[0].diff, self.indices.reshape(-1), top_diff)
        if bias_wanted:
            self.blobs[1].diff[...] += top_diff.sum(axis=0)

    def _indices(self, values: np.ndarray) -> np.ndarray:
        """The bottom as whole numbers, cut off as Caffe does. Raises DataError where one is out of range."""
        input_dim = self.param.embed_param.input_dim
        wrong = ~((values > -1) & (values < input_dim))
        if wrong.any():
            place = tuple(int(i) for i in np.argwhere(wrong)[0])
            raise DataError(
                "an index is out of range", expected=f"0 to {input_dim - 1}", found=f"{values[place]:g} at {place}"
            )
        return values.astype(np.intp)
