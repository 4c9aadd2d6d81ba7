"""Write the figures and tables of docs/backpropagation.md and its translation, by explaining examples/backpropagation.

A table stands between `<!-- explain: WHAT -->` and `<!-- end -->`; figures are files in docs/figures. With `--check`
nothing is written, and the exit code is 1 when anything would change.
"""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console

from breve.explain import render_text
from breve.explain.batch import read_inputs
from breve.explain.model import Explanation
from breve.explain.unfold import Pass
from breve.net import Net

ROOT = Path(__file__).resolve().parents[1]
EXAMPLE = ROOT / "examples" / "backpropagation"
PAGES = [ROOT / "docs" / "backpropagation.md", ROOT / "docs" / "backpropagation.zh.md"]
FIGURES = ROOT / "docs" / "figures"
MARKED = re.compile(r"<!-- explain: ([^>]+?) -->\n.*?<!-- end -->", re.DOTALL)
COMMAND = "$ breve explain --model examples/backpropagation/net.prototxt --input examples/backpropagation/batch.npz"
PIXEL, CELL = (0, 0, 3, 2), 30


def explained() -> Pass:
    """The example's pass. Convolutions by im2col, so that the numbers are the same on every machine."""
    net = Net(EXAMPLE / "net.prototxt", "TRAIN")
    read_inputs(net, str(EXAMPLE / "batch.npz"))
    net.forward()
    return Pass(net)


def table(run: Pass, what: str) -> str:
    """The text between two marks: `LAYER WRT AT: SECTION SECTION ...`, or `blob NAME ...` for whole arrays."""
    if what.startswith("blobs "):
        return "```text\n" + arrays(run, what.split()[1:]) + "\n```"
    place, sections = what.split(": ")
    layer, wrt, at = place.split()
    found = run.explain(layer, wrt, tuple(int(i) for i in at.split(",")))
    out = io.StringIO()
    console = Console(file=out, width=100, highlight=False, no_color=True)
    for section in sections.split():
        getattr(render_text, f"write_{section}")(found, console)
    text = "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")
    return f"```text\n{COMMAND} \\\n      --layer {layer} --wrt {wrt} --at {at}\n{text}\n```"


def arrays(run: Pass, names: list[str]) -> str:
    """Planes side by side, each under its name: `z.diff` is the diff that the layer reading z hands back."""
    blocks = []
    for name in names:
        rows = [" ".join(f"{v + 0.0:4g}" for v in row) for row in plane(run, name)]
        blocks.append([name, *rows])
    height = max(map(len, blocks))
    widths = [max(map(len, block)) for block in blocks]
    lines = []
    for r in range(height):
        cells = [(block[r] if r < len(block) else "").ljust(width) for block, width in zip(blocks, widths, strict=True)]
        lines.append("    ".join(cells).rstrip())
    return "\n".join(lines)


def plane(run: Pass, name: str) -> np.ndarray:
    """The matrix of `blob.data` or `blob.diff`, or of `layer.W` and `layer.dW`."""
    owner, what = name.split(".")
    if what in ("W", "dW"):
        record = run.records[run.number(owner)]
        return np.atleast_2d(np.squeeze((record.param_data if what == "W" else record.param_diff)[0]))
    record = next(r for r in run.records.values() if owner in r.bottom_names)
    array = getattr(record, f"bottom_{what}")[record.bottom_names.index(owner)]
    return np.atleast_2d(np.squeeze(array))


class Drawing:
    """An SVG of grids of numbers. Colours follow the reader's light or dark theme."""

    STYLE = """\
text { font: 13px ui-monospace, Menlo, Consolas, monospace; fill: #1c1e21; text-anchor: middle }
.title { font: 14px system-ui, sans-serif; text-anchor: start } .small { font-size: 11px; fill: #62676e }
rect { fill: #fff; stroke: #b9bec4 } .lit { fill: #d8f0e7; stroke: #0a8f6c; stroke-width: 2 }
.chosen { fill: #fbe3d6; stroke: #c2410c; stroke-width: 2.5 }
@media (prefers-color-scheme: dark) {
text { fill: #e8eaed } .small { fill: #9aa1a9 } rect { fill: #1d2024; stroke: #454b53 }
.lit { fill: #1d3a31; stroke: #3ddbac } .chosen { fill: #45281b; stroke: #f07b3f } }"""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.width, self.height = 0, 0

    def grid(
        self, x: int, y: int, title: str, values: np.ndarray, style: Callable[[int, int], str] = lambda r, c: ""
    ) -> None:
        """A matrix at a place; `style` gives each cell's class."""
        self.text(x, y, title, "title")
        cells = sorted(np.ndenumerate(values), key=lambda cell: style(*cell[0]) != "")  # plain ones below lit ones
        for (r, c), value in cells:
            left, top = x + c * CELL, y + 10 + r * CELL
            self.parts.append(f'<rect class="{style(r, c)}" x="{left}" y="{top}" width="{CELL}" height="{CELL}"/>')
            self.text(left + CELL // 2, top + CELL // 2 + 5, f"{value + 0.0:g}")
        self._reach(x + values.shape[1] * CELL, y + 10 + values.shape[0] * CELL)

    def text(self, x: int, y: int, text: str, style: str = "") -> None:
        """A line of text."""
        escaped = text.replace("&", "&amp;").replace("<", "&lt;")
        self.parts.append(f'<text class="{style}" x="{x}" y="{y}">{escaped}</text>')
        self._reach(x + (8 * len(text) if style else 0), y)

    def _reach(self, x: int, y: int) -> None:
        self.width, self.height = max(self.width, x), max(self.height, y)

    def svg(self) -> str:
        """The file's text."""
        width, height = self.width + 12, self.height + 12
        size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        body = "\n".join(self.parts)
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size}>\n<style>{self.STYLE}</style>\n{body}\n</svg>\n'


