"""Softmax and the losses: p - y and its kin."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from breve.explain.layers.base import Explainer, Kinks
from breve.explain.model import Index, Terms
from breve.explain.record import Record
from breve.explain.wrt import Wrt


class SoftmaxExplainer(Explainer):
    """Each probability pushes all others down: dx_e = sum over i of dy_i p_i ([i = e] - p_e)."""

    batchwise = True

    def __init__(self, record: Record) -> None:
        super().__init__(record)
        self.shape = record.bottom_data[0].shape
        self.axis = self.layer.param.softmax_param.axis % len(self.shape)

    def formula(self, wrt: Wrt) -> str:
        """A row of the Jacobian of softmax."""
        return "dx[e] = sum over classes i of dy[i] * p[i] ([i = e] - p[e])"

    def scores(self, index: Index) -> tuple[np.ndarray, np.ndarray]:
        """Positions of the scores that compete with the one at `index`, and their probabilities."""
        place: tuple[Any, ...] = (*index[: self.axis], slice(None), *index[self.axis + 1 :])
        positions = np.arange(math.prod(self.shape)).reshape(self.shape)[place]
        x = self.record.bottom_data[0][place].astype(np.float64)
        p = np.exp(x - x.max())
        return positions, p / p.sum()

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """One for each class."""
        positions, p = self.scores(index)
        e = index[self.axis]
        return Terms.gather(self.record.top_diff, 0, positions, p * ((np.arange(p.size) == e) - p[e]))


class SoftmaxWithLossExplainer(SoftmaxExplainer):
    """dx = (p - y) / normalizer: what the net said less what was true."""

    batchwise = False
    gradient_tops = 1

    def formula(self, wrt: Wrt) -> str:
        """p - y."""
        return "dx[n, i] = dloss * (p[n, i] - y[n, i]) / normalizer, y = 1 for the label's class, else 0"

    def _parts(self, index: Index) -> tuple[float, float, float]:
        """p, y and the normalizer."""
        _, p = self.scores(index)
        others = index[: self.axis] + index[self.axis + 1 :]
        shape = self.shape[: self.axis] + self.shape[self.axis + 1 :]
        labels = self.record.bottom_data[1].reshape(shape).astype(np.int64)
        y = float(labels[others] == index[self.axis])
        return float(p[index[self.axis]]), y, self._normalizer(labels)

    def _normalizer(self, labels: np.ndarray) -> float:
        param = self.layer.param.loss_param
        ignored = labels == param.ignore_label if param.HasField("ignore_label") else np.zeros(labels.shape, bool)
        mode = type(param).NormalizationMode.Name(param.normalization)
        if not param.HasField("normalization") and param.HasField("normalize"):
            mode = "VALID" if param.normalize else "BATCH_SIZE"
        batch = math.prod(self.shape[: self.axis])
        counts = {"FULL": labels.size, "VALID": labels.size - int(ignored.sum()), "BATCH_SIZE": batch, "NONE": 1}
        return float(max(1, counts.get(mode, param.pre_fixed_normalizer)))

    def _weight(self, index: Index) -> float:
        """The weight of the label's class, where SegNet's fields give classes weights."""
        param = self.layer.param.loss_param
        if not param.weight_by_label_freqs:
            return 1.0
        others = index[: self.axis] + index[self.axis + 1 :]
        labels = self.record.bottom_data[1].reshape(self.shape[: self.axis] + self.shape[self.axis + 1 :])
        return param.class_weighting[int(labels[others])]

    def _ignored(self, index: Index) -> bool:
        param = self.layer.param.loss_param
        others = index[: self.axis] + index[self.axis + 1 :]
        labels = self.record.bottom_data[1].reshape(self.shape[: self.axis] + self.shape[self.axis + 1 :])
        return param.HasField("ignore_label") and int(labels[others]) == param.ignore_label

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """The only one: the loss is one number."""
        p, y, normalizer = self._parts(index)
        factor = 0.0 if self._ignored(index) else self._weight(index) * (p - y) / normalizer
        return Terms.gather(self.record.top_diff, 0, 0, factor)

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """The numbers in p - y."""
        if self._ignored(index):
            return ["the label is ignored: no gradient"]
        p, y, normalizer = self._parts(index)
        weight = self._weight(index)
        weighted = f", times the class's weight {weight:g}" if weight != 1 else ""
        return [f"p = {p:.9g}, y = {y:g}, p - y = {p - y:.9g}{weighted}, divided by {normalizer:g}"]


class LossExplainer(Explainer):
    """A loss by its own Jacobian: one number, so one term."""

    gradient_tops = 1
    formula_text = "dx[e] = dloss * d loss / d x[e]"


class SigmoidCrossEntropyLossExplainer(LossExplainer):
    """dx = (sigmoid(x) - t) / normalizer."""

    def formula(self, wrt: Wrt) -> str:
        """p - t."""
        return "dx[e] = dloss * (sigmoid(x[e]) - t[e]) / normalizer"

    def remarks(self, wrt: Wrt, index: Index) -> list[str]:
        """The numbers in p - t."""
        x, t = float(self.record.bottom_data[0][index]), float(self.record.bottom_data[1][index])
        p = 0.5 * (1 + math.tanh(0.5 * x))
        return [f"p = sigmoid({x:.6g}) = {p:.9g}, t = {t:g}, p - t = {p - t:.9g}"]


class EuclideanLossExplainer(LossExplainer):
    """d(sum of (a - b)^2 / 2N): the difference over N, with opposite signs for the two bottoms."""

    def formula(self, wrt: Wrt) -> str:
        """The difference."""
        return f"d{'ab'[wrt.number]}[e] = dloss * ({'a[e] - b[e]' if wrt.number == 0 else 'b[e] - a[e]'}) / N"

    def terms(self, wrt: Wrt, index: Index) -> Terms:
        """The only one."""
        position = int(np.ravel_multi_index(index, self.values(wrt).shape))
        a, b = (float(x.reshape(-1)[position]) for x in self.record.bottom_data)
        difference = a - b if wrt.number == 0 else b - a
        return Terms.gather(self.record.top_diff, 0, 0, difference / len(self.record.bottom_data[0]))


class ContrastiveLossExplainer(LossExplainer):
    """Pairs of samples pulled together, or pushed apart up to a margin; by the layer's own Jacobian."""

    formula_text = "dx[e] = dloss * d loss / d x[e]; zero where two unlike samples are further apart than the margin"
    known_error = 1e-3
    known_reason = "Caffe divides by the distance + 1e-4, which is not the loss's exact derivative"


class HingeLossExplainer(LossExplainer):
    """Scores pushed past a margin; by the layer's own Jacobian within it, nothing beyond."""

    formula_text = "dx[e] = dloss * d loss / d x[e]; zero where the margin is kept"

    def kinks(self, bottom: int, inputs: Sequence[np.ndarray], radius: float) -> Kinks | None:
        """Scores on the margin."""
        return Kinks(np.abs(self._margins(inputs)) <= radius, "kink at HingeLoss input") if bottom == 0 else None

    @staticmethod
    def _margins(inputs: Sequence[np.ndarray]) -> np.ndarray:
        """How far each score is from its margin: 1 + x for wrong classes, 1 - x for the label's."""
        x = inputs[0].reshape(inputs[0].shape[0], -1)
        sign = np.ones(x.shape)
        sign[np.arange(len(x)), inputs[1].reshape(-1).astype(np.intp)] = -1
        return (1 + sign * x).reshape(inputs[0].shape)
