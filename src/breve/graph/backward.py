"""Who needs backward: layers between a parameter that learns (or a forced input) and a loss, as Caffe's Net::Init."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Needs:
    """What one layer wants of backward; `bottoms` and `tops` are blob numbers."""

    bottoms: list[int]
    tops: list[int]
    loss_weights: list[float]
    learns: bool
    backward: bool = False
    propagate_down: list[bool] = field(default_factory=list)


def from_parameters(layer: Needs, blob_needs: set[int], forced: list[bool]) -> None:
    """Forward sweep, one layer: it needs backward when it learns or a bottom carries gradient; then so do its tops.

    `forced` is the layer's own `propagate_down` in the prototxt, or empty.
    """
    layer.propagate_down = forced or [b in blob_needs for b in layer.bottoms]
    layer.backward = layer.learns or any(b in blob_needs for b in layer.bottoms)
    if layer.backward:
        blob_needs.update(layer.tops)


def from_losses(layers: list[Needs]) -> None:
    """Backward sweep: nothing flows into a layer that no loss depends on, nor through bottoms nobody wants."""
    under_loss: set[int] = set()
    skipped: set[int] = set()
    for layer in reversed(layers):
        contributes = any(w or t in under_loss for t, w in zip(layer.tops, layer.loss_weights, strict=True))
        unwanted = all(t in skipped for t in layer.tops)
        if (unwanted and layer.backward) or not contributes:
            layer.backward = False
            layer.propagate_down = [False] * len(layer.bottoms)
        for blob, wanted in zip(layer.bottoms, layer.propagate_down, strict=True):
            if contributes:
                under_loss.add(blob)
            if not wanted:
                skipped.add(blob)


def force(layers: list[Needs], allowed: list[list[bool]]) -> None:
    """`force_backward`: every layer, and every bottom that its layer allows (not labels)."""
    for layer, allows in zip(layers, allowed, strict=True):
        layer.backward = True
        layer.propagate_down = [p or a for p, a in zip(layer.propagate_down, allows, strict=True)]
