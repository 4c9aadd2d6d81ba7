"""The plan: what a net runs, step by step. A step binds a layer to its blobs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from breve.blob import Blob
from breve.errors import BreveError
from breve.layers.base import Layer


@dataclass
class Step:
    """One layer, the blobs it reads and writes, and what is wanted of its backward pass.

    A loss weight scales a top into the net's loss; backward starts from it as that top's diff.
    """

    layer: Layer
    where: str
    bottom: list[Blob]
    top: list[Blob]
    loss_weights: list[float]
    needs_backward: bool
    propagate_down: list[bool]

    def __post_init__(self) -> None:
        self._shapes: list[tuple[int, ...]] | None = None
        self.drawn_from: dict[str, Any] | None = None
        """The generator's state before the last forward pass of a layer that draws: who repeats the pass needs it."""

    def setup(self) -> None:
        """Let the layer check its parameters and make its own, then shape its tops."""
        try:
            self.layer.setup(self.bottom, self.top)
        except BreveError as error:
            error.where = error.where or self.where
            raise
        self.reshape()

    def reshape(self) -> None:
        """Shape the tops for the bottoms as they are now, and put the loss weights in the tops' diffs."""
        try:
            self._shapes = [blob.shape for blob in self.bottom]
            self.layer.reshape(self.bottom, self.top)
        except BreveError as error:
            error.where = error.where or self.where
            raise
        for top, weight in zip(self.top, self.loss_weights, strict=True):
            if weight:
                top.diff[...] = weight

    def reshape_if_needed(self) -> None:
        """Reshape if a bottom has another shape than before."""
        if self.layer.reshapes_always or self._shapes != [blob.shape for blob in self.bottom]:
            self.reshape()

    def forward(self) -> float:
        """Run the layer, reshaping first where needed; its contribution to the loss."""
        self.reshape_if_needed()
        if self.layer.draws:
            self.drawn_from = dict(self.layer.rng.bit_generator.state)
        try:
            self.layer.forward(self.bottom, self.top)
        except BreveError as error:
            error.where = error.where or self.where
            raise
        return sum(
            float(weight * top.data.sum()) for top, weight in zip(self.top, self.loss_weights, strict=True) if weight
        )

    def backward(self) -> None:
        """Run the layer backward if any gradient is wanted of it."""
        if not self.needs_backward:
            return
        try:
            self.layer.backward(self.top, self.propagate_down, self.bottom)
        except BreveError as error:
            error.where = error.where or self.where
            raise
