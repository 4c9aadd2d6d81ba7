"""What a row of the table of layers says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from breve.layers import layer_class
from layer_run import LayerRun

Values = Callable[[np.random.Generator], np.ndarray]


@dataclass(frozen=True)
class Case:
    """One layer in one configuration, over which all shared tests run.

    `prototxt` is the inside of a `layer { }`; each of `bottoms` a shape, for normally distributed values, or a function
    that draws them.
    """

    name: str
    prototxt: str
    bottoms: Sequence[tuple[int, ...] | Values] = ()
    tops: int = 1
    phase: str = "TRAIN"
    kinks: tuple[float, ...] = ()
    """Inputs at which the derivative jumps: values drawn for a shape keep 0.05 away from them."""
    gradient: Sequence[int] | None = None
    """Bottoms whose gradient is checked; None for all."""
    param_gradient: Sequence[int] | None = None
    """Parameters whose gradient is checked; None for all."""
    gradient_tops: Sequence[int] | None = None
    """Tops that gradients flow back through; None for all."""
    batch_axis: int | tuple[int | None, ...] | None = 0
    """The axis along which the bottoms may be doubled or emptied, or one for each, None for a bottom that stays as it
    is; None where that cannot be done."""
    golden: Sequence[str] = ()
    """Recordings of Caffe in tests/golden that cover it."""
    memory_orders: bool = True
    """Whether its bottoms may lie in C order too."""
    in_place: bool = True
    """False where this configuration cannot work in place though its class can."""
    tolerance: float = 2e-7
    """Of the gradient check, relative to the gradient's norm."""

    prepare: Callable[[Any], None] | None = None
    """What is done to the layer after its setup, where it needs more than its prototxt."""

    def values(self) -> list[np.ndarray]:
        """The bottoms' values, always the same."""
        rng = np.random.default_rng(42)
        return [b(rng) if callable(b) else away_from(self.kinks, rng.standard_normal(b)) for b in self.bottoms]

    def run(self, values: Sequence[np.ndarray] | None = None, **options: Any) -> LayerRun:
        """The layer built on its values, or on others."""
        run = LayerRun(
            self.prototxt,
            self.values() if values is None else values,
            **{"tops": self.tops, "phase": self.phase, **options},
        )
        if self.prepare is not None:
            self.prepare(run.layer)
        return run

    def doubled(self) -> list[np.ndarray]:
        """The values of a batch of twice the size."""
        axes = zip(self.values(), self._batch_axes(), strict=True)
        return [v if axis is None else np.concatenate([v, v], axis=axis) for v, axis in axes]

    def emptied(self) -> list[np.ndarray]:
        """The values of a batch of none."""
        axes = zip(self.values(), self._batch_axes(), strict=True)
        return [v if axis is None else np.take(v, [], axis=axis) for v, axis in axes]

    def _batch_axes(self) -> tuple[int | None, ...]:
        return self.batch_axis if isinstance(self.batch_axis, tuple) else (self.batch_axis,) * len(self.bottoms)

    def net_text(self, values: Sequence[np.ndarray], *, in_place: bool = False) -> str:
        """A prototxt of the layer over Input layers, with bottoms x0, x1, ... shaped for `values` and tops y0, ..."""
        shapes = [" ".join(f"dim: {d}" for d in value.shape) for value in values]
        inputs = [
            f'layer {{ name: "in{i}" type: "Input" top: "x{i}" input_param {{ shape {{ {shape} }} }} }}'
            for i, shape in enumerate(shapes)
        ]
        bottoms = [f'bottom: "x{i}"' for i in range(len(values))]
        tops = [f'top: "{"x" if in_place else "y"}{i}"' for i in range(self.tops)]
        blobs = [] if "top:" in self.prototxt else bottoms + tops  # HDF5Data's tops are named after its datasets
        return "\n".join([*inputs, f'layer {{ name: "layer" {" ".join(blobs)} {self.prototxt} }}\n'])

    @property
    def layer(self) -> type:
        """The layer's class."""
        return layer_class(self.type)

    @property
    def type(self) -> str:
        """The layer's type."""
        return self.prototxt.split('"')[1]


def away_from(kinks: Sequence[float], values: np.ndarray, distance: float = 0.05) -> np.ndarray:
    """`values` with those near a kink moved `distance` away from it."""
    for kink in kinks:
        near = np.abs(values - kink) < distance
        values = np.where(near, kink + np.where(values < kink, -distance, distance), values)
    return values


def uniform(low: float, high: float, *shape: int) -> Values:
    """Values between `low` and `high`."""
    return lambda rng: rng.uniform(low, high, shape)


def distinct(*shape: int) -> Values:
    """Values that all differ by 0.1 at least, in random order: no ties for a maximum."""
    return lambda rng: 0.1 * (rng.permutation(int(np.prod(shape))).reshape(shape) - np.prod(shape) / 2)


def labels(high: int, *shape: int) -> Values:
    """Whole numbers from 0 to `high` - 1."""
    return lambda rng: rng.integers(high, size=shape).astype(np.float64)


def fixed(values: Any) -> Values:
    """These very values."""
    return lambda rng: np.array(values, np.float64)
