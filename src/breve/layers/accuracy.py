"""Counting what was predicted right: Accuracy, ArgMax."""

from __future__ import annotations

import math
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
    Backward: none; asking for it is an error. (`force_backward` passes the layer by, where Caffe aborts.)
    Blobs: bottoms scores (N, C, ...) and one label for each of the N ... predictions; tops a scalar and, if wished, one
        value for each class.
    Fields: accuracy_param: `top_k` (1), `axis` (1) of the classes, `ignore_label` (none).
    Errors: labels that do not match the predictions in number, or are no class; top_k beyond the number of classes.
    Source: Caffe's accuracy_layer.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 2)
    top_counts: ClassVar[tuple[int, int | None]] = (1, 2)
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({0, 1})

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


class ArgMax(Layer):
    """The `top_k` highest values and where they are.

    Forward: the positions of the highest values, highest first; of equal ones the last first. Without `axis` a sample
        is one row of values, and `out_max_val` adds the values to the positions; with it they replace them.
    Backward: none; asking for it is an error.
    Blobs: bottom (N, ...); top (N, 1, top_k) or, with `out_max_val`, (N, 2, top_k), and ones to as many axes as the
        bottom; with `axis` the bottom's shape with top_k along it.
    Fields: argmax_param: `top_k` (1), `out_max_val` (false), `axis` (none).
    Errors: top_k beyond the number of values.
    Source: Caffe's argmax_layer.
    """

    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({0})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Find the axis and give the top its shape."""
        param, shape = self.param.argmax_param, bottom[0].shape
        self.axis = self.canonical_axis(param.axis, len(shape)) if param.HasField("axis") else None
        size = math.prod(shape[1:]) if self.axis is None else shape[self.axis]
        if not 1 <= param.top_k <= size:
            raise LayerError("argmax_param.top_k is out of range", expected=f"1 to {size}", found=param.top_k)
        if self.axis is None:
            ones = [1] * (len(shape) - 3)
            top[0].reshape(shape[0], 2 if param.out_max_val else 1, param.top_k, *ones)
        else:
            top[0].reshape(*shape[: self.axis], param.top_k, *shape[self.axis + 1 :])

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Sort and take the first ones."""
        param, x = self.param.argmax_param, bottom[0].data
        rows = x.reshape(x.shape[0], math.prod(x.shape[1:])) if self.axis is None else np.moveaxis(x, self.axis, -1)
        highest_first = np.argsort(-rows[..., ::-1], axis=-1, kind="stable")
        positions = rows.shape[-1] - 1 - highest_first[..., : param.top_k]
        values = np.take_along_axis(rows, positions, -1) if param.out_max_val else None
        if self.axis is not None:
            top[0].data[...] = np.moveaxis(positions if values is None else values, -1, self.axis)
        else:
            found = positions[:, None] if values is None else np.stack([positions, values], axis=1)
            top[0].data[...] = found.reshape(top[0].shape)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """A position has no gradient. Raises LayerError when one is asked for."""
        if any(propagate_down):
            raise LayerError("ArgMax gives no gradient", hint="set propagate_down: false")
