"""`breve explain`."""

from __future__ import annotations

from pathlib import Path

import click

from breve.cli.command import Command
from breve.cli.gradients import net_options, prepared_net, print_wide, write_json


@click.command(cls=Command)
@net_options
@click.option("--layer", required=True, metavar="NAME", help="The layer whose gradient is unfolded.")
@click.option(
    "--wrt", default="data", show_default=True, metavar="WHAT",
    help="data (data1 for a second bottom), weights, bias, or a bottom's name.",
)  # fmt: skip
@click.option("--at", "index", required=True, metavar="N,C,H,W", help="The element's index, in Caffe's order of axes.")
@click.option("--html", type=click.Path(dir_okay=False), metavar="OUT", help="Write the page to explore the net with.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), metavar="OUT", help="Write it for programs.")
@click.option("--terms", default="24", show_default=True, metavar="N|all", help="How many terms to print.")
def explain(
    model: str, weights: str | None, input_file: str | None, scale: float, seed: int, phase: str,
    layer: str, wrt: str, index: str, html: str | None, json_file: str | None, terms: str,
) -> None:  # fmt: skip
    """Unfold one element of a gradient into the sum that made it.

    Every term of the sum; for convolutions three derivations that meet in the same number; what padding, strides and
    ties left out; the way to the loss; the engine's own value, and the derivative by differences in float64.
    """
    from breve.explain import render_text
    from breve.explain.unfold import Pass

    at, most = _index(index), _count(terms)
    with prepared_net(model, weights, input_file, scale, seed, phase, layer) as net:
        run = Pass(net, seed, first="" if html else layer)
        found = run.explain(layer, wrt, at)
        if json_file:
            write_json(json_file, found.to_json())
        if html:
            from breve.explain.page import write_page

            write_page(run, html, layer=layer, wrt=wrt, at=at)
    print_wide(lambda console: render_text.write(found, console, most))
    for path in (json_file, html):
        if path:
            click.echo(f"written: {Path(path).resolve()}")


def _index(text: str) -> tuple[int, ...]:
    """`0,3,12,12` as numbers. Raises click.BadParameter."""
    try:
        return tuple(int(part) for part in text.split(",") if part.strip())
    except ValueError:
        raise click.BadParameter(
            f"expected whole numbers separated by commas, found {text!r}", param_hint="--at"
        ) from None


def _count(text: str) -> int | None:
    """A number, or None for `all`. Raises click.BadParameter."""
    if text == "all":
        return None
    if not text.isdigit():
        raise click.BadParameter(f"expected a number or all, found {text!r}", param_hint="--terms")
    return int(text)
