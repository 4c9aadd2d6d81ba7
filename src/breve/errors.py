"""Every error that breve raises on purpose.

    BreveError
    ├── ParseError         a text file does not follow its grammar or schema (file:line:column)
    ├── FileFormatError    a binary file is truncated, foreign or of the wrong kind
    ├── NetError           the description of a net is inconsistent: names, bottoms, tops, rules
    ├── LayerError         a layer's parameters or the shapes it is given do not fit
    ├── DataError          a data source is missing, empty, or holds a value out of range
    ├── SolverError        a solver's parameters are wrong, or a snapshot does not fit the net
    └── UnsupportedError   a valid request that this build or algorithm does not honour

A message says where, what was expected, what was found, and what to do:

>>> print(LayerError("channels do not divide into groups", where="net.prototxt:12: layer 'conv1'",
...                  expected="a multiple of 2", found=3, hint="change group"))
net.prototxt:12: layer 'conv1': channels do not divide into groups; expected a multiple of 2, found 3; change group
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

_ABSENT: Any = object()


class BreveError(Exception):
    """Base of all errors: `message`, and optionally `where`, `expected`, `found` and `hint`."""

    def __init__(
        self, message: str, *, where: str = "", expected: Any = _ABSENT, found: Any = _ABSENT, hint: str = ""
    ) -> None:
        super().__init__(message)
        self.message, self.where, self.expected, self.found, self.hint = message, where, expected, found, hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        facts = [
            f"{word} {value}"
            for word, value in (("expected", self.expected), ("found", self.found))
            if value is not _ABSENT
        ]
        return "; ".join(part for part in (text, ", ".join(facts), self.hint) if part)


class ParseError(BreveError):
    """A text file does not follow its grammar or schema."""


class FileFormatError(BreveError):
    """A binary file is truncated, foreign or of the wrong kind."""


class NetError(BreveError):
    """The description of a net is inconsistent."""


class LayerError(BreveError):
    """A layer's parameters or the shapes it is given do not fit."""


class DataError(BreveError):
    """A data source is missing, empty, or holds a value out of range."""


class SolverError(BreveError):
    """A solver's parameters are wrong, or a snapshot does not fit the net."""


class UnsupportedError(BreveError):
    """A valid request that this build or algorithm does not honour."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint naming the nearest known names, or all of them when there are few.

    >>> did_you_mean("Convolutoin", ["Convolution", "Pooling"])
    "did you mean 'Convolution'?"
    """
    names = sorted(set(known))
    near = difflib.get_close_matches(name.lower(), {n.lower() for n in names}, n=3, cutoff=0.6)
    if near:
        return "did you mean " + " or ".join(repr(n) for low in near for n in names if n.lower() == low) + "?"
    return "known: " + ", ".join(names) if 0 < len(names) <= 12 else ""


@contextmanager
def located(where: str) -> Iterator[None]:
    """Give the errors raised inside a place, unless they already name one."""
    try:
        yield
    except BreveError as error:
        error.where = error.where or where
        raise
