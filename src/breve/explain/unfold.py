"""`explain`: one element of a gradient, from the user's own net and batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from breve.errors import NetError, did_you_mean
from breve.explain import chain
from breve.explain.layer_copy import LayerCopy
from breve.explain.layers import explainer
from breve.explain.layers.base import Explainer, NoGradient
from breve.explain.model import Derivation, Explanation, Index, Numeric, Terms
from breve.explain.numeric import Estimate
from breve.explain.record import Record, Recorder
from breve.explain.replica import Replica
from breve.explain.verdict import compare
from breve.explain.wrt import Wrt, parse_wrt


def explain(net: Any, layer: str, wrt: str = "data", at: Sequence[int] = (), *, seed: int = 0) -> Explanation:
    """Unfold one element of a gradient into the sum that made it, derive it again in other ways, and check it.

    `wrt` is "data" (or "data1", or a bottom's name), "weights", "bias" (or "param2"); `at` the element's index in
    Caffe's order. The net's own batch, parameters and random state are used and left as they are; its layers are run
    once more, forward and backward, with every gradient wanted. Raises NetError.

    >>> from breve import Net
    >>> from breve.proto import NetParameter
    >>> from google.protobuf import text_format
    >>> net = Net(text_format.Parse('''
    ...     layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 1, 3, 3] } } }
    ...     layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
    ...         convolution_param { num_output: 1 kernel_size: 2 weight_filler { type: "constant" value: 2 } } }
    ...     ''', NetParameter()))
    >>> net.blobs["x"].data[...], net.blobs["y"].diff[...] = 1, 1
    >>> found = explain(net, "conv", wrt="data", at=(0, 0, 1, 1))
    >>> found.value, len(found.terms), found.numeric.verdict
    (8.0, 4, 'agrees (to ...)')
    """
    return Pass(net, seed, first=layer).explain(layer, wrt, at)


class Pass:
    """One pass of a net, recorded in every layer: what explanations and pages are made of.

    The layers run one by one. With `first` only that layer and those above it are recorded, and that layer's numbers
    are those of the net's own pass, in which groups of layers may run in one sweep and round differently.
    """

    def __init__(self, net: Any, seed: int = 0, first: str = "") -> None:
        self.net = net
        self.layer_names: list[str] = list(net.layer_names)
        start = self.number(first) if first else 0
        self.replica = Replica(net, seed)
        self.objective = self.replica.objective
        recorder = Recorder(self.replica)
        self.records: dict[int, Record] = recorder.run(range(start, len(self.replica.steps)))
        if first:
            self.records[start] = recorder.run_as_net(start)
        self._explainers: dict[int, Explainer] = {}

    def number(self, layer: str) -> int:
        """A layer's number. Raises NetError."""
        if layer not in self.layer_names:
            raise NetError(f"no layer is named '{layer}'", hint=did_you_mean(layer, self.layer_names))
        return self.layer_names.index(layer)

    def explainer(self, number: int) -> Explainer:
        """The explainer of a layer's record."""
        if number not in self._explainers:
            self._explainers[number] = explainer(self.records[number])
        return self._explainers[number]

    def explain(self, layer: str, wrt: str = "data", at: Sequence[int] = ()) -> Explanation:
        """The explanation of one element."""
        number = self.number(layer)
        e = self.explainer(number)
        target = parse_wrt(wrt, e.record)
        index = self._index(e, target, at)
        remarks = [f"the objective is {self.objective}", *why_zero(e, target), *self._left_out(number, target)]
        e = NoGradient(e.record) if e.gradient and e.why_closed(target) else e
        terms = e.terms(target, index)
        value, dtype = e.diffs(target)[index], e.diffs(target).dtype.name
        estimate = e.numeric(target, index) if e.gradient else Estimate(0.0, 0.0, 0.0)
        algorithm = engine_algorithm(e, target)
        return Explanation(
            layer=layer, type=e.record.type, wrt=target.name, index=index, value=float(value), dtype=dtype,
            formula=e.formula(target), index_equations=e.index_equations(target, index), terms=terms,
            lost=e.lost(target, index), derivations=_derivations(e, target, index, terms),
            numeric=_numeric(e, target, index, float(value), terms, estimate), algorithm=algorithm,
            algorithm_error=algorithm_error(e, target, index), chain=chain.to_loss(self, number, target, index, terms),
            symbols=chain.symbols(self, number), remarks=remarks + e.remarks(target, index),
            tops=e.record.top_names, shape=e.values(target).shape,
        )  # fmt: skip

    def _index(self, e: Explainer, wrt: Wrt, at: Sequence[int]) -> Index:
        shape = e.values(wrt).shape
        if not all(data.size for data in e.record.bottom_data):
            raise NetError(f"layer '{e.layer.name}' reads an empty batch: there is no gradient to explain")
        index = tuple(int(i) for i in at)
        if len(index) != len(shape) or any(not 0 <= i < d for i, d in zip(index, shape, strict=True)):
            raise NetError(
                f"no such element of {wrt.name} of layer '{e.layer.name}'",
                expected=f"an index from {','.join('0' for _ in shape)} to {','.join(str(d - 1) for d in shape)}",
                found=",".join(map(str, index)) or "none",
            )
        return index

    def _left_out(self, number: int, wrt: Wrt) -> list[str]:
        """That the net's own backward pass leaves a gradient out which is taken here."""
        own, here = self.net.steps[number], self.replica.steps[number]
        if self.replica.seeds:  # no loss, so no training
            return []
        if wrt.is_param and any(not p.lr_mult for p in own.layer.param.param[wrt.number : wrt.number + 1]):
            return ["training leaves it out, its lr_mult is 0; it is computed here"]
        if not wrt.is_param and here.propagate_down[wrt.number] > own.propagate_down[wrt.number]:
            return ["training leaves it out, nothing below learns; it is computed here, as by force_backward: true"]
        return []


def why_zero(e: Explainer, wrt: Wrt) -> list[str]:
    """Why the gradient is zero everywhere, where it is."""
    closed = e.why_closed(wrt)
    if not closed and not any(diff.any() for diff in e.record.top_diff):
        return ["the layer's top diffs are all zero: the objective does not depend on it"]
    return [closed] if closed else []


def _derivations(e: Explainer, wrt: Wrt, index: Index, terms: Terms) -> dict[str, Derivation | None]:
    chain_rule = Derivation(
        "chain rule", terms.sum, "The sum of all terms: each output that the element moved, by how much."
    )
    return {"chain_rule": chain_rule, "rotated_kernel": None, "gemm_col2im": None, **e.derivations(wrt, index)}


def _numeric(e: Explainer, wrt: Wrt, index: Index, value: float, terms: Terms, estimate: Estimate) -> Numeric:
    if not e.gradient:
        return Numeric(0.0, 0.0, "no gradient, so no differences were taken")
    bound = e.rounding(wrt, index, terms)
    scale = max(abs(terms.sum), abs(estimate.value))
    verdict = compare(value, estimate, scale=scale, rounding=bound + e.known_error * scale, exact=terms.sum)
    return Numeric(estimate.value, estimate.step, verdict, estimate.uncertainty)


def engine_algorithm(e: Explainer, wrt: Wrt) -> str:
    """What computed this gradient: the plan's algorithm, or the layer's backward."""
    chosen = e.algorithm
    if not chosen:
        return f"{type(e.layer).__name__}.backward" if e.gradient else "none"
    return chosen["backward_weights" if wrt.is_param else "backward_data"]


def algorithm_error(e: Explainer, wrt: Wrt, index: Index) -> float:
    """The engine's largest error in this gradient against float64, relative to the largest element.

    Of a gradient wrt data the element's image is looked at, where images do not meet.
    """
    if not e.gradient:
        return 0.0
    images = slice(index[0], index[0] + 1) if e.batchwise and not wrt.is_param and index else slice(None)
    double = LayerCopy(e.record, inputs=[x[images] if x.ndim else x for x in e.record.bottom_data])
    double.forward()
    top_diff = [d[images] if d.ndim else d for d in e.record.top_diff]
    bottoms, params = double.backward(top_diff, e.record.propagate_down)
    exact = (params if wrt.is_param else bottoms)[wrt.number]
    largest = float(np.abs(exact).max(initial=0))
    found = e.diffs(wrt)
    error = float(np.abs((found[images] if found.ndim else found) - exact).max(initial=0))
    return error / largest if largest else error
