"""The whole net: its loss along random directions of all parameters and inputs, through every layer at once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from breve.blob import Blob
from breve.explain.findings import Finding
from breve.explain.numeric import derivative
from breve.explain.replica import Replica
from breve.explain.twin import address, is_source
from breve.explain.unfold import Pass
from breve.explain.verdict import compare, tolerance
from breve.explain.wrt import Wrt

ALL = "all parameters and inputs"
UNTOLD = "cannot tell, kinks or ties just here"
LARGEST_STEP = 1e-6  # a long net has many kinks: small steps cross few of them
MOST_MOVED = 1 << 18  # elements of a blob that a direction moves


@dataclass
class Part:
    """Elements of one parameter or input, their analytic gradient, and how far a direction moves each."""

    name: str
    data: np.ndarray
    index: tuple[np.ndarray, ...]
    gradient: np.ndarray
    direction: np.ndarray

    @classmethod
    def of(cls, name: str, blob: Blob, data: np.ndarray, rng: np.random.Generator) -> Part:
        """Random signs at all elements of a blob, or at some of a large one, as large as its values in `data`."""
        positions = np.arange(blob.count)
        if blob.count > MOST_MOVED:
            positions = rng.choice(blob.count, MOST_MOVED, replace=False)
        index = tuple(np.unravel_index(positions, blob.shape)) if blob.shape else ()
        size = max(float(np.sqrt(np.mean(np.square(data)))), 1e-2)
        return cls(name, data, index, blob.diff[index].copy(), rng.choice([-size, size], positions.size))


def net_findings(run: Pass, *, quick: bool, seed: int = 0) -> Iterator[Finding]:
    """One finding for the net, or, where it is wrong, one for every parameter and input that is."""
    replica = Replica(run.net, seed, exact=True)
    replica.run()
    yield from _engine_findings(run, replica, seed)
    rng = np.random.default_rng([seed, 11])
    parts = [Part.of(name, blob, replica.initial_data(blob), rng) for name, blob in _moved(replica)]
    if not parts:
        return
    together = [_along(replica, parts, rng) for _ in range(1 if quick else 2)]
    if all(f.ok and f.verdict != UNTOLD for f in together):
        yield together[0]
        return
    apart = [_along(replica, [part], rng) for part in parts]
    wrong = [f for f in apart if not f.ok] or [f for f in together if not f.ok]
    yield from wrong or [_those_told(apart)]


def _those_told(apart: Sequence[Finding]) -> Finding:
    """One finding for parameters and inputs that were moved one by one, because together they met kinks."""
    told = [f for f in apart if f.verdict != UNTOLD]
    if not told:
        return replace(apart[0], wrt=ALL)
    others = ", ".join(f.wrt for f in apart if f.verdict == UNTOLD)
    worst = max(f.error for f in told)
    verdict = f"agrees (to {worst:.1g})" + (f"; {UNTOLD}: {others}" if others else "")
    return replace(told[0], wrt=f"{len(told)} of {len(apart)} parameters and inputs", verdict=verdict, error=worst)


def _engine_findings(run: Pass, exact: Replica, seed: int) -> Iterator[Finding]:
    """The parameters' gradients of the net as it runs, groups of layers in one sweep, against float64.

    They may be off by ten times what the same layers, run one by one, are off by: rounding passes kinks on its way.
    """
    engine = Replica(run.net, seed)
    if engine.dtype == exact.dtype or not any(s.layer.blobs for s in engine.steps if s.layer.type != "BatchNorm"):
        return
    engine.run()
    one_by_one = _errors(engine, exact)
    engine.run_as_net()
    together = _errors(engine, exact)
    worst = max(together, key=lambda name: together[name] - 10 * one_by_one[name])
    error, bound = together[worst], 10 * one_by_one[worst] + 1e-5
    ok = error <= bound
    verdict = f"{engine.dtype.name} rounding through all layers, {error:.1g}, within its bound {bound:.1g}"
    if not ok:
        verdict = f"wrong: as the net runs, off by {error:.2g} of its size; layer by layer by {one_by_one[worst]:.1g}"
    yield Finding("(the whole net)", "Net", worst, "engine", verdict, ok, error)


def _errors(engine: Replica, exact: Replica) -> dict[str, float]:
    """How far each parameter's gradient lies from the exact one, relative to its size."""
    pairs = {
        f"{step.layer.name} {Wrt(True, i).name}": (blob.diff, other.diff)
        for step, twin in zip(engine.steps, exact.steps, strict=True)
        if step.layer.type != "BatchNorm"
        for i, (blob, other) in enumerate(zip(step.layer.blobs, twin.layer.blobs, strict=True))
    }
    norms = {name: float(np.linalg.norm(right)) for name, (_, right) in pairs.items()}
    least = 1e-4 * max(norms.values())  # a gradient that is zero but for rounding has no size of its own
    return {
        name: float(np.linalg.norm(found - right)) / max(norms[name], least, 1e-30)
        for name, (found, right) in pairs.items()
    }


def _moved(replica: Replica) -> list[tuple[str, Blob]]:
    """Every parameter (shared ones once) and every input that gradients reach, with a name."""
    found: dict[int, tuple[str, Blob]] = {}
    for step in replica.steps:
        for i, blob in enumerate(step.layer.blobs if step.needs_backward and step.layer.type != "BatchNorm" else ()):
            found.setdefault(address(blob), (f"{step.layer.name} {Wrt(True, i).name}", blob))
    inputs = [top for step in replica.steps if is_source(step.layer) for top in step.top]
    for step in replica.steps:
        for blob, flows in zip(step.bottom, step.propagate_down, strict=True):
            if step.needs_backward and flows and any(blob is top for top in inputs):
                found.setdefault(id(blob), (replica.names.get(id(blob), "input"), blob))
    return [part for part in found.values() if part[1].count]


def _along(replica: Replica, parts: list[Part], rng: np.random.Generator) -> Finding:
    directions = [part.direction * rng.choice([-1.0, 1.0], part.direction.size) for part in parts]
    kept = [part.data[part.index] for part in parts]
    loss = replica.objective_value()

    def change(step: float) -> float:
        for part, value, direction in zip(parts, kept, directions, strict=True):
            part.data[part.index] = value + (step * direction).reshape(np.shape(value))
        moved = replica.objective_value()
        for part, value in zip(parts, kept, strict=True):
            part.data[part.index] = value
        return moved - loss

    products = [part.gradient.reshape(-1) * d for part, d in zip(parts, directions, strict=True)]
    analytic = sum(float(p.sum()) for p in products)
    norm = float(np.sqrt(sum(float(np.square(p).sum()) for p in products)))
    estimate = derivative(change, largest=LARGEST_STEP, noise=1e-15 * abs(loss))
    scale = max(norm, abs(analytic), abs(estimate.value))
    ok = bool(estimate.kink) or abs(analytic - estimate.value) <= tolerance(estimate, scale)
    verdict = UNTOLD if estimate.kink else compare(analytic, estimate, scale=scale)
    wrt = ALL if len(parts) > 1 else parts[0].name
    error = abs(analytic - estimate.value) / scale if scale else 0.0
    return Finding("(the whole net)", "Net", wrt, "net", verdict, ok, error, None, analytic, estimate.value)
