"""The words of a text-format file and their places, for messages that say where.

Parsing itself is protobuf's. This splits the text into tokens and follows the braces, so that an error can tell what
surrounds it and a net where each of its layers stands.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

_TOKEN = re.compile(
    r"""[ \t\r\f\v]+ | \#[^\n]*             # nothing
      | (?P<newline>\n)
      | (?P<text> "(?:[^"\\\n]|\\.)*"? | '(?:[^'\\\n]|\\.)*'?   # a string, closed or not
                | [\w.+-]+                  # a name or a number
                | . )""",
    re.VERBOSE,
)
_WORD = re.compile(r"\w")
OPENING, CLOSING = {"{", "<", "["}, {"}", ">", "]"}


class Token(NamedTuple):
    """A word, string or mark, with its line and column, both from 1."""

    text: str
    line: int
    column: int


class Place(NamedTuple):
    """A token and what surrounds it."""

    token: Token
    field: Token | None
    """The name of the field that the token is part of; the token itself where it is that name."""
    path: tuple[Token, ...]
    """The names of the messages open around it, outermost first; a message in a list has its brace's place."""
    previous: str
    """The token before."""
    in_list: bool
    """Directly inside `[...]`."""


def tokens(text: str) -> Iterator[Token]:
    """The tokens of `text`, without white space and comments.

    >>> [token.text for token in tokens('pad: [1, 2]  # both sides')]
    ['pad', ':', '[', '1', ',', '2', ']']
    """
    line, line_start = 1, 0
    for match in _TOKEN.finditer(text):
        if match["newline"]:
            line, line_start = line + 1, match.end()
        elif match["text"]:
            yield Token(match["text"], line, match.start() - line_start + 1)


def places(text: str) -> Iterator[Place]:
    """Each token of `text` with the field and the messages around it."""
    opened: list[tuple[str, Token | None]] = []
    field, previous = None, ""
    for token in tokens(text):
        in_list = bool(opened) and opened[-1][0] == "["
        if in_list and token.text in OPENING and field:
            field = field._replace(line=token.line, column=token.column)
        elif not in_list and previous != ":" and _WORD.match(token.text):
            field = token
        yield Place(token, field, tuple(name for mark, name in opened if mark != "[" and name), previous, in_list)
        if token.text in OPENING:
            opened.append((token.text, field))
            field = field if token.text == "[" else None
        elif token.text in CLOSING and opened:
            field = opened.pop()[1]
        previous = token.text


def field_lines(text: str, names: set[str]) -> list[int]:
    """The lines of the outermost fields of these names, one for each message or value given.

    >>> field_lines('name: "n"\\nlayer { name: "layer" }\\nlayer: [\\n{ }, { }]', {"layer"})
    [2, 4, 4]
    """
    return [
        place.field.line
        for place in places(text)
        if place.field and not place.path and place.field.text in names and _begins_value(place)
    ]


def layer_lines(text: str) -> list[int]:
    """The line of every `layer {` or `layers {`, in the order of the layers."""
    return field_lines(text, {"layer", "layers"})


def _begins_value(place: Place) -> bool:
    if place.token is place.field or place.token.text in CLOSING | {":", "[", ",", ";"}:
        return False
    return place.previous in {":", "[", ","} or place.token.text in OPENING
