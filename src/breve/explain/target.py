"""One gradient of one layer under test: its values, its analytic gradient, and derivatives along any direction."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from breve.explain.layer_copy import LayerCopy
from breve.explain.layers.base import Explainer, Kinks
from breve.explain.model import Index, unravel
from breve.explain.numeric import Estimate, derivative, roughness
from breve.explain.verdict import tolerance
from breve.explain.wrt import Wrt

MOST_MOVED = 1 << 20  # elements that a random direction moves
LARGEST_STEP_AT_KINKS = 1e-4


class Target:
    """The gradient wrt one input or parameter of a float64 copy, for fixed top diffs (`seeds`).

    Directions keep away from elements near a kink, further than the largest step can carry them.
    """

    def __init__(
        self, e: Explainer, copy: LayerCopy, wrt: Wrt, seeds: Sequence[np.ndarray], rng: np.random.Generator
    ) -> None:
        self.e, self.copy, self.wrt, self.seeds = e, copy, wrt, seeds
        self.values = (copy.params if wrt.is_param else copy.inputs)[wrt.number]
        self.flat = self.values.reshape(-1)
        self.scale = max(float(np.sqrt(np.mean(np.square(self.flat)))), 1e-2) if self.flat.size else 1.0
        self.start = [t.copy() for t in copy.forward()]
        pairs = zip(self.seeds, self.start, strict=True)
        self.noise = 4 * np.finfo(np.float64).eps * float(sum(np.linalg.norm(seed * top) for seed, top in pairs))
        self.gradient = self._analytic().reshape(-1)
        self.kinks = self._kinks(4 * LARGEST_STEP_AT_KINKS * self.scale)
        self.largest_step = LARGEST_STEP_AT_KINKS if self.kinks else np.inf
        free = np.flatnonzero(~self.kinks.near.reshape(-1)) if self.kinks else np.arange(self.flat.size)
        chosen = free if free.size <= MOST_MOVED else np.sort(rng.choice(free, MOST_MOVED, replace=False))
        self.free, self.signs = chosen, rng.choice([-1.0, 1.0], chosen.size)
        self.rng = rng

    def _analytic(self) -> np.ndarray:
        bottoms, params = self.copy.backward(self.seeds, self.wanted)
        return (params if self.wrt.is_param else bottoms)[self.wrt.number]

    @property
    def wanted(self) -> list[bool]:
        """Which bottom diffs are asked for."""
        return list(self.e.record.propagate_down)

    def _kinks(self, radius: float) -> Kinks | None:
        return None if self.wrt.is_param else self.e.kinks(self.wrt.number, self.copy.inputs, radius)

    def index(self, position: int) -> Index:
        """A flat position as an index."""
        return unravel(position, self.values.shape)

    def along(self, positions: np.ndarray, signs: np.ndarray) -> tuple[float, Estimate]:
        """The analytic and the numeric derivative when the elements at `positions` move by `signs`."""
        kept = self.flat[positions].copy()

        def change(step: float) -> float:
            self.flat[positions] = kept + step * signs
            tops = zip(self.seeds, self.copy.forward(), self.start, strict=True)
            total = sum(float(np.vdot(seed, top - at)) for seed, top, at in tops)
            self.flat[positions] = kept
            return total

        rough = roughness(change, self.scale) if self.e.record.type == "Python" else 0.0
        estimate = derivative(change, self.scale, self.largest_step, max(self.noise, rough))
        return float(self.gradient[positions] @ signs), estimate

    def disagreement(self, positions: np.ndarray, signs: np.ndarray) -> tuple[float, bool]:
        """How far, relatively, the two derivatives lie apart, and whether that is more than they may."""
        analytic, estimate = self.along(positions, signs)
        norm = float(np.linalg.norm(self.gradient[positions]))
        scale = max(norm, abs(analytic), abs(estimate.value))
        apart = abs(analytic - estimate.value)
        allowed = tolerance(estimate, scale) + self.e.known_error * scale
        return apart / scale if scale else apart, not apart <= allowed

    def random_direction(self) -> tuple[float, bool]:
        """`disagreement` along a new random direction of all free elements."""
        self.signs = self.rng.choice([-1.0, 1.0], self.free.size)
        return self.disagreement(self.free, self.signs)

    def first_wrong(self) -> int | None:
        """The position of the first element, in Caffe's order, at which the gradient is wrong; by bisection."""
        low, high = 0, self.free.size
        while high - low > 1:
            middle = (low + high) // 2
            wrong = self.disagreement(self.free[:middle], self.signs[:middle])[1]
            low, high = (low, middle) if wrong else (middle, high)
        position = int(self.free[low])
        return position if self.element(position)[1] else None

    def element(self, position: int) -> tuple[float, bool]:
        """`disagreement` at one element."""
        return self.disagreement(np.array([position]), np.ones(1))

    def sample(self, count: int) -> list[int]:
        """Free elements worth a look of their own: the largest gradient, the smallest, and some at random."""
        if not self.free.size:
            return []
        size = np.abs(self.gradient[self.free])
        drawn = self.rng.integers(self.free.size, size=count)
        return sorted({int(self.free[i]) for i in (int(size.argmax()), int(size.argmin()), *drawn)})
