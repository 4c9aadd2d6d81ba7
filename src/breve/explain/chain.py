"""The way from one element to the loss, and what the symbols of the common texts are called on it.

One convention throughout: the `diff` of a blob is the derivative of the loss with respect to that blob. It belongs to
the blob between two layers, never to a layer. A layer that works in place has the same blob on both sides: its diff is
then first that of the top, and after the layer's backward that of the bottom.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from breve.explain.model import Index, Link, Symbol, Terms
from breve.explain.wrt import Wrt

if TYPE_CHECKING:
    from breve.explain.unfold import Pass

ACTIVATIONS = {
    "AbsVal", "BNLL", "Clip", "CReLU", "ELU", "HardSigmoid", "HardSwish", "Mish", "PReLU", "ReLU", "ReLU6", "Sigmoid",
    "Swish", "TanH",
}  # fmt: skip


def to_loss(run: Pass, number: int, wrt: Wrt, index: Index, terms: Terms) -> list[Link]:
    """The stations from the element to the loss along the largest term of each sum."""
    links: list[Link] = []
    if not wrt.is_param:
        links.append(_link(run, number, wrt, index, terms))
    while len(terms):
        top, position = _leading(terms)
        found = reader(run, number, top)
        if found is None:
            return [*links, _end(run, number, top, position)]
        number, bottom = found
        e, wrt, index = run.explainer(number), Wrt(False, bottom), position
        terms = e.terms(wrt, index)
        links.append(_link(run, number, wrt, index, terms))
    return links


def reader(run: Pass, number: int, top: int) -> tuple[int, int] | None:
    """The layer, and its bottom, that reads a layer's top next; None at the end of the net."""
    blob = run.replica.steps[number].top[top]
    for later in range(number + 1, len(run.replica.steps)):
        for i, bottom in enumerate(run.replica.steps[later].bottom):
            if bottom is blob:
                return later, i
    return None


def _leading(terms: Terms) -> tuple[int, Index]:
    t = int(np.abs(terms.product).argmax())
    return int(terms.top[t]), terms.top_index(t)


def _link(run: Pass, number: int, wrt: Wrt, index: Index, terms: Terms) -> Link:
    record, products = run.records[number], np.abs(terms.product)
    total = float(products.sum())
    diff = record.bottom_diff[wrt.number]
    return Link(
        record.bottom_names[wrt.number], index, float(record.bottom_data[wrt.number][index]), float(diff[index]),
        record.layer.name, record.type, len(terms), float(products.max()) / total if total else 0.0,
        float(np.linalg.norm(diff)), diff.shape,
    )  # fmt: skip


def _end(run: Pass, number: int, top: int, index: Index) -> Link:
    record = run.records[number]
    diff = record.top_diff[top]
    return Link(
        record.top_names[top], index, float(record.top_data[top][index]), float(diff[index]), "", "loss", 0, 1.0,
        float(np.linalg.norm(diff)), diff.shape,
    )  # fmt: skip


def symbols(run: Pass, number: int) -> list[Symbol]:
    """What the symbols of textbooks mean at this layer, as blobs of this net."""
    record = run.records[number]
    if not (record.bottom_names and record.top_names and record.param_data):
        return []
    bottom, top, name = record.bottom_names[0], record.top_names[0], record.layer.name
    after = _followers(run, number)
    activation = next((r for r in after if r.type in ACTIVATIONS), None)
    pooling = next((r for r in after if r.type == "Pooling"), None)
    rows = [
        ("a^(l-1), x", "what layer l reads", f"blobs['{bottom}'].data"),
        ("W^l, b^l", "its weights and biases", f"params['{name}'][0].data, [1].data"),
        ("z^l", "its weighted input, before any activation", _written(top, after, "data")),
        ("δ^l = ∂L/∂z^l", "the error term 'of layer l' in most texts", _written(top, after, "diff")),
        ("a^l = σ(z^l)", "its activation", _activated(top, activation, "data")),
        ("∂L/∂a^l", "the error term in texts that take it after the activation", _activated(top, activation, "diff")),
        ("∂L/∂a^(l-1)", "what layer l hands back", f"blobs['{bottom}'].diff"),
    ]
    return [Symbol(*row) for row in rows + _pooling_symbols(pooling)]


def _written(top: str, after: list[Any], what: str) -> str:
    """The blob that a layer writes, and until when: the next layer may work on it in place."""
    by = next((r.layer.name for r in after if top == r.bottom_names[0] == r.top_names[0]), "")
    if not by:
        return f"blobs['{top}'].{what}"
    when = f"before '{by}' overwrites it" if what == "data" else f"once '{by}' has run backward over it"
    return f"blobs['{top}'].{what}, {when}"


def _activated(top: str, activation: Any, what: str) -> str:
    """The blob behind the activation, and from when on."""
    if activation is None:
        return f"blobs['{top}'].{what}: no activation follows, a^l = z^l"
    blob, by = activation.top_names[0], activation.layer.name
    if activation.bottom_names[0] != blob:
        return f"blobs['{blob}'].{what}"
    return f"blobs['{blob}'].{what}, " + (f"after '{by}'" if what == "data" else f"before '{by}' has run backward")


def _pooling_symbols(pooling: Any) -> list[tuple[str, str, str]]:
    if pooling is None:
        return []
    above, below = pooling.top_names[0], pooling.bottom_names[0]
    merged = "texts where one layer is convolution and pooling: after the pooling"
    return [
        ("a^l, δ^l (merged)", merged, f"blobs['{above}'].data, .diff"),
        ("upsample(δ)", "that error term taken back through the pooling", f"blobs['{below}'].diff"),
    ]


def _followers(run: Pass, number: int, most: int = 5) -> list[Any]:
    """The records of the next layers along first tops, up to the next one with weights of its own."""
    found: list[Any] = []
    while len(found) < most:
        following = reader(run, number, 0)
        if following is None:
            break
        number = following[0]
        record = run.records[number]
        if record.param_data and record.type in ("Convolution", "Deconvolution", "InnerProduct"):
            break
        found.append(record)
    return found
