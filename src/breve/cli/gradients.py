"""What `explain` and `check` share: a net with a batch in it, and files that appear whole or not at all."""

from __future__ import annotations

import io
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

OPTIONS = [
    click.option("--model", required=True, metavar="FILE", help="The net's prototxt."),
    click.option("--weights", metavar="FILE", help="Its .caffemodel; without, the fillers' values."),
    click.option("--input", "input_file", metavar="FILE", help="The inputs: arrays by name (.npz), or a picture."),
    click.option("--scale", type=float, default=1.0, show_default=True, help="Multiplies a picture's values."),
    click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Of everything random."),
    click.option(
        "--phase", type=click.Choice(["TRAIN", "TEST"], case_sensitive=False), default="TRAIN", show_default=True,
        help="The net's phase.",
    ),
    click.option(
        "--allow-python-layers", is_flag=True, expose_value=False, callback=lambda _, __, on: _allow() if on else None,
        help="Run the Python modules that the prototxt names. Only for files that you trust.",
    ),
]  # fmt: skip


def _allow() -> None:
    from breve.pycaffe import allow_python_layers

    allow_python_layers()


def net_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say which net, and what it holds."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@contextmanager
def prepared_net(
    model: str,
    weights: str | None,
    input_file: str | None,
    scale: float,
    seed: int,
    phase: str,
    layer: str | None = None,
) -> Iterator[Any]:
    """The net, run forward once on its input: the file's, its data layers', or random numbers.

    Raises NetError at once where it has no such layer.
    """
    from breve.errors import NetError, did_you_mean
    from breve.explain.batch import fill_empty_inputs, read_inputs
    from breve.net import Net

    net = Net(model, phase.upper(), weights=weights, seed=seed)
    try:
        if layer and layer not in net.layer_names:
            raise NetError(f"no layer is named '{layer}'", hint=did_you_mean(layer, net.layer_names))
        if input_file:
            read_inputs(net, input_file, scale)
        sources = [step for step in net.steps if not step.bottom]
        for step in sources:
            step.forward()
        for _, name in fill_empty_inputs(net, seed):
            click.echo(f"'{name}' is given random values of seed {seed}", err=True)
        net.forward(len(sources) and _first_reader(net))
        yield net
    finally:
        net.close()


def _first_reader(net: Any) -> int:
    """The number of the first layer that reads a blob; sources have run already."""
    return next((i for i, step in enumerate(net.steps) if step.bottom), 0)


def print_wide(write: Callable[[Any], None]) -> None:
    """Print on the terminal, in colour; else as plain text, 120 columns wide unless COLUMNS says otherwise."""
    from rich.console import Console

    if sys.stdout.isatty():
        write(Console(highlight=False))
        return
    text = io.StringIO()
    write(Console(file=text, width=shutil.get_terminal_size((120, 24)).columns, highlight=False))
    for line in text.getvalue().splitlines():
        click.echo(line.rstrip())


def write_json(path: str, value: Any) -> None:
    """Write a JSON file whole or not at all. NaN and infinity are written as null."""
    from breve.proto.files import whole_file

    with whole_file(path) as temporary:
        temporary.write_text(json.dumps(_finite(value), ensure_ascii=False, allow_nan=False), encoding="utf-8")


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(v) for key, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and (value != value or abs(value) == float("inf")) else value
