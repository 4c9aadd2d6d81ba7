"""A net's layers with the place each one was written at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass
class LayerSpec:
    """One layer of a net's description: its LayerParameter, and the file and line it came from (line 0: unknown)."""

    param: Any
    file: str = ""
    line: int = 0

    @property
    def where(self) -> str:
        """`file:line: layer 'name' (Type)`, as errors begin."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        name = f"layer '{self.param.name}' ({self.param.type})"
        return f"{place}: {name}" if place else name


def specs(net_param: Any, file: str = "", lines: Sequence[int] = ()) -> list[LayerSpec]:
    """The layers of a NetParameter, each with its line where `lines` knows it."""
    known = list(lines) + [0] * (len(net_param.layer) - len(lines))
    return [LayerSpec(param, file, line) for param, line in zip(net_param.layer, known, strict=False)]
