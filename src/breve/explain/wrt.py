"""What a gradient is taken with respect to: a bottom's data or one of the layer's parameters."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from breve.errors import NetError, did_you_mean

NAMED = {"weights": 0, "bias": 1}


@dataclass(frozen=True)
class Wrt:
    """A bottom (`is_param` false) or a parameter of a layer, by number."""

    is_param: bool
    number: int

    @property
    def name(self) -> str:
        """As users write it: data, data1, ...; weights, bias, param2, ..."""
        if self.is_param:
            return {0: "weights", 1: "bias"}.get(self.number, f"param{self.number}")
        return f"data{self.number or ''}"


def parse_wrt(text: str, record: Any) -> Wrt:
    """`data`, `data1`, a bottom's name, `weights`, `bias` or `param2`, for a recorded layer. Raises NetError."""
    bottoms, params = len(record.bottom_names), len(record.param_data)
    if text == "bias" and record.type == "Bias":
        text = "weights"
    if text in record.bottom_names:
        return Wrt(False, record.bottom_names.index(text))
    match = re.fullmatch(r"(data|param)(\d*)", text)
    if text in NAMED:
        found = Wrt(True, NAMED[text])
    elif match:
        found = Wrt(match[1] == "param", int(match[2] or 0))
    else:
        raise NetError("unknown wrt", found=text, hint=did_you_mean(text, ["data", "weights", "bias"]))
    if found.number >= (params if found.is_param else bottoms):
        kind, count = ("parameters", params) if found.is_param else ("bottoms", bottoms)
        raise NetError(f"layer '{record.layer.name}' ({record.type}) has no {text}", hint=f"it has {count} {kind}")
    return found
