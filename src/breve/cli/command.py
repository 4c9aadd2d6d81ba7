"""A command with the options that every command takes, and how its errors are shown."""

from __future__ import annotations

import sys
import traceback
from typing import Any, NoReturn

import click

from breve.errors import BreveError


def _use_threads(context: click.Context, option: click.Parameter, count: int | None) -> None:
    if count is not None:
        from breve.kernels.threads import set_num_threads

        set_num_threads(count)


def _remember_debug(context: click.Context, option: click.Parameter, debug: bool) -> None:
    context.ensure_object(dict)["debug"] = debug or context.obj.get("debug", False)


def common_options() -> list[click.Option]:
    """`--debug` and `--threads`, understood by `breve` itself and by each of its commands."""
    return [
        click.Option(
            ["--threads"], type=click.IntRange(min=1), metavar="N", callback=_use_threads, expose_value=False,
            help="Threads to compute on (all physical cores by default).",
        ),
        click.Option(
            ["--debug"], is_flag=True, callback=_remember_debug, expose_value=False, is_eager=True,
            help="Show a traceback where an error arises.",
        ),
    ]  # fmt: skip


class Command(click.Command):
    """A click command that also takes the common options."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.params += common_options()


def fail(error: BaseException, debug: bool) -> NoReturn:
    """Say what went wrong, on one line of stderr, and exit with code 1; with `debug` after the traceback."""
    if debug:
        traceback.print_exception(error)
    click.echo(click.style("error: ", fg="red", bold=True) + _message(error, debug), err=True)
    sys.exit(1)


def _message(error: BaseException, debug: bool) -> str:
    if isinstance(error, BreveError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "out of memory; a smaller batch_size needs less"
    more = "" if debug else "; this is a fault in breve, --debug shows where"
    return f"{type(error).__name__}: {error}{more}"
