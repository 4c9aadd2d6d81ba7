"""Recurrent layers: by the layer's own Jacobian, but for the states that are handed in and out."""

from __future__ import annotations

from typing import ClassVar

from breve.explain.layers.base import Explainer
from breve.explain.wrt import Wrt


class RecurrentExplainer(Explainer):
    """Through time to the first step of the batch, not further: exposed states take and give no gradient."""

    gradient_tops: ClassVar[int | None] = 1

    def why_closed(self, wrt: Wrt) -> str:
        """As for all layers, and for initial states."""
        exposed: int = self.layer.exposed  # type: ignore[attr-defined]
        if not wrt.is_param and wrt.number >= len(self.record.bottom_data) - exposed:
            return "no gradient flows into initial states: backpropagation through time ends at the batch's first step"
        return super().why_closed(wrt)
