"""An explanation as the terminal shows it."""

from __future__ import annotations

import io
import math
from collections import Counter

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from breve.explain.model import Explanation, Index, Lost, Matrix

WIDE = 100  # columns of a terminal on which terms are written in full
MOST_ROWS, MOST_COLUMNS = 9, 9  # of a worked matrix


def explanation(e: Explanation, width: int = 100, terms: int | None = 24, color: bool = False) -> str:
    """The whole story; at most `terms` terms of the sum (None: all)."""
    out = io.StringIO()
    write(e, Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False), terms)
    return "".join(f"{line.rstrip()}\n" for line in out.getvalue().splitlines())


def write(e: Explanation, console: Console, terms: int | None = 24) -> None:
    """The explanation on a console."""
    write_headline(e, console)
    write_terms(e, console, terms)
    write_lost(e, console)
    write_derivations(e, console)
    write_proof(e, console)
    write_chain(e, console)
    write_symbols(e, console)


def number(value: float, dtype: str = "float32") -> str:
    """A value as the shortest text that reads back as the same number of its dtype.

    >>> number(0.10000000149011612), number(-0.0), number(1e-7)
    ('0.1', '0', '1e-07')
    """
    if not value:
        return "0"
    exact = np.dtype(dtype).type(value)
    return np.format_float_positional(exact, trim="-") if 1e-4 <= abs(value) < 1e7 else str(exact)


def at(index: Index | None) -> str:
    """An index in brackets."""
    return "" if index is None else f"[{', '.join(map(str, index))}]"


def gradient_name(e: Explanation) -> str:
    """What the number is: an element of a gradient."""
    name = {"data": "dX", "weights": "dW", "bias": "db"}.get(e.wrt, f"d {e.wrt}")
    return f"{name}{at(e.index)}"


def write_headline(e: Explanation, console: Console) -> None:
    """What the number is, its formula and index equations, and what is to be said of it."""
    console.print(Text.assemble((gradient_name(e), "bold"), f" of layer '{e.layer}' ({e.type})"))
    console.print(Text(f"  {e.formula}", style="cyan"), soft_wrap=True)
    for equation in e.index_equations:
        console.print(Text(f"  {equation}", style="cyan"), soft_wrap=True)
    for remark in e.remarks:
        console.print(Text(f"  {remark}", style="dim"), soft_wrap=True)


def write_terms(e: Explanation, console: Console, most: int | None = 24) -> None:
    """The terms of the sum; at most `most` of them."""
    t = e.terms
    count, nonzero = len(t), np.flatnonzero(t.product)
    if not count:
        console.print(Text("\n0 terms: no element of the top depends on it", style="bold"))
        return
    shown = np.arange(count) if most is None or count <= most or not nonzero.size else nonzero
    shown = shown[:most]
    table = _terms_table(e, count)
    running = np.cumsum(t.product) + 0.0
    write_row = _wide_row if console.width >= WIDE else _narrow_row
    for i in shown:
        table.add_row(*write_row(e, int(i), running[i]))
    console.print(table)
    if len(shown) < count:
        rest = np.setdiff1d(np.arange(count), shown)
        console.print(f"  and {_told(t.product[rest])} (all: --terms all)")


def _told(products: np.ndarray) -> str:
    """Terms that are not shown, in words."""
    more, zeros = np.count_nonzero(products), np.count_nonzero(products == 0)
    parts = [f"{more:,} more terms, together {math.fsum(products):.9g}"] if more else []
    zero = [f"{zeros:,} that {'is' if zeros == 1 else 'are'} zero"] if zeros else []
    return ", and ".join(parts + zero)


def _wide_row(e: Explanation, i: int, running: float) -> list[str]:
    """Numbers in full."""
    t = e.terms
    top = e.tops[t.top[i]] if len(e.tops) > 1 else ""
    factors = number(float(t.top_diff[i]), e.dtype), number(float(t.factor[i]), t.factor.dtype.name)
    sums = f"{t.product[i] + 0.0:.9g}", f"{running:.9g}"
    return [top + at(t.top_index(i)), factors[0], at(t.factor_index(i)), factors[1], *sums]


def _narrow_row(e: Explanation, i: int, running: float) -> list[str]:
    """Indices without spaces, numbers in five digits."""
    t = e.terms
    top = e.tops[t.top[i]] if len(e.tops) > 1 else ""
    diff, factor, product, total = (f"{v + 0.0:.5g}" for v in (t.top_diff[i], t.factor[i], t.product[i], running))
    indices = [index.replace(" ", "") for index in (top + at(t.top_index(i)), at(t.factor_index(i)))]
    return [indices[0], diff, indices[1], factor, product, total]


def _terms_table(e: Explanation, count: int) -> Table:
    title = f"{count:,} {'term' if count == 1 else 'terms'}"
    table = Table(
        box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=title, title_justify="left", title_style="bold"
    )
    name = e.terms.factor_name
    has_place = e.terms.factor_position is not None
    for heading in ("top diff at", "top diff", f"{name} at" if has_place else "", name, "product", "running sum"):
        table.add_column(heading, justify="right")
    return table


def write_lost(e: Explanation, console: Console) -> None:
    """What padding, strides and dilation leave out."""
    for reason, count in Counter(x.reason for x in e.lost).items():
        places = [_place(x) for x in e.lost if x.reason == reason][:3]
        more = ", ..." if count > 3 else ""
        console.print(Text(f"  {count} lost to {reason}: {', '.join(places)}{more}", style="yellow"), soft_wrap=True)


