"""Softmax, and its composition with the logarithmic loss."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.kernels import exponential
from breve.layers.base import Layer
from breve.layers.loss import LossLayer, ignore_label, normalizer, read_labels


def rows(array: np.ndarray, axis: int) -> np.ndarray:
    """The values as contiguous rows along `axis`: a view where they lie so in memory, else a copy."""
    last = np.moveaxis(array, axis, -1)
    return np.ascontiguousarray(last).reshape(math.prod(last.shape[:-1]), last.shape[-1])


def put_rows(values: np.ndarray, axis: int, out: np.ndarray) -> None:
    """Write what was made in `rows(out, axis)` back, unless that is a view."""
    if not np.may_share_memory(values, out):
        last = np.moveaxis(out, axis, -1)
        last[...] = values.reshape(last.shape)


def softmax(x: np.ndarray, axis: int, out: np.ndarray) -> np.ndarray:
    """exp(x - max x) / sum exp(x - max x) along `axis`; `out` may be `x`. Gives the rows of `out`."""
    y = rows(out, axis)
    exponential.softmax(rows(x, axis), y)
    put_rows(y, axis, out)
    return y


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
            bottom_diff = rows(bottom[0].diff, self.axis)
            exponential.softmax_backward(rows(top[0].data, self.axis), rows(top[0].diff, self.axis), bottom_diff)
            put_rows(bottom_diff, self.axis, bottom[0].diff)


class SoftmaxWithLoss(LossLayer):
    """Multinomial logistic loss of the softmax of scores.

    Forward: loss = -sum log(p_label) / normalizer, p = softmax(x) along `axis`; the second top, if any, is p. With
        class weights each term is multiplied by its label's; they do not change the normalizer.
    Backward: dx = (p - onehot(label)) loss_weight / normalizer; 0 where the label is ignored.
    Blobs: bottoms scores (N, C, ...) and one label for each of the N ... predictions; tops the scalar loss and,
        if wished, the probabilities, which no gradient flows back through.
    Fields: softmax_param: `axis` (1); loss_param: `ignore_label` (none), `normalization` (VALID: the divisor is the
        number of labels not ignored; FULL: of all; BATCH_SIZE: N; NONE: 1), `normalize`, its older form (true: VALID,
        false: BATCH_SIZE); of forks PRE_FIXED with `pre_fixed_normalizer` (1; Intel), `class_weighting` for each class
        with `weight_by_label_freqs` (false; SegNet).
    Errors: labels that do not match the predictions in number, or are no class; a gradient wrt labels.
    Source: Caffe's softmax_loss_layer.
    """

    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    fork_fields: ClassVar[frozenset[str]] = LossLayer.fork_fields | {
        "loss_param.weight_by_label_freqs",
        "loss_param.class_weighting",
    }

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
        scores, loss_param = bottom[0].data, self.param.loss_param
        labels, counts = read_labels(bottom[1], self.label_shape, scores.shape[self.axis], ignore_label(loss_param))
        self.labels = np.where(counts, labels, -1).ravel()
        losses = np.empty(labels.size, self.dtype)
        exponential.label_losses(softmax(scores, self.axis, self.prob.data), self.labels, losses)
        self.label_weights = self._label_weights(scores.shape[self.axis])
        self.normalizer = normalizer(
            loss_param,
            "VALID",
            batch=math.prod(self.label_shape[: self.axis]),
            full=counts.size,
            valid=int(np.count_nonzero(counts)),
        )
        if self.label_weights is not None:
            losses *= self.label_weights
        top[0].data[...] = losses.sum(dtype=np.float64) / self.normalizer

    def _label_weights(self, num_labels: int) -> np.ndarray | None:
        """The weight of each prediction, where SegNet's fields give classes weights."""
        param = self.param.loss_param
        if not param.weight_by_label_freqs:
            return None
        if len(param.class_weighting) != num_labels:
            raise LayerError(
                "class_weighting must be given for each class", expected=num_labels, found=len(param.class_weighting)
            )
        return np.array(param.class_weighting, self.dtype)[self.labels]

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Probabilities less one at the label."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            weight = self.dtype.type(top[0].diff[()] / self.normalizer)
            bottom_diff = rows(bottom[0].diff, self.axis)
            exponential.softmax_loss_backward(rows(self.prob.data, self.axis), self.labels, weight, bottom_diff)
            if self.label_weights is not None:
                bottom_diff *= self.label_weights[:, None]
            put_rows(bottom_diff, self.axis, bottom[0].diff)
