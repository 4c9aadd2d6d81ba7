"""Gradients against central differences, in float64.

The objective is <seed, top>, with a fixed random seed for each top. Its derivative along random directions of +-1 is as
large as the gradient's norm, so the error is taken relative to that norm: no absolute tolerance that a small gradient
could hide behind. Single elements, the largest among them, tell apart two mistakes that cancel in a sum. Bottoms must
stay more than `step` away from kinks.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from layer_run import LayerRun

STEP = 1e-5
TOLERANCE = 2e-7


def check_gradients(
    run: LayerRun,
    *,
    bottoms: Sequence[int] | None = None,
    params: Sequence[int] | None = None,
    tops: Sequence[int] | None = None,
    seed: int = 1,
    tolerance: float = TOLERANCE,
) -> None:
    """Compare a layer's gradients wrt `bottoms` and `params`, through `tops`, with differences (None: all of them).

    Raises AssertionError naming blob, direction, and both values.
    """
    rng = np.random.default_rng(seed)
    outputs = run.forward()
    seeds = [rng.standard_normal(t.shape) * (tops is None or i in tops) for i, t in enumerate(outputs)]
    bottoms = range(len(run.values)) if bottoms is None else bottoms
    params = range(len(run.layer.blobs)) if params is None else params
    run.clear_param_diffs()
    bottom_diffs, param_diffs = run.backward(seeds, [i in bottoms for i in range(len(run.values))])
    for i in bottoms:
        run.values[i] = run.values[i].astype(np.float64)
        _compare(f"bottom {i}", run, run.values[i], bottom_diffs[i], seeds, rng, tolerance)
    for i in params:
        _compare(f"param {i}", run, run.layer.blobs[i].data, param_diffs[i], seeds, rng, tolerance)


def _compare(
    what: str,
    run: LayerRun,
    x: np.ndarray,
    gradient: np.ndarray,
    seeds: Sequence[np.ndarray],
    rng: np.random.Generator,
    tolerance: float,
) -> None:
    assert gradient.shape == x.shape, f"{what}: diff has shape {gradient.shape}, data {x.shape}"
    assert np.isfinite(gradient).all(), f"{what}: the gradient is not finite"
    norm = np.linalg.norm(gradient)
    for label, direction in _directions(gradient, rng):
        analytic = float((gradient * direction).sum())
        numeric = _derivative(run, x, direction, seeds)
        scale = max(norm, abs(numeric))
        assert abs(analytic - numeric) <= tolerance * scale, (
            f"{what}, {label}: analytic {analytic:.9g}, numeric {numeric:.9g}, gradient's norm {norm:.3g}"
        )


def _directions(gradient: np.ndarray, rng: np.random.Generator) -> Iterator[tuple[str, np.ndarray]]:
    if not gradient.size:
        return
    for i in range(4):
        yield f"direction {i}", rng.choice([-1.0, 1.0], gradient.shape)
    largest = int(np.abs(gradient).argmax())
    for flat in (largest, *rng.integers(gradient.size, size=6)):
        index = np.unravel_index(flat, gradient.shape)
        direction = np.zeros(gradient.shape)
        direction[index] = 1
        yield f"element {tuple(int(i) for i in index)}", direction


def _derivative(run: LayerRun, x: np.ndarray, direction: np.ndarray, seeds: Sequence[np.ndarray]) -> float:
    start = x.copy()
    x[...] = start + STEP * direction
    after = run.forward()
    x[...] = start - STEP * direction
    before = run.forward()
    x[...] = start
    return sum(float((s * (a - b)).sum()) for s, a, b in zip(seeds, after, before, strict=True)) / (2 * STEP)
