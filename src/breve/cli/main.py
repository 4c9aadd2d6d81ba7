"""The entry point: the group of commands, each imported when it is asked for."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence

import click

import breve
from breve.cli.command import common_options, fail

COMMANDS = {
    "train": ("breve.cli.train", "Train a net as a solver prototxt says."),
    "test": ("breve.cli.test", "Score a net: the mean of its outputs over batches."),
    "time": ("breve.cli.time", "Time each layer of a net, forward and backward."),
    "explain": ("breve.cli.explain", "Unfold one number of a gradient into the sum that made it."),
    "check": ("breve.cli.check", "Check every gradient of a net, and say in words what was found."),
    "demo": ("breve.cli.demo", "Watch LeNet learn handwritten digits."),
    "upgrade": ("breve.cli.upgrade", "Rewrite an old net or solver file in the current form."),
    "convert-mnist": ("breve.cli.convert", "Make an LMDB of MNIST's IDX files."),
    "convert-imageset": ("breve.cli.convert", "Make an LMDB of image files and their labels."),
    "compute-mean": ("breve.cli.convert", "Average the images of an LMDB into a mean file."),
}
"""Each command's module and the line that `breve --help` shows; the function is spelled as the command."""


class Group(click.Group):
    """Commands whose modules are imported on use, so that `breve --help` is quick."""

    def list_commands(self, context: click.Context) -> list[str]:
        """The names of all commands."""
        return list(COMMANDS)

    def get_command(self, context: click.Context, name: str) -> click.Command | None:
        """The command called `name`."""
        if name not in COMMANDS:
            return None
        return getattr(importlib.import_module(COMMANDS[name][0]), name.replace("-", "_"))

    def format_commands(self, context: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of commands in the help text."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


cli = Group(
    name="breve",
    help="Caffe, in short: train, test and time Caffe networks on a CPU.",
    params=common_options(),
    context_settings={"help_option_names": ["-h", "--help"]},
)
cli = click.version_option(breve.__version__, message="breve %(version)s")(cli)


def main(args: Sequence[str] | None = None) -> None:
    """Run `breve` with the arguments given (the process's own by default), and exit."""
    settings = {"debug": False}
    try:
        cli.main(args, prog_name="breve", standalone_mode=False, obj=settings)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        fail(error, settings["debug"])
