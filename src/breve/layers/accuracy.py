"""Counting what was predicted right: Accuracy, ArgMax."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import LayerError
from breve.layers.base import Layer
from breve.layers.loss import ignore_label, read_labels


class Accuracy(Layer):
    """The share of predictions whose label is among the `top_k` highest scores.

    Forward: y = (labels for which fewer than top_k other scores are >= the label's) / (labels not ignored), 0 if
        there are none; a tie counts against the prediction. The second top, if any, is the same for each class.
    Backward: none; asking for it is an error.
    Blobs: bottoms scores (N, C, ...) and one label for each of the N ... predictions; tops a scalar and, if wished, one
        value for each class.
    Fields: accuracy_param: `top_k` (1), `axis` (1) of the classes, `ignore_label` (none).
    Errors: labels that do not match the predictions in number, or are no class; top_k beyond the number of classes.
    Source: Caffe's accuracy_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 2)
    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Find the classes' axis."""
        shape = bottom[0].shape
        self.axis = self.canonical_axis(self.param.accuracy_param.axis, len(shape))
        self.label_shape = shape[: self.axis] + shape[self.axis + 1 :]
        top_k = self.param.accuracy_param.top_k
        if not 1 <= top_k <= shape[self.axis]:
            raise LayerError(
                "accuracy_param.top_k is out of range", expected=f"1 to {shape[self.axis]} classes", found=top_k
            )
        top[0].reshape()
        if len(top) > 1:
            top[1].reshape(shape[self.axis])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Compare each label's score with the others."""
        scores = bottom[0].data
        num_classes = scores.shape[self.axis]
        param = self.param.accuracy_param
        labels, counts = read_labels(bottom[1], self.label_shape, num_classes, ignore_label(param))
        label_score = np.take_along_axis(scores, np.expand_dims(labels, self.axis), self.axis)
        right = (scores >= label_score).sum(axis=self.axis) <= param.top_k
        top[0].data[...] = (right & counts).sum() / max(1, int(counts.sum()))
        if len(top) > 1:
            right_per_class = np.bincount(labels[right & counts], minlength=num_classes)
            top[1].data[...] = right_per_class / np.maximum(1, np.bincount(labels[counts], minlength=num_classes))

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Counting has no gradient. Raises LayerError when one is asked for."""
        if any(propagate_down):
            raise LayerError("Accuracy gives no gradient", hint="set propagate_down: false, or use a loss layer")
