"""Layers that no gradient flows through, and why."""

from __future__ import annotations

from breve.explain.layers.base import NoGradient


class Source(NoGradient):
    """Layers that bring values from outside."""

    reason = "it has no bottom: its tops are what gradients are taken with respect to"


class Count(NoGradient):
    """Layers that count or choose."""

    reason = "its output counts or names what is largest; it does not change with small changes of its input"


class Step(NoGradient):
    """Layers whose output jumps."""

    reason = "its output is a step: flat wherever it has a slope"


class Sink(NoGradient):
    """Layers whose output goes elsewhere."""

    reason = "no loss depends on it"


class Geometry(NoGradient):
    """Layers whose output depends on shapes alone, or is chosen from its input."""

    reason = "its output is computed from shapes, or chosen from its input by a rule without a slope"
