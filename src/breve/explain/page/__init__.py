"""The page: one self-contained HTML file in which a net's gradients can be explored, without server or network."""

from __future__ import annotations

import html
import json
import os
import re
from collections.abc import Sequence
from importlib import resources
from typing import Any

import numpy as np

from breve.explain.page.content import content
from breve.explain.unfold import Pass
from breve.proto.files import whole_file

__all__ = ["write_demo_page", "write_page"]

SCRIPTS = (
    "numbers.js", "arrays.js", "windows.js", "terms.js", "derivations.js", "chain.js", "dom.js", "heatmap.js",
    "picture.js", "sum_view.js", "derivation_view.js", "side_view.js", "panels.js", "main.js",
)  # fmt: skip
"""The page's scripts in the order in which they are put into it; each relies on those before."""


def write_page(
    run: Pass,
    path: str | os.PathLike[str],
    *,
    layer: str,
    wrt: str = "data",
    at: Sequence[int] = (),
    cells: int = 1 << 19,
) -> None:
    """Write the page of a pass, opened at one element. `cells` is about how many numbers it may hold.

    The file appears whole or not at all. Raises NetError, and FileFormatError where it cannot be written.
    """
    found = run.explain(layer, wrt, at)
    document = render(content(run, found, cells))
    with whole_file(path) as temporary:
        temporary.write_text(document, encoding="utf-8")


def write_demo_page(net: Any, path: str | os.PathLike[str], layer: str | None = None) -> None:
    """Write the page of a net and the batch that it holds, opened at the strongest element that flows into a layer.

    Without `layer` it is the second convolution, or the first layer with weights.
    """
    run = Pass(net)
    weighted = [r for r in run.records.values() if r.param_data and r.bottom_data]
    convolutions = [r for r in weighted if r.type == "Convolution"]
    chosen = layer or (convolutions[1] if len(convolutions) > 1 else weighted[0]).layer.name
    diff = np.abs(run.records[run.number(chosen)].bottom_diff[0][:1])
    at = tuple(int(i) for i in np.unravel_index(int(diff.argmax()), diff.shape))
    write_page(run, path, layer=chosen, wrt="data", at=at)


def render(data: dict[str, Any]) -> str:
    """The template with styles, scripts and data in it. Nothing in the data can end its script element."""
    folder = resources.files(__name__)
    text = {name: (folder / name).read_text(encoding="utf-8") for name in ("page.html", "page.css", *SCRIPTS)}
    script = "\n".join(text[name] for name in SCRIPTS)
    payload = json.dumps(data, ensure_ascii=False, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")
    parts = {
        "title": html.escape(f"{data['net']['name'] or 'net'}: backpropagation, number by number"),
        "css": text["page.css"],
        "script": script,
        "data": payload,
    }
    return re.sub(r"/\*\{(\w+)\}\*/", lambda slot: parts[slot[1]], text["page.html"])
