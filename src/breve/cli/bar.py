"""Bars that count what a command has done, on a terminal; elsewhere nothing."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn

Count = Callable[[int, int], None]
"""Called with how many are done, and how many there are (0 where nobody knows)."""


def progress_bar(*columns: ProgressColumn, transient: bool = False) -> Progress:
    """A bar with its count, more columns, and the time left."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn

    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        *columns,
        TimeRemainingColumn(compact=True),
        TextColumn("left"),
        refresh_per_second=5,
        transient=transient,
    )


@contextmanager
def counted(description: str) -> Iterator[Count]:
    """A bar that shows what it is told of, and vanishes in the end."""
    if not sys.stdout.isatty():
        yield lambda done, total: None
        return
    with progress_bar(transient=True) as progress:
        task = progress.add_task(description, total=None)
        yield lambda done, total: progress.update(task, completed=done, total=total or None)
