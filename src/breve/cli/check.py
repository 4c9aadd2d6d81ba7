"""`breve check`."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from breve.cli.command import Command
from breve.cli.gradients import net_options, prepared_net, print_wide, write_json


@click.command(cls=Command)
@net_options
@click.option("--layer", metavar="NAME", help="Check this layer alone.")
@click.option("--json", "json_file", type=click.Path(dir_okay=False), metavar="OUT", help="Write it for programs.")
@click.option("--quick", is_flag=True, help="Fewer directions, elements and images.")
def check(
    model: str, weights: str | None, input_file: str | None, scale: float, seed: int, phase: str,
    layer: str | None, json_file: str | None, quick: bool,
) -> None:  # fmt: skip
    """Check every gradient of a net, and say in words what was found.

    Each layer's gradients wrt each input and parameter against differences in float64, the engine's algorithms against
    float64, and the loss through the whole net. Exit code 1 when anything is wrong.
    """
    from breve.explain import check as check_net
    from breve.explain import render_check

    with prepared_net(model, weights, input_file, scale, seed, phase, layer) as net:
        report = check_net(net, layer, quick=quick, seed=seed)
    print_wide(lambda console: render_check.write(report, console))
    if json_file:
        write_json(json_file, report.to_json())
        click.echo(f"written: {Path(json_file).resolve()}")
    if not report.ok:
        sys.exit(1)