def figures(run: Pass) -> dict[str, str]:
    """Every figure by its file name."""
    e = run.explain("conv", "data", PIXEL)
    return {
        "backprop-terms.svg": terms_figure(run, e),
        "backprop-rotated.svg": rotated_figure(e),
        "backprop-columns.svg": columns_figure(e),
        "backprop-pooling.svg": pooling_figure(run),
    }


def terms_figure(run: Pass, e: Explanation) -> str:
    """Which outputs a pixel moved, and through which taps."""
    places = {e.terms.top_index(t)[2:] for t in range(len(e.terms))}
    taps = {(e.terms.factor_index(t) or ())[2:] for t in range(len(e.terms)) if e.terms.product[t]}
    drawing = Drawing()
    drawing.grid(12, 24, "x", plane(run, "x.data"), lambda r, c: "chosen" if (r, c) == PIXEL[2:] else "")
    drawing.grid(230, 24, "W", plane(run, "conv.W"), lambda r, c: "lit" if (r, c) in taps else "")
    drawing.grid(360, 24, "dz", plane(run, "z.diff"), lambda r, c: "lit" if (r, c) in places else "")
    drawing.grid(520, 24, "dx", plane(run, "x.diff"), lambda r, c: "chosen" if (r, c) == PIXEL[2:] else "")
    products = [f"{e.terms.top_diff[t]:g}·{e.terms.factor[t]:g}" for t in range(len(e.terms)) if e.terms.product[t]]
    drawing.text(230, 200, f"dx[3,2] = {' + '.join(products)} = {e.sum:g}", "title")
    return drawing.svg()


def rotated_figure(e: Explanation) -> str:
    """The patch of dz, the kernel rotated, and their products."""
    d = e.derivations["rotated_kernel"]
    assert d is not None
    patch, kernel = (m.values for m in d.matrices)
    drawing = Drawing()
    drawing.grid(12, 24, "W", kernel[::-1, ::-1])
    drawing.text(122, 78, "⟲180°", "title")
    drawing.grid(180, 24, "W rotated", kernel, lambda r, c: "lit" if patch[r, c] else "")
    drawing.text(285, 78, "·", "title")
    drawing.grid(310, 24, "dz under it", patch, lambda r, c: "lit" if patch[r, c] else "")
    drawing.text(415, 78, "=", "title")
    drawing.grid(440, 24, "products", patch * kernel, lambda r, c: "lit" if patch[r, c] else "")
    drawing.text(545, 78, f"sum {d.value:g}", "title")
    return drawing.svg()


def columns_figure(e: Explanation) -> str:
    """The column matrix with the entries that collide in the pixel."""
    d = e.derivations["gemm_col2im"]
    assert d is not None
    matrix = d.matrices[0]
    marked = set(matrix.marked)
    drawing = Drawing()
    left, top = 70, 34
    drawing.grid(left, top, matrix.title, matrix.values, lambda r, c: "lit" if (r, c) in marked else "")
    for r, name in enumerate(matrix.rows):
        drawing.text(left - 32, top + 30 + r * CELL, name.replace("tap ", "r,s="), "small")
    for c, name in enumerate(matrix.columns):
        drawing.text(left + 15 + c * CELL, top + 24 + len(matrix.rows) * CELL, name.replace("out ", ""), "small")
    total = " + ".join(f"{matrix.values[r, c]:g}" for r, c in matrix.marked if matrix.values[r, c])
    drawing.text(left + CELL * matrix.values.shape[1] + 24, top + 140, f"col2im: {total} = {d.value:g}", "title")
    return drawing.svg()


def pooling_figure(run: Pass) -> str:
    """An error term on its way down: after the pooling, before it, before the activation."""
    z, a, dp, da, dz = (plane(run, name) for name in ("z.data", "a.data", "p.diff", "a.diff", "z.diff"))
    drawing = Drawing()
    drawing.grid(12, 24, "z = conv(x)", z)
    drawing.grid(172, 24, "a = relu(z)", a, lambda r, c: "lit" if da[r, c] else "")
    drawing.grid(332, 24, "p = pool(a)", plane(run, "p.data"))
    drawing.grid(332, 194, "dp", dp, lambda r, c: "chosen")
    drawing.grid(172, 194, "da", da, lambda r, c: "lit" if da[r, c] else "")
    drawing.grid(12, 194, "dz", dz, lambda r, c: "lit" if dz[r, c] else "")
    return drawing.svg()


def outputs() -> dict[Path, str]:
    """Every file with the text that it should have."""
    run = explained()
    made = {FIGURES / name: text for name, text in figures(run).items()}
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        made[page] = MARKED.sub(lambda m: f"<!-- explain: {m[1]} -->\n{table(run, m[1])}\n<!-- end -->", text)
    return made


def main() -> int:
    """Write, or with `--check` compare."""
    stale = [p for p, text in outputs().items() if not p.exists() or p.read_text(encoding="utf-8") != text]
    if "--check" in sys.argv:
        for path in stale:
            print(f"{path.relative_to(ROOT)} is not what scripts/make_backpropagation_docs.py makes")
        return bool(stale)
    FIGURES.mkdir(exist_ok=True)
    for path, text in outputs().items():
        path.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
