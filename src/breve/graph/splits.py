"""A blob that several layers read is handed to them through a Split layer, which adds up their gradients.

Names are Caffe's (insert_splits.cpp), because snapshots and scripts carry them: layer `conv1_conv_0_split` of blob
`conv1` of layer `conv` gives blobs `conv1_conv_0_split_0`, `..._1`, ... A top that counts as a loss is one more reader.
"""

from __future__ import annotations

from collections import Counter

from breve.errors import NetError, did_you_mean
from breve.graph.description import LayerSpec

Source = tuple[int, int]  # (layer, top) that wrote a blob


def insert_splits(specs: list[LayerSpec]) -> list[LayerSpec]:
    """The layers with Split layers after tops that have more than one reader. Raises NetError for dangling bottoms."""
    readers: Counter[Source] = Counter()
    loss_weights: dict[Source, float] = {}
    sources = _sources(specs, readers, loss_weights)
    taken: Counter[Source] = Counter()
    result = []
    for i, spec in enumerate(specs):
        param = type(spec.param)()
        param.CopyFrom(spec.param)
        for j, source in enumerate(sources[i]):
            if readers[source] > 1:
                owner, top = specs[source[0]].param, source[1]
                param.bottom[j] = f"{split_name(owner.name, owner.top[top], top)}_{taken[source]}"
                taken[source] += 1
        result.append(LayerSpec(param, spec.file, spec.line))
        for j, name in enumerate(spec.param.top):
            count, loss_weight = readers[i, j], loss_weights.get((i, j), 0.0)
            if count < 2:
                continue
            result.append(_split(spec, name, j, count, loss_weight))
            if loss_weight:
                param.ClearField("loss_weight")
                taken[i, j] += 1
    return result


def _sources(specs: list[LayerSpec], readers: Counter[Source], loss_weights: dict[Source, float]) -> list[list[Source]]:
    """For every bottom of every layer the top it reads; counts readers, and losses as such."""
    last: dict[str, Source] = {}
    sources = []
    for i, spec in enumerate(specs):
        for name in spec.param.bottom:
            if name not in last:
                raise NetError(
                    f"unknown bottom blob '{name}'",
                    where=spec.where,
                    hint=did_you_mean(name, last) or "no layer before it has a top",
                )
            readers[last[name]] += 1
        sources.append([last[name] for name in spec.param.bottom])
        last.update({name: (i, j) for j, name in enumerate(spec.param.top)})
        for name, weight in zip(spec.param.top, spec.param.loss_weight, strict=False):
            loss_weights[last[name]] = weight
            readers[last[name]] += bool(weight)
    return sources


def split_name(layer: str, blob: str, top: int) -> str:
    """The name of the Split layer of `blob`, top number `top` of `layer`."""
    return f"{blob}_{layer}_{top}_split"


def _split(spec: LayerSpec, blob: str, top: int, count: int, loss_weight: float) -> LayerSpec:
    name = split_name(spec.param.name, blob, top)
    param = type(spec.param)(name=name, type="Split", bottom=[blob], top=[f"{name}_{k}" for k in range(count)])
    if loss_weight:
        param.loss_weight.extend([loss_weight] + [0.0] * (count - 1))
    return LayerSpec(param, spec.file, spec.line)
