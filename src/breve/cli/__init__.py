"""The command `breve`: parse, call, print."""

from breve.cli.main import main

__all__ = ["main"]
