"""The means of a net's outputs over batches, and how they are written."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

Scores = dict[str, np.ndarray]
"""The value of each output by name."""


class Means:
    """Runs a net on batches and averages its loss and outputs."""

    def __init__(self, net: Any) -> None:
        self.net, self.batches, self._loss = net, 0, 0.0
        self._sums: dict[str, Any] = dict.fromkeys(net.outputs, 0.0)

    def run_batch(self) -> None:
        """Run the net once."""
        self._loss += self.net.forward_from_to()
        self.batches += 1
        for name in self._sums:
            self._sums[name] = self._sums[name] + self.net.blobs[name].data.astype(np.float64)

    @property
    def loss(self) -> float:
        """The mean loss."""
        return self._loss / self.batches

    @property
    def scores(self) -> Scores:
        """The mean of each output."""
        return {name: (total / self.batches).astype(self.net.dtype) for name, total in self._sums.items()}


def outputs(net: Any) -> Scores:
    """What a net's outputs hold now."""
    return {name: net.blobs[name].data for name in net.outputs}


def score_lines(net: Any, scores: Scores) -> Iterator[str]:
    """`name = value (* weight = value loss)` for every element of every output, as Caffe writes them."""
    weights = _loss_weights(net)
    for name, values in scores.items():
        for value in values.ravel():
            weight = weights.get(name, 0)
            weighted = f" (* {weight:g} = {weight * value:g} loss)" if weight else ""
            yield f"{name} = {value:g}{weighted}"


def _loss_weights(net: Any) -> dict[str, float]:
    """The weight in the net's loss of each blob that has one."""
    return {
        net.blob_names[i]: weight
        for step, ids in zip(net.steps, net.top_ids, strict=True)
        for i, weight in zip(ids, step.loss_weights, strict=True)
        if weight
    }
