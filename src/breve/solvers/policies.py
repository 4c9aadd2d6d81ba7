"""Learning-rate policies: how the rate depends on the iteration. One table, Caffe's formulas.

| lr_policy | rate at iteration t |
|---|---|
| `fixed` | base_lr |
| `step` | base_lr * gamma ^ floor(t / stepsize) |
| `exp` | base_lr * gamma ^ t |
| `inv` | base_lr * (1 + gamma * t) ^ -power |
| `multistep` | base_lr * gamma ^ (number of stepvalues reached, at most one more an iteration) |
| `poly` | base_lr * (1 - t / max_iter) ^ power |
| `sigmoid` | base_lr / (1 + exp(-gamma * (t - stepsize))) |
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from breve.errors import SolverError, did_you_mean


@dataclass(frozen=True)
class Policy:
    """`rate(param, iteration, current_step)`, how `current_step` moves, and the fields that it cannot do without."""

    rate: Callable[[Any, int, int], float]
    needs: tuple[str, ...] = ()
    step: Callable[[Any, int, int], int] = lambda param, iteration, current_step: current_step


def _steps_done(param: Any, iteration: int, current_step: int) -> int:
    return iteration // param.stepsize


def _next_step_reached(param: Any, iteration: int, current_step: int) -> int:
    waiting = current_step < len(param.stepvalue)
    return current_step + (waiting and iteration >= param.stepvalue[current_step])


def _staircase(param: Any, iteration: int, current_step: int) -> float:
    return param.base_lr * param.gamma**current_step


def _poly(param: Any, iteration: int, current_step: int) -> float:
    if iteration > param.max_iter:
        raise SolverError(
            "lr_policy 'poly' ends at max_iter",
            expected=f"at most {param.max_iter} iterations",
            found=f"iteration {iteration}",
            hint="raise max_iter or choose another lr_policy",
        )
    return param.base_lr * (1 - iteration / param.max_iter) ** param.power


def _sigmoid(param: Any, iteration: int, current_step: int) -> float:
    x = param.gamma * (iteration - param.stepsize)
    return param.base_lr * (1 / (1 + math.exp(-x)) if x > 0 else math.exp(x) / (1 + math.exp(x)))


POLICIES = {
    "fixed": Policy(lambda param, iteration, current_step: param.base_lr),
    "step": Policy(_staircase, ("gamma", "stepsize"), _steps_done),
    "exp": Policy(lambda param, iteration, current_step: param.base_lr * param.gamma**iteration, ("gamma",)),
    "inv": Policy(
        lambda param, iteration, current_step: param.base_lr * (1 + param.gamma * iteration) ** -param.power,
        ("gamma", "power"),
    ),
    "multistep": Policy(_staircase, ("gamma", "stepvalue"), _next_step_reached),
    "poly": Policy(_poly, ("power", "max_iter")),
    "sigmoid": Policy(_sigmoid, ("gamma", "stepsize")),
}


def check_policy(param: Any, where: Callable[[str], str]) -> None:
    """Raise SolverError unless `param` names a policy and gives it what it needs, in range.

    `where(field)` is the place that an error about a field names.
    """
    if param.lr_policy not in POLICIES:
        message = f"unknown lr_policy '{param.lr_policy}'" if param.lr_policy else "lr_policy is missing"
        raise SolverError(message, where=where("lr_policy"), hint=did_you_mean(param.lr_policy, POLICIES))
    needs = POLICIES[param.lr_policy].needs
    for field in ("base_lr", *needs):
        given = len(param.stepvalue) if field == "stepvalue" else param.HasField(field)
        if not given:
            raise SolverError(f"lr_policy '{param.lr_policy}' needs {field}", where=where("lr_policy"))
    for field, least in (("gamma", 0), ("stepsize", 1), ("max_iter", 1)):
        if field in needs and getattr(param, field) < least:
            found = f"{getattr(param, field):g}"
            raise SolverError(f"{field} is out of range", where=where(field), expected=f"at least {least}", found=found)
    if list(param.stepvalue) != sorted(param.stepvalue):
        raise SolverError("the stepvalues must rise", where=where("stepvalue"), found=list(param.stepvalue))


def learning_rate(param: Any, iteration: int, current_step: int) -> tuple[float, int]:
    """The rate at `iteration` and the `current_step` that goes with it, given the step of the iteration before.

    >>> from breve.proto import SolverParameter
    >>> param = SolverParameter(lr_policy="step", base_lr=1.0, gamma=0.5, stepsize=10)
    >>> learning_rate(param, 25, 0)
    (0.25, 2)
    """
    policy = POLICIES[param.lr_policy]
    current_step = policy.step(param, iteration, current_step)
    return policy.rate(param, iteration, current_step), current_step
