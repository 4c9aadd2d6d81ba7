"""Which layers take part: phase, level and stage rules, as Caffe's Net::FilterNet."""

from __future__ import annotations

from typing import Any

from breve.errors import NetError
from breve.graph.description import LayerSpec

TRAIN, TEST = 0, 1
PHASES = ("TRAIN", "TEST")


def meets(state: Any, rule: Any) -> bool:
    """Whether a NetState satisfies a NetStateRule: every condition that the rule sets."""
    return (
        (not rule.HasField("phase") or rule.phase == state.phase)
        and (not rule.HasField("min_level") or state.level >= rule.min_level)
        and (not rule.HasField("max_level") or state.level <= rule.max_level)
        and set(rule.stage) <= set(state.stage)
        and not set(rule.not_stage) & set(state.stage)
    )


def included(spec: LayerSpec, state: Any) -> bool:
    """Whether a layer takes part: any `include` met, or, without any, no `exclude` met. Raises NetError for both."""
    include, exclude = spec.param.include, spec.param.exclude
    if include and exclude:
        raise NetError("a layer has both include and exclude rules", where=spec.where, hint="keep one kind")
    if include:
        return any(meets(state, rule) for rule in include)
    return not any(meets(state, rule) for rule in exclude)


def filter_layers(specs: list[LayerSpec], state: Any) -> list[LayerSpec]:
    """The layers that take part in a NetState."""
    return [spec for spec in specs if included(spec, state)]
