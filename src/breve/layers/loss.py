"""What losses have in common: labels read and checked, the divisor of a sum, the scalar top."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import DataError, LayerError
from breve.layers.base import Layer


class LossLayer(Layer):
    """Bottoms (prediction, label), top a scalar; its diff is the loss weight that gradients are scaled by."""

    bottom_counts: ClassVar[tuple[int, int | None]] = (2, 2)
    is_loss: ClassVar[bool] = True
    auto_top_blobs: ClassVar[bool] = True
    unforced_bottoms: ClassVar[frozenset[int]] = frozenset({1})
    fork_fields: ClassVar[frozenset[str]] = frozenset({"loss_param.pre_fixed_normalizer"})

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check that both bottoms hold the same number of samples; the top has no axes."""
        if not (bottom[0].shape and bottom[1].shape and bottom[0].shape[0] == bottom[1].shape[0]):
            raise LayerError(
                "prediction and label must have the same first dimension",
                expected=f"{bottom[0].shape[:1]}, of {bottom[0].shape}",
                found=f"{bottom[1].shape[:1]}, of {bottom[1].shape}",
            )
        top[0].reshape()

    def require_equal_counts(self, bottom: Sequence[Blob]) -> None:
        """Raise LayerError unless the first two bottoms hold as many values."""
        if bottom[0].count != bottom[1].count:
            raise LayerError("both bottoms must hold as many values", expected=bottom[0].shape, found=bottom[1].shape)

    def refuse_label_gradient(self, propagate_down: Sequence[bool], *, label: int = 1) -> None:
        """Raise LayerError when a gradient wrt the labels is asked for."""
        if len(propagate_down) > label and propagate_down[label]:
            raise LayerError(
                f"{self.type} gives no gradient wrt its labels",
                hint=f"no layer with parameters may stand before bottom {label}, or set propagate_down: false for it",
            )


def read_labels(
    blob: Blob, shape: tuple[int, ...], num_labels: int, ignore_label: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Labels as indices in `shape`, and where they count: those equal to `ignore_label` are given as 0 and do not.

    Fractions are cut off, as Caffe's cast does. Raises DataError naming the first label that is no class, and its
    position in the blob; LayerError when the blob does not hold as many labels as there are predictions.
    """
    values = blob.data
    if values.size != math.prod(shape):
        raise LayerError(
            "there must be one label for each prediction", expected=f"{list(shape)}", found=list(blob.shape)
        )
    in_range = (values > -1) & (values < num_labels)
    counts = np.ones(values.shape, bool) if ignore_label is None else np.trunc(values) != ignore_label
    if not (in_range | ~counts).all():
        position = tuple(int(i) for i in np.argwhere(counts & ~in_range)[0])
        raise DataError(
            "a label is out of range",
            expected=f"a class from 0 to {num_labels - 1}",
            found=f"{values[position]:g} at {position}",
            hint="check num_output of the layer before, and that classes are counted from 0",
        )
    return np.where(in_range, values, 0).astype(np.intp).reshape(shape), counts.reshape(shape)


def ignore_label(param: Any) -> int | None:
    """The field of this name, None when it is not set."""
    return param.ignore_label if param.HasField("ignore_label") else None


def normalization_mode(loss_param: Any, default: str) -> str:
    """The mode's name: `normalization`, else what the older `normalize` says, else `default`."""
    if loss_param.HasField("normalization"):
        return type(loss_param).NormalizationMode.Name(loss_param.normalization)
    if loss_param.HasField("normalize"):
        return "VALID" if loss_param.normalize else "BATCH_SIZE"
    return default


def normalizer(loss_param: Any, default: str, *, batch: int, full: int, valid: int) -> float:
    """The divisor of a summed loss, 1 at least, by Caffe's softmax_loss_layer.

    By `normalization_mode`: FULL: all predictions; VALID: those not ignored; BATCH_SIZE: samples; NONE: 1; PRE_FIXED,
    of Intel's fork: `pre_fixed_normalizer`.
    """
    fixed = loss_param.pre_fixed_normalizer
    modes = {"FULL": full, "VALID": valid, "BATCH_SIZE": batch, "NONE": 1, "PRE_FIXED": fixed}
    return float(max(1, modes[normalization_mode(loss_param, default)]))
