"""What the page holds: the net's picture, each layer's arrays, and what its script needs to list a cell's terms."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from breve.explain import chain
from breve.explain.layer_copy import LayerCopy
from breve.explain.layers.base import Explainer
from breve.explain.layers.convolution import ConvolutionExplainer
from breve.explain.layers.dense import InnerProductExplainer
from breve.explain.model import Explanation
from breve.explain.page.arrays import ArrayStore
from breve.explain.page.blocks import Blocks
from breve.explain.page.rows import Limits, listed
from breve.explain.record import Record
from breve.explain.unfold import Pass, engine_algorithm
from breve.explain.wrt import Wrt

MOST_MULTIPLICATIONS = 20_000_000_000  # to add up the images that the page does not hold, of the chosen layer
MOST_OF_OTHERS = 1_000_000_000  # of any other layer


def content(run: Pass, found: Explanation, cells: int) -> dict[str, Any]:
    """The page's data for a pass, opened at an explained element."""
    return Content(run, found, cells).build()


class Content:
    """Builds the page's data, layer by layer."""

    def __init__(self, run: Pass, found: Explanation, cells: int) -> None:
        self.run, self.found, self.store = run, found, ArrayStore()
        self.blocks = Blocks(run, found, cells)
        self._blob_numbers: dict[int, int] = {}
        explainers = [run.explainer(number) for number in run.records]
        listing = [w for e in explainers if not computes_itself(e) for w in e.targets()]
        self._limits = Limits.shared_by(len(listing))
        self._rests: dict[int, list[np.ndarray] | None] = {}

    def build(self) -> dict[str, Any]:
        """All of it."""
        layers = [self._layer(number) for number in range(len(self.run.records))]
        net, images = self.run.net, self.blocks.images
        wanted = ("layer", "wrt", "index", "value", "sum", "ulp", "derivations", "numeric", "algorithm", "remarks")
        told = self.found.to_json()
        return {
            "net": {
                "name": net.name, "phase": net.phase, "objective": self.run.objective, "batch": self.blocks.batch,
                "images": [images.start, images.stop],
            },
            "start": {name: told[name] for name in wanted} | {"layer_number": self.blocks.chosen},
            "layers": layers,
            "arrays": self.store.entries,
        }  # fmt: skip

    def _layer(self, number: int) -> dict[str, Any]:
        record, e = self.run.records[number], self.run.explainer(number)
        return {
            "name": record.layer.name,
            "type": record.type,
            "bottoms": [self._blob(number, record, "bottom", i) for i in range(len(record.bottom_data))],
            "tops": [self._blob(number, record, "top", i) for i in range(len(record.top_data))],
            "params": [self._param(number, e, i) for i in range(len(record.param_data))],
            "targets": {w.name: self._target(number, e, w) for w in e.targets()},
            "no_gradient": "" if e.gradient else e.formula(Wrt(False, 0)),
            "geometry": geometry(e),
            "symbols": [vars(s) for s in chain.symbols(self.run, number)],
        }

    def _blob(self, number: int, record: Record, side: str, i: int) -> dict[str, Any]:
        data, diff = (getattr(record, f"{side}_{what}")[i] for what in ("data", "diff"))
        flows = side == "top" or record.propagate_down[i]
        blob = getattr(self.run.replica.steps[number], side)[i]
        return {
            "name": getattr(record, f"{side}_names")[i],
            "blob": self._blob_numbers.setdefault(id(blob), len(self._blob_numbers)),
            "shape": list(data.shape),
            "data": self.store.add(data, self.blocks.of_features(number, data)),
            "diff": self.store.add(diff, self.blocks.of_features(number, diff)) if flows else None,
        }

    def _param(self, number: int, e: Explainer, i: int) -> dict[str, Any]:
        data, diff, wrt = e.record.param_data[i], e.record.param_diff[i], Wrt(True, i)
        blocks, rest = self.blocks.of_parameter(number, data, wrt), self._rest(number, e, i)
        return {
            "name": wrt.name,
            "shape": list(data.shape),
            "data": self.store.add(data, self.blocks.of_weights(number, data, wrt)),
            "diff": self.store.add(diff, blocks) if not e.why_closed(wrt) else None,
            "rest": None if rest is None else self.store.add(rest, blocks),
        }

    def _rest(self, number: int, e: Explainer, i: int) -> np.ndarray | None:
        """What the images that the page does not hold add to a parameter's gradient, in float64."""
        if not computes_itself(e) or not self.blocks.others:
            return None
        if any(not self.blocks.is_batch(x.shape) for x in e.record.bottom_data):
            return None
        if number not in self._rests:
            most = MOST_MULTIPLICATIONS if number == self.blocks.chosen else MOST_OF_OTHERS
            self._rests[number] = self._diffs_of_others(e, most)
        found = self._rests[number]
        return None if found is None else found[i]

    def _diffs_of_others(self, e: Explainer, most: int) -> list[np.ndarray] | None:
        images, record = self.blocks.others, e.record
        weights = record.param_data[0].size
        if weights * math.prod(record.top_data[0].shape[2:]) * len(images) + 20 * weights > most:
            return None
        copy = LayerCopy(record, inputs=[x[images] for x in record.bottom_data])
        copy.forward()
        return copy.backward([d[images] for d in record.top_diff], [False] * len(record.bottom_data))[1]

    def _target(self, number: int, e: Explainer, wrt: Wrt) -> dict[str, Any]:
        is_start = (number, wrt.name) == (self.blocks.chosen, self.found.wrt)
        rows = None
        if not computes_itself(e):
            limits = Limits() if number == self.blocks.chosen else self._limits
            positions = self.blocks.of_rows(number, e, wrt, limits.cells)
            rows = listed(e, wrt, positions, limits, self.blocks.images, self.blocks.batch)
        return {
            "formula": e.formula(wrt),
            "algorithm": engine_algorithm(e, wrt),
            "error": self.found.algorithm_error if is_start else None,
            "rows": rows,
        }


def computes_itself(e: Explainer) -> bool:
    """Whether the page's script makes the layer's sums from its geometry."""
    return isinstance(e, (ConvolutionExplainer, InnerProductExplainer))


def geometry(e: Explainer) -> dict[str, Any] | None:
    """What the page's script needs to pair the indices of a layer itself."""
    if isinstance(e, InnerProductExplainer):
        sizes = {"rows": e.rows, "inputs": e.inputs, "outputs": e.outputs}
        return {"kind": "dense", **sizes, "transpose": bool(e.transpose)}
    if not isinstance(e, ConvolutionExplainer):
        return None
    w = e.window
    window = {name: list(getattr(w, name)) for name in ("kernel", "stride", "pad", "dilation")}
    return {
        "kind": "convolution",
        "bottom_is_image": e.bottom_is_image,
        "axis": e.layer.axis,  # type: ignore[attr-defined]
        "group": e.group,
        "channels": e.channels,
        "num_output": e.num_output,
        **window,
        "image": [a.size for a in e.axes],
        "out": [a.out for a in e.axes],
    }