def _place(lost: Lost) -> str:
    meets = f"[{', '.join(f'{x:g}' for x in lost.meets)}]"
    return f"output {meets}" if lost.tap is None else f"tap {at(lost.tap)} at {meets}"


def write_derivations(e: Explanation, console: Console) -> None:
    """The other ways to the number, with their matrices."""
    found = [d for d in e.derivations.values() if d is not None]
    if len(found) < 2:
        return
    console.print(Text("\nThe same number, derived again", style="bold"))
    for d in found:
        console.print(Text.assemble("  ", (f"{d.value:.17g}", "green"), f"  {d.title}"), soft_wrap=True)
        console.print(Padding(Text(d.text, style="dim"), (0, 0, 0, 5)))
        for m in d.matrices:
            title, table = _matrix(m, console.width - 5)
            console.print(Padding(Text(title), (0, 0, 0, 5)))
            console.print(Padding(table, (0, 0, 0, 5)))


def _matrix(m: Matrix, width: int) -> tuple[str, Table]:
    """A title, and as much of a matrix as fits a width."""
    marked = set(m.marked)
    rows, columns = _cells_shown(m, width)
    whole = (len(rows), len(columns)) == m.values.shape
    cut = "" if whole else f" ({len(rows)} x {len(columns)} of {' x '.join(map(str, m.values.shape))} cells)"
    table = Table(box=None, padding=(0, 1))
    table.add_column("", style="dim", no_wrap=True)
    for c in columns:
        table.add_column(m.columns[c], justify="right", header_style="dim", no_wrap=True)
    for r in rows:
        table.add_row(m.rows[r], *[_cell(f"{m.values[r, c] + 0.0:.3g}", (r, c) in marked) for c in columns])
    return m.title + cut, table


def _cell(text: str, marked: bool) -> Text:
    return Text(f"[{text}]", style="bold green") if marked else Text(text)


def _cells_shown(m: Matrix, width: int) -> tuple[list[int], list[int]]:
    """Rows and columns that fit: all, or those of the first marked cells, where there are any."""
    widest = max([len(f"[{v:.3g}]") for v in m.values.flat] + [len(name) for name in m.columns], default=1)
    most = max(1, min(MOST_COLUMNS, (width - max(map(len, m.rows), default=0) - 4) // (widest + 2)))
    rows = _first(m.values.shape[0], MOST_ROWS, [r for r, _ in m.marked])
    columns = _first(m.values.shape[1], most, [c for r, c in m.marked if r in rows])
    return rows, columns


def _first(count: int, most: int, marked: list[int]) -> list[int]:
    """All of so many places if they fit, else the first that are marked, else the first."""
    if count <= most or not marked:
        return list(range(min(count, most)))
    return sorted(sorted(set(marked))[:most])


def write_proof(e: Explanation, console: Console) -> None:
    """The engine's value beside the sum and the numeric derivative."""
    if not e.numeric.step:
        return
    lines = [
        ("the engine's value", number(e.value, e.dtype), f"{e.dtype}, by {e.algorithm}"),
        ("sum of the terms", f"{e.sum:.17g}", f"the engine is {e.ulp:+.2f} units in the last place away"),
        ("central difference", f"{e.numeric.value:.12g}", f"float64, step {e.numeric.step:.1g}: {e.numeric.verdict}"),
        ("algorithm's error", f"{e.algorithm_error:.2g}", "of the largest element, against float64, in all of it"),
    ]  # fmt: skip
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0))
    for fixed in (True, True, False):
        table.add_column(no_wrap=fixed)
    for name, value, note in lines:
        style = "bold red" if note.find(": wrong") >= 0 else ""
        table.add_row(name, Text(value, style="bold"), Text(note, style=style))
    console.print(Padding(table, (1, 0, 0, 2)))


def write_chain(e: Explanation, console: Console) -> None:
    """The way to the loss."""
    if not e.chain:
        return
    console.print(Text("\nThe way to the loss, along the largest term of each sum", style="bold"))
    elements = [f"{link.blob}{at(link.index)}" for link in e.chain]
    width = min(48, max(map(len, elements)))
    for link, element in zip(e.chain, elements, strict=True):
        few = {0: "no terms", 1: "1 term"}
        terms = few.get(link.terms, f"{link.terms:,} terms, the largest {share(link.share)}")
        step = f"read by {link.layer} ({link.type}), {terms}" if link.layer else "the objective"
        console.print(f"  {element:<{width}}  diff {link.diff:< 14.7g} {step}", soft_wrap=True)
    convention = "The diff of a blob is the derivative of the loss wrt that blob: it belongs between two layers."
    console.print(Padding(Text(convention, style="dim"), (0, 0, 0, 2)))


def share(part: float) -> str:
    """A part of a whole in per cent.

    >>> share(0.25), share(0.004)
    ('25%', 'under 1%')
    """
    return "under 1%" if part < 0.01 else f"{part:.0%}"


def write_symbols(e: Explanation, console: Console) -> None:
    """What texts call it."""
    if not e.symbols:
        return
    console.print(Text("\nWhat texts call it", style="bold"))
    table = Table(box=None, show_header=False, padding=(0, 1))
    for _ in range(4):
        table.add_column(overflow="fold")
    for symbol in e.symbols:
        table.add_row("", symbol.symbol, symbol.meaning, Text(symbol.here, style="cyan"))
    console.print(table)
