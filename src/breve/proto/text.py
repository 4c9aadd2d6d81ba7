"""Prototxt files: text to messages and back, with errors that say line, column and what to write instead."""

from __future__ import annotations

import os
import re
from typing import Any, NamedTuple

from google.protobuf import text_format

from breve.errors import FileFormatError, ParseError
from breve.proto.explain import explain, refuse_escapes
from breve.proto.files import is_text, read_bytes, refuse_foreign
from breve.proto.schema import MESSAGES
from breve.proto.tokens import field_lines, layer_lines
from breve.proto.upgrade import upgrade_net, upgrade_snapshot_prefix, upgrade_solver


class NetFile(NamedTuple):
    """A net read from text, and where in the file each of its layers stands."""

    message: Any
    """The NetParameter, upgraded to the current form."""
    path: str
    layer_lines: list[int]
    """The line of `message.layer[i]`; that of the first `input` for an Input layer made from input fields."""

    def where(self, index: int) -> str:
        """`file:line` of the layer at `index`."""
        return f"{self.path}:{self.layer_lines[index]}"


def parse(text: str, message_class: Any, filename: str = "<text>") -> Any:
    """The message of `message_class` that `text` describes.

    Raises ParseError with `filename:line:column`, what was expected and what was found; for an unknown field or enum
    value the nearest known ones; for a field given twice, or a required one missing, its name.

    >>> parse('name: "tiny" layer { name: "relu" type: "ReLU" }', MESSAGES["NetParameter"]).layer[0].type
    'ReLU'
    """
    message = message_class()
    refuse_escapes(text, filename)
    try:
        text_format.Parse(text, message)
    except text_format.ParseError as error:
        raise explain(error, text, message_class.DESCRIPTOR, filename) from None
    if not message.IsInitialized():
        missing = message.FindInitializationErrors()
        raise ParseError(
            "required fields are missing", where=_where(missing[0], text, filename), expected=" and ".join(missing)
        )
    return message


def _where(field: str, text: str, filename: str) -> str:
    """`file:line` of the layer that a field such as `layer[2].clip_param.max` is in; the file alone for others."""
    layer = re.match(r"layers?\[(\d+)\]", field)
    return f"{filename}:{layer_lines(text)[int(layer[1])]}" if layer else filename


def to_text(message: Any) -> str:
    """The message in text form, one field a line, as `parse` reads it."""
    name = message.DESCRIPTOR.name
    if type(message) is not MESSAGES[name]:
        message = MESSAGES[name].FromString(message.SerializePartialToString())
    return text_format.MessageToString(message, as_utf8=True)


def read_text(path: str | os.PathLike[str]) -> str:
    """The contents of a text file in UTF-8; bytes that are not (in comments, mostly) become U+FFFD.

    Raises FileFormatError where the file is missing, empty or binary.
    """
    content = read_bytes(path)
    refuse_foreign(content, path, "a text file (.prototxt)")
    if not is_text(content):
        raise FileFormatError(
            "not a text file",
            where=str(path),
            expected="text (.prototxt)",
            found="binary data",
            hint="trained weights are given separately, beside the .prototxt that describes the net",
        )
    return content.decode("utf-8-sig", errors="replace")


def read_net_file(path: str | os.PathLike[str]) -> NetFile:
    """A net in text form, upgraded, and the lines of its layers. Raises ParseError, FileFormatError, NetError."""
    text, path = read_text(path), os.fspath(path)
    message = parse(text, MESSAGES["NetParameter"], path)
    lines = layer_lines(text)
    inputs_line = (field_lines(text, {"input"}) or [1])[0]
    upgrade_net(message, lines, inputs_line=inputs_line, where=path)
    return NetFile(message, path, lines)


def read_net(path: str | os.PathLike[str]) -> Any:
    """The NetParameter in a text file, in the current form. Raises ParseError, FileFormatError, NetError."""
    return read_net_file(path).message


def read_solver(path: str | os.PathLike[str]) -> Any:
    """The SolverParameter in a text file, in the current form, with Caffe's rule for an absent `snapshot_prefix`.

    Raises ParseError, FileFormatError, SolverError.
    """
    message = parse(read_text(path), MESSAGES["SolverParameter"], os.fspath(path))
    upgrade_solver(message, where=os.fspath(path))
    upgrade_snapshot_prefix(message, path)
    return message
