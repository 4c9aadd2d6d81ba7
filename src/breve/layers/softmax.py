"""Softmax, and its composition with the logarithmic loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.kernels import exponential
from breve.layers.base import Layer
from breve.layers.loss import LossLayer, ignore_label, normalization_mode, normalizer, read_labels


def rows(array: np.ndarray, axis: int) -> np.ndarray | None:
    """A view of the array with `axis` as the columns of contiguous rows; None where it does not lie so in memory."""
    last = np.moveaxis(array, axis, -1)
    return last.reshape(-1, last.shape[-1]) if last.flags.c_contiguous and array.size else None


def softmax(x: np.ndarray, axis: int, out: np.ndarray) -> None:
    """exp(x - max x) / sum exp(x - max x) along `axis`; `out` may be `x`."""
    x_rows, y_rows = rows(x, axis), rows(out, axis)
    if x_rows is not None and y_rows is not None:
        exponential.softmax(x_rows, y_rows)
        return
    np.subtract(x, x.max(axis=axis, keepdims=True), out=out)
    np.exp(out, out=out)
    out /= out.sum(axis=axis, keepdims=True)


def softmax_backward(y: np.ndarray, top_diff: np.ndarray, axis: int, out: np.ndarray) -> None:
    """y (top_diff - sum top_diff y) along `axis`; `out` may be `top_diff`."""
    arrays = [rows(array, axis) for array in (y, top_diff, out)]
    if all(array is not None for array in arrays):
        exponential.softmax_backward(*arrays)
        return
    np.subtract(top_diff, (top_diff * y).sum(axis=axis, keepdims=True), out=out)
    out *= y


class Softmax(Layer):
    """Probabilities of classes from their scores.

    Forward: y_i = exp(x_i) / sum_j exp(x_j) along `axis`.
    Backward: dx_i = y_i (dy_i - sum_j dy_j y_j).
    Fields: softmax_param: `axis` (1), negative ones counted from the last; `engine` is ignored.
    Source: Caffe's softmax_layer.
    """

    in_place: ClassVar[bool] = True

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Top takes the bottom's shape."""
        self.axis = self.canonical_axis(self.param.softmax_param.axis, bottom[0].ndim)
        top[0].reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Exponentiate and divide by the sum."""
        softmax(bottom[0].data, self.axis, top[0].data)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Take the mean gradient off and weigh by the probabilities."""
        if propagate_down[0]:
            softmax_backward(top[0].data, top[0].diff, self.axis, bottom[0].diff)


class SoftmaxWithLoss(LossLayer):
    """Multinomial logistic loss of the softmax of scores.

    Forward: loss = -sum log(p_label) / normalizer, p = softmax(x) along `axis`; the second top, if any, is p.
    Backward: dx = (p - onehot(label)) loss_weight / normalizer; 0 where the label is ignored.
    Blobs: bottoms scores (N, C, ...) and one label for each of the N ... predictions; tops the scalar loss and,
        if wished, the probabilities, which no gradient flows back through.
    Fields: softmax_param: `axis` (1); loss_param: `ignore_label` (none), `normalization` (VALID: the divisor is the
        number of labels not ignored; FULL: of all; BATCH_SIZE: N; NONE: 1), `normalize`, its older form (true: VALID,
        false: BATCH_SIZE).
    Errors: labels that do not match the predictions in number, or are no class; a gradient wrt labels.
    Source: Caffe's softmax_loss_layer.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Make room for the probabilities."""
        super().reshape(bottom, top)
        shape = bottom[0].shape
        self.axis = self.canonical_axis(self.param.softmax_param.axis, len(shape))
        self.label_shape = shape[: self.axis] + shape[self.axis + 1 :]
        self.prob = top[1] if len(top) > 1 else Blob((), self.dtype)
        self.prob.reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the probability of each label."""
        scores = bottom[0].data
        labels, self.counts = read_labels(
            bottom[1], self.label_shape, scores.shape[self.axis], ignore_label(self.param.loss_param)
        )
        softmax(scores, self.axis, self.prob.data)
        self.labels = np.expand_dims(labels, self.axis)
        label_prob = np.take_along_axis(self.prob.data, self.labels, self.axis).squeeze(self.axis)
        tiny = np.finfo(np.float32).tiny
        losses = -np.log(np.maximum(label_prob, tiny, dtype=np.float64))
        self.normalizer = normalizer(
            normalization_mode(self.param.loss_param, "VALID"),
            batch=int(np.prod(self.label_shape[: self.axis])),
            full=self.counts.size,
            valid=int(np.count_nonzero(self.counts)),
        )
        top[0].data[...] = losses.sum(where=self.counts) / self.normalizer

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Probabilities less one at the label."""
        self.refuse_label_gradient(propagate_down)
        if not propagate_down[0]:
            return
        bottom_diff = bottom[0].diff
        weight = self.dtype.type(top[0].diff[()] / self.normalizer)
        np.multiply(self.prob.data, weight, out=bottom_diff)
        label_diff = np.take_along_axis(bottom_diff, self.labels, self.axis) - weight
        np.put_along_axis(bottom_diff, self.labels, label_diff, self.axis)
        if not self.counts.all():
            bottom_diff *= np.expand_dims(self.counts, self.axis)
