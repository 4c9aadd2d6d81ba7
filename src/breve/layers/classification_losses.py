"""Losses of probabilities: MultinomialLogisticLoss, InfogainLoss, SigmoidCrossEntropyLoss."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.loss import LossLayer, ignore_label, normalizer, read_labels
from breve.layers.softmax import softmax
from breve.proto.binary import read_mean

LEAST_PROBABILITY = 1e-20
"""Probabilities are raised to it before their logarithm is taken: Caffe's kLOG_THRESHOLD."""


class MultinomialLogisticLoss(LossLayer):
    """Logarithmic loss of probabilities. Of scores, SoftmaxWithLoss is the more accurate way.

    Forward: loss = -sum_n log(max(p_label, 1e-20)) / N.
    Backward: dp_label = -loss_weight / (N max(p_label, 1e-20)); 0 for the other classes.
    Blobs: bottoms probabilities (N, K) and N labels; top the scalar loss.
    Fields: none.
    Errors: labels that are no class; a gradient wrt labels.
    Source: Caffe's multinomial_logistic_loss_layer.
    """

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read the probability of each label."""
        num = bottom[0].shape[0]
        prob = bottom[0].data.reshape(num, int(np.prod(bottom[0].shape[1:])))
        labels, _ = read_labels(bottom[1], (num,), prob.shape[1])
        self.chosen = np.arange(num), labels
        self.label_prob = np.maximum(prob[self.chosen], self.dtype.type(LEAST_PROBABILITY))
        top[0].data[...] = -np.log(self.label_prob, dtype=np.float64).sum() / max(1, num)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Raise the probability of each label."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            num = bottom[0].shape[0]
            diff = np.zeros((num, int(np.prod(bottom[0].shape[1:]))), self.dtype)
            diff[self.chosen] = -top[0].diff[()] / (max(1, num) * self.label_prob)
            bottom[0].diff[...] = diff.reshape(bottom[0].shape)


class InfogainLoss(LossLayer):
    """Logarithmic loss in which a matrix says how much each prediction tells about a label.

    Forward: loss = -sum_n sum_k H[label_n, k] log(max(p_nk, 1e-20)) / normalizer, p = softmax(x) along `axis`; the
        second top, if any, is p. With H the identity it is SoftmaxWithLoss.
    Backward: dx_k = (p_k sum_j H[label, j] - H[label, k]) loss_weight / normalizer; 0 where the label is ignored.
    Blobs: bottoms scores (N, K, ...), one label for each prediction and, without `source`, H with K x K values; tops
        the scalar loss and, if wished, the probabilities.
    Fields: infogain_loss_param: `source`, a file with H as a BlobProto, `axis` (1); loss_param as in SoftmaxWithLoss.
    Errors: H missing or of another size; labels that are no class; a gradient wrt labels or H.
    Source: Caffe's infogain_loss_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 3)
    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1, 2})

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Read H from its file, unless a bottom gives it."""
        source = self.param.infogain_loss_param.source
        if len(bottom) < 3 and not source:
            raise LayerError("InfogainLoss needs its matrix", expected="a third bottom, or infogain_loss_param.source")
        self.infogain = read_mean(Path(source)) if len(bottom) < 3 else None

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the matrix and make room for the probabilities."""
        super().reshape(bottom, top)
        shape = bottom[0].shape
        self.axis = self.canonical_axis(self.param.infogain_loss_param.axis, len(shape))
        self.label_shape = shape[: self.axis] + shape[self.axis + 1 :]
        size = bottom[2].count if self.infogain is None else self.infogain.size
        if size != shape[self.axis] ** 2:
            raise LayerError(
                "the infogain matrix must have a row and a column for each class",
                expected=shape[self.axis] ** 2,
                found=size,
            )
        self.prob = top[1] if len(top) > 1 else Blob((), self.dtype)
        self.prob.reshape_like(bottom[0])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Weigh the logarithms by each label's row of H."""
        scores, loss_param = bottom[0].data, self.param.loss_param
        num_labels = scores.shape[self.axis]
        labels, counts = read_labels(bottom[1], self.label_shape, num_labels, ignore_label(loss_param))
        softmax(scores, self.axis, self.prob.data)
        matrix = bottom[2].data if self.infogain is None else self.infogain
        rows = matrix.reshape(num_labels, num_labels).astype(self.dtype)[labels] * counts[..., None]
        self.gains = np.moveaxis(rows, -1, self.axis)
        logs = np.log(np.maximum(self.prob.data, self.dtype.type(LEAST_PROBABILITY)))
        self.normalizer = normalizer(
            loss_param,
            "VALID",
            batch=int(np.prod(self.label_shape[: self.axis])),
            full=counts.size,
            valid=int(counts.sum()),
        )
        top[0].data[...] = -(self.gains * logs).sum(dtype=np.float64) / self.normalizer

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Probabilities times the row's sum, less the row."""
        for label in (1, 2):
            self.refuse_label_gradient(propagate_down, label=label)
        if propagate_down[0]:
            diff = self.prob.data * self.gains.sum(axis=self.axis, keepdims=True) - self.gains
            np.multiply(diff, self.dtype.type(top[0].diff[()] / self.normalizer), out=bottom[0].diff)


class SigmoidCrossEntropyLoss(LossLayer):
    """Cross entropy of independent probabilities, from their scores.

    Forward: loss = -sum (t log(p) + (1 - t) log(1 - p)) / normalizer, p = 1 / (1 + exp(-x)), computed as
        sum (max(x, 0) - x t + log(1 + exp(-|x|))), which cannot overflow.
    Backward: dx = (p - t) loss_weight / normalizer; 0 where the target is ignored.
    Blobs: bottoms scores x and targets t in [0, 1], (N, ...) with as many values each; top the scalar loss.
    Fields: loss_param: `ignore_label` (none), `normalization` (BATCH_SIZE: the divisor is N; FULL: all values; VALID:
        those not ignored; NONE: 1), `normalize`, its older form (true: VALID, false: BATCH_SIZE).
    Errors: bottoms of different sizes; a gradient wrt targets.
    Source: Caffe's sigmoid_cross_entropy_loss_layer.
    """

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check the counts."""
        super().reshape(bottom, top)
        self.require_equal_counts(bottom)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sum the entropies."""
        x, ignored = bottom[0].data, ignore_label(self.param.loss_param)
        target = bottom[1].data.reshape(x.shape)
        self.counts = np.ones(x.shape, bool) if ignored is None else np.trunc(target) != ignored
        decay = np.exp(-np.abs(x))
        losses = np.maximum(x, 0) - x * target + np.log(1 + decay)
        self.difference = np.where(x >= 0, 1, decay) / (1 + decay) - target
        self.normalizer = normalizer(
            self.param.loss_param,
            "BATCH_SIZE",
            batch=x.shape[0],
            full=x.size,
            valid=int(self.counts.sum()),
        )
        top[0].data[...] = losses.sum(where=self.counts, dtype=np.float64) / self.normalizer

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Probabilities less targets."""
        self.refuse_label_gradient(propagate_down)
        if propagate_down[0]:
            weight = self.dtype.type(top[0].diff[()] / self.normalizer)
            np.multiply(self.difference * weight, self.counts, out=bottom[0].diff)
