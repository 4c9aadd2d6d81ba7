"""Why a text does not parse, in the words of the person who wrote it.

protobuf says where it stopped. What surrounds that place tells the rest: which message, which field, and what may
stand there.
"""

from __future__ import annotations

import re
from typing import Any

from google.protobuf.descriptor import FieldDescriptor

from breve.errors import ParseError, did_you_mean
from breve.proto.tokens import CLOSING, OPENING, Place, Token, places, tokens
from breve.proto.upgrade import current_type

_EXPECTED = {
    FieldDescriptor.CPPTYPE_INT32: "an integer from -2147483648 to 2147483647",
    FieldDescriptor.CPPTYPE_INT64: "an integer",
    FieldDescriptor.CPPTYPE_UINT32: "an integer from 0 to 4294967295",
    FieldDescriptor.CPPTYPE_UINT64: "an integer, not negative",
    FieldDescriptor.CPPTYPE_FLOAT: "a number",
    FieldDescriptor.CPPTYPE_DOUBLE: "a number",
    FieldDescriptor.CPPTYPE_BOOL: "true or false",
    FieldDescriptor.CPPTYPE_STRING: "a string in quotes",
    FieldDescriptor.CPPTYPE_MESSAGE: "{",
}


_ESCAPE = re.compile(r"\\(?:[0-7]{1,3}|x[\da-fA-F]{0,2}|u[\da-fA-F]{0,4}|U[\da-fA-F]{0,8}|.|$)")
_KNOWN_ESCAPE = re.compile(r"\\(?:[0-3]?[0-7]{1,2}|x[\da-fA-F]+|u[\da-fA-F]{4}|U[\da-fA-F]{8}|[abfnrtv'\"\\])")


def explain(error: Any, text: str, descriptor: Any, filename: str) -> ParseError:
    """The ParseError to raise for what protobuf's text parser said of `text` (a message of type `descriptor`)."""
    line, column = error.GetLine() or 1, error.GetColumn() or 1
    place = _place_at(text, line, column)
    token = Token("", line, column)
    facts: dict[str, Any] = {}
    if place is not None and "parse string" not in str(error):
        token = place.token
        facts = _facts(str(error), place, _descriptors(descriptor, place.path))
    token = facts.pop("at", token)
    facts.setdefault("message", _plain(error))
    return ParseError(**facts, where=f"{filename}:{token.line}:{token.column}")


def refuse_escapes(text: str, filename: str) -> None:
    """Raise ParseError for a backslash in a string that begins no escape, as in a path of Windows."""
    for token in tokens(text) if "\\" in text else ():
        for escape in _ESCAPE.finditer(token.text) if token.text[0] in "'\"" else ():
            if not _KNOWN_ESCAPE.fullmatch(escape[0]):
                where = f"{filename}:{token.line}:{token.column + escape.start()}"
                raise ParseError(
                    f"unknown escape {escape[0]}", where=where, hint=r"write \\ for a backslash, or / in a path"
                )


def _facts(said: str, place: Place, around: list[Any]) -> dict[str, Any]:
    """The parts of a ParseError for what stands at `place`, inside the messages `around` it; empty when unsure."""
    token, field, inside = place.token, place.field, place.path[-1].text if place.path else around[0].name
    known = around[-1].fields_by_name
    if said.endswith(('Expected "}".', 'Expected ">".')):
        opened = _unclosed(place)
        return {"message": f"`{opened.text}` begins here and is never closed", "at": opened}
    if field and field.text in known and "should not have multiple" in said:
        return {"message": f"'{field.text}' is given twice in {inside}", "at": field, "hint": "it takes one value"}
    if place.in_list and place.previous not in {"[", ","}:
        return {"message": "the list breaks off", "expected": ", or ]", "found": token.text}
    if field is None or (token is not field and place.previous not in {field.text, ":", "[", ","}):
        return {"message": "no field", "expected": f"the name of a field of {inside}", "found": token.text}
    if field.text not in known:
        message, hint = f"unknown field '{field.text}' in {inside}", _where_it_belongs(field.text, around)
        return {"message": message, "at": field, "hint": hint}
    return _wrong_value(place, known[field.text])


def _wrong_value(place: Place, field: Any) -> dict[str, Any]:
    """What should have stood where a field has its value."""
    token, name = place.token.text, field.name
    if place.token is place.field or token == ":":
        return {"message": f"'{name}' has no value"}
    if place.previous == name and field.cpp_type != FieldDescriptor.CPPTYPE_MESSAGE:
        return {"message": f"'{name}' has no value", "expected": f": after {name}", "found": token}
    hint = ""
    if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
        return {
            "message": f"'{name}' has no value {token}",
            "hint": _nearest_value(token, field.enum_type.values_by_name),
        }
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        if token[0] in "'\"":
            return {"message": f"the string of '{name}' is not closed on its line", "found": token}
        hint = f'write "{current_type(token) if name == "type" and token.isupper() else token}"'
    return {"message": f"wrong value for '{name}'", "expected": _EXPECTED[field.cpp_type], "found": token, "hint": hint}


def _nearest_value(token: str, values: Any) -> str:
    """A hint for a value that an enum does not have."""
    bare = token.strip("'\"").upper()
    return f"write {bare}" if bare in values else did_you_mean(bare, values)


def _where_it_belongs(name: str, around: list[Any]) -> str:
    """A hint for an unknown name: a message outside or inside that knows it, or the nearest known names."""
    if any(name in outer.fields_by_name for outer in around[:-1]):
        return "it belongs further out: is a } missing before it?"
    messages = [field for field in around[-1].fields if field.message_type]
    inside = [field.name for field in messages if name in field.message_type.fields_by_name]
    if 0 < len(inside) <= 4:
        return f"it belongs inside {' or '.join(inside)}"
    return did_you_mean(name, around[-1].fields_by_name)


def _descriptors(descriptor: Any, path: tuple[Token, ...]) -> list[Any]:
    """The types of the messages along `path`, outermost first."""
    found = [descriptor]
    for name in path:
        found.append(found[-1].fields_by_name[name.text].message_type)
    return found


def _unclosed(place: Place) -> Token:
    """The innermost message still open after the last token of a text."""
    opened = list(place.path)
    if place.token.text in CLOSING:
        opened.pop()
    elif place.token.text in OPENING and place.field:
        opened.append(place.field)
    return opened[-1]


def _place_at(text: str, line: int, column: int) -> Place | None:
    """The last token that begins at or before a place."""
    found = None
    for place in places(text):
        if (place.token.line, place.token.column) > (line, column):
            break
        found = place
    return found


def _plain(error: Any) -> str:
    """protobuf's own words, without the place and the line that it quotes."""
    return str(error).split(" : ", 1)[-1].rsplit("': ", 1)[-1]
