"""`check`: every gradient of a net, in words."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from breve.explain.batch import fill_empty_inputs
from breve.explain.engine_check import EngineCheck
from breve.explain.findings import Finding, Report
from breve.explain.gradient_check import LayerCheck
from breve.explain.layer_copy import ShapesVaryError
from breve.explain.net_check import net_findings
from breve.explain.unfold import Pass


def check(net: Any, layer: str | None = None, *, quick: bool = False, seed: int = 0) -> Report:
    """Check the gradients of every layer (or of one), wrt each input and parameter, and those of the whole net.

    In float64 against differences along random directions and at single elements, over a sweep of step sizes; then the
    engine's own dtype and algorithms against float64. Kinks and ties are recognised and named. The net is left as it
    was; a net whose inputs are all zero is checked on random ones. `quick` looks at fewer directions, elements and
    images. Raises NetError for an unknown layer.
    """
    report = Report()
    filled = fill_empty_inputs(net, seed)
    try:
        run = Pass(net, seed)
        report.remarks = [f"'{name}' held zeros: it was given random values" for _, name in filled]
        report.remarks.append(f"the objective is {run.objective}")
        for number in [run.number(layer)] if layer else range(len(run.records)):
            report.findings += layer_findings(run, number, quick=quick, seed=seed)
        if not report.findings:
            report.remarks.append("nothing was checked: no gradient flows here, or the batch is empty")
        elif layer is None:
            report.findings += net_findings(run, quick=quick, seed=seed)
    finally:
        for blob, _ in filled:
            blob.data[...] = 0
    return report


def layer_findings(run: Pass, number: int, *, quick: bool, seed: int) -> Iterator[Finding]:
    """Those of one layer; none for a layer that no gradient flows through."""
    e = run.explainer(number)
    if not e.gradient or not all(x.size for x in e.record.bottom_data):
        return
    layer_check = LayerCheck(e, quick=quick, seed=seed)
    if not layer_check.e.targets():
        return
    try:
        yield from layer_check.findings()
        yield from EngineCheck(layer_check, e).findings()
    except ShapesVaryError:
        verdict = "cannot tell: the tops' shapes change with small changes of the input"
        yield Finding(e.record.layer.name, e.record.type, "data", "gradient", verdict)
