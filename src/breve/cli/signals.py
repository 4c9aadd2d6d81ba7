"""Signals while training: Ctrl-C snapshots and stops, a hang-up snapshots and goes on, as Caffe's tool does."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from breve.solvers import Action, Report

EFFECTS = {"stop": Action.STOP, "snapshot": Action.SNAPSHOT, "none": Action.NONE}


class Requests:
    """What the signals received since the last look ask for."""

    def __init__(self) -> None:
        self._pending: list[Action] = []
        self._stopping = False

    def take(self) -> Action:
        """The next thing to do; `Action.NONE` when nothing is asked."""
        return self._pending.pop(0) if self._pending else Action.NONE

    def add(self, action: Action) -> None:
        """Ask for something; to ask for a stop a second time is to end at once, by KeyboardInterrupt."""
        if action is Action.STOP and self._stopping:
            raise KeyboardInterrupt
        self._stopping |= action is Action.STOP
        self._pending.append(action)


@contextmanager
def watched(sigint: Action, sighup: Action, report: Report) -> Iterator[Requests]:
    """Turn SIGINT and SIGHUP into requests while the block runs, and report them."""
    requests = Requests()
    effects: dict[int, Action] = {signal.SIGINT: sigint}
    if hasattr(signal, "SIGHUP"):
        effects[signal.SIGHUP] = sighup

    def receive(number: int, frame: Any) -> None:
        requests.add(effects[number])
        report.asked(effects[number])

    before = {number: signal.signal(number, receive) for number in effects}
    try:
        yield requests
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
