"""What a random layer is, and how its values and fields are drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

Random = np.random.Generator
CANNOT_FORCE = ("Embed", "BatchReindex", "Filter", "InfogainLoss")
"""Types that abort when gradients are forced down to all their bottoms."""
SHIFT = 'layer { name: "shift" type: "Bias" bottom: "x0" top: "z0" bias_param { axis: 0 num_axes: -1 } }'
"""A learned shift of every value: the gradient wrt its parameter is that wrt the first bottom."""


@dataclass
class Layer:
    """One layer over Input layers: its fields and the values of its bottoms."""

    type: str
    fields: str = ""
    bottoms: list[np.ndarray] = field(default_factory=list)
    tops: int = 1
    backward: bool = True
    phase: str = "TRAIN"
    positive_params: tuple[int, ...] = ()
    in_place: bool = False
    steps: int = 1
    """How many forward passes are compared."""
    files: dict[str, Callable[[Path], object]] = field(default_factory=dict)
    """Files that the layer reads, by name, and who writes them."""
    arrays: tuple[np.ndarray, ...] = ()
    """What a MemoryData layer is given."""

    def prototxt(self) -> str:
        """The whole net. Gradients are forced down to its inputs, or flow into a shift where Caffe would abort."""
        forced = self.type not in CANNOT_FORCE
        lines = ["force_backward: true"] if forced else []
        names = [f"x{i}" for i in range(len(self.bottoms))]
        for name, values in zip(names, self.bottoms, strict=True):
            dims = " ".join(f"dim: {d}" for d in values.shape)
            lines.append(f'layer {{ name: "{name}" type: "Input" top: "{name}" input_param {{ shape {{ {dims} }} }} }}')
        if not forced and self.type != "Embed":
            lines.append(SHIFT)
            names[0] = "z0"
        bottoms = " ".join(f'bottom: "{name}"' for name in names)
        tops = " ".join(f'top: "{"x" if self.in_place else "y"}{i}"' for i in range(self.tops))
        lines.append(f'layer {{ name: "l" type: "{self.type}" {bottoms} {tops} {self.fields} }}')
        return "\n".join(lines) + "\n"


def one_of(r: Random, *values):
    """One of the values, evenly."""
    return values[r.integers(len(values))]


def flag(r: Random) -> str:
    """Either truth value as a prototxt writes it."""
    return one_of(r, "true", "false")


def either_sign(r: Random, axis: int, ndim: int) -> int:
    """An axis counted from the front or from the back."""
    return axis - ndim * int(r.integers(2))


def normal(r: Random, *shape: int) -> np.ndarray:
    """Normally distributed values."""
    return r.standard_normal(shape).astype(np.float32)


def distinct(r: Random, *shape: int) -> np.ndarray:
    """Values that all differ, so that a maximum has no ties."""
    count = int(np.prod(shape))
    return (0.1 * (r.permutation(count) - count / 2)).reshape(shape).astype(np.float32)


def whole(r: Random, high: int, *shape: int) -> np.ndarray:
    """Whole numbers below `high`."""
    return r.integers(0, high, shape).astype(np.float32)


def image(r: Random, batch: int = 4, channels: int = 20, size: int = 13) -> tuple[int, ...]:
    """A shape (N, C, H, W)."""
    return (*(int(r.integers(1, limit)) for limit in (batch, channels)), *(int(d) for d in r.integers(1, size, 2)))


def any_shape(r: Random, most: int = 5) -> tuple[int, ...]:
    """A shape of one to `most` axes."""
    return tuple(int(d) for d in r.integers(1, 6, r.integers(1, most + 1)))
