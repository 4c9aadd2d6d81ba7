"""`breve time`."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import click

from breve.cli.bar import counted
from breve.cli.command import Command


@click.command(cls=Command)
@click.option("--model", required=True, metavar="FILE", help="The net's prototxt.")
@click.option("--weights", metavar="FILE", help="A .caffemodel to time it with.")
@click.option("--iterations", type=click.IntRange(min=1), default=50, show_default=True, help="Passes to average over.")
@click.option(
    "--phase", type=click.Choice(["TRAIN", "TEST"], case_sensitive=False), default="TRAIN", show_default=True,
    help="The net's phase.",
)  # fmt: skip
@click.option("--level", type=int, default=0, show_default=True, help="The net's level.")
@click.option("--stage", default="", metavar="NAMES", help="The net's stages (separated by commas).")
def time(model: str, weights: str | None, iterations: int, phase: str, level: int, stage: str) -> None:
    """Time each layer of a net, forward and backward, after one pass to warm up.

    Of convolutions the table says which algorithm computed each pass.
    """
    from breve.net import Net

    stages = [name for name in stage.split(",") if name]
    net = Net(model, phase.upper(), weights=weights, level=level, stages=stages)
    try:
        times = [LayerTime(step) for step in net.steps]
        _run(times)
        for layer in times:
            layer.forward_ms = layer.backward_ms = 0.0
        _repeat(lambda: _run(times), iterations)
    finally:
        net.close()
    _print(net.name, times, iterations)


@dataclass
class LayerTime:
    """One layer's step and the time that its passes have taken so far."""

    step: Any
    forward_ms: float = 0.0
    backward_ms: float = 0.0

    def forward(self) -> None:
        """Run and time the layer forward."""
        start = perf_counter()
        self.step.forward()
        self.forward_ms += 1e3 * (perf_counter() - start)

    def backward(self) -> None:
        """Run and time the layer backward."""
        start = perf_counter()
        self.step.backward()
        self.backward_ms += 1e3 * (perf_counter() - start)


def _run(times: list[LayerTime]) -> None:
    for layer in times:
        layer.forward()
    for layer in reversed(times):
        layer.backward()


def _repeat(run: Callable[[], None], iterations: int) -> None:
    with counted("timing") as show:
        for done in range(iterations):
            run()
            show(done + 1, iterations)


def algorithms(step: Any) -> str:
    """What computes the passes of a layer that has a choice: one name, or one for each pass that runs."""
    chosen = getattr(getattr(step.layer, "plan", None), "algorithms", {})
    skipped = set() if step.needs_backward else {"backward_data", "backward_weights"}
    if not any(step.propagate_down):
        skipped.add("backward_data")
    names = {pass_name: name for pass_name, name in chosen.items() if pass_name not in skipped}
    if len(set(names.values())) < 2:
        return next(iter(names.values()), "")
    return ", ".join(f"{pass_name.removeprefix('backward_')} {name}" for pass_name, name in names.items())


def _print(name: str, times: list[LayerTime], iterations: int) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table

    forward_ms = sum(layer.forward_ms for layer in times) / iterations
    backward_ms = sum(layer.backward_ms for layer in times) / iterations
    table = Table(box=box.SIMPLE, title=f"{name or 'net'}: average of {iterations} passes, ms", title_justify="left")
    table.add_column("layer")
    table.add_column("type")
    table.add_column("top")
    for heading in ("forward", "backward", "share"):
        table.add_column(heading, justify="right")
    table.add_column("algorithm")
    for layer in times:
        share = (layer.forward_ms + layer.backward_ms) / iterations / max(forward_ms + backward_ms, 1e-9)
        table.add_row(
            layer.step.layer.name,
            layer.step.layer.type,
            " ".join("x".join(map(str, blob.shape)) or "1" for blob in layer.step.top[:1]),
            f"{layer.forward_ms / iterations:.3f}",
            f"{layer.backward_ms / iterations:.3f}",
            f"{share:.1%}",
            algorithms(layer.step),
        )
    Console(width=None if sys.stdout.isatty() else 200).print(table)
    click.echo(f"Average Forward pass: {forward_ms:.3f} ms.")
    click.echo(f"Average Backward pass: {backward_ms:.3f} ms.")
    click.echo(f"Average Forward-Backward: {forward_ms + backward_ms:.3f} ms.")
    click.echo(f"Total Time: {(forward_ms + backward_ms) * iterations:.3f} ms.")
