"""The six update rules as a table: their kernel, how many histories they keep, their constants and their demands.

Papers: Nesterov after Sutskever et al. 2013; AdaGrad, Duchi et al. 2011; RMSProp, Tieleman and Hinton 2012; AdaDelta,
Zeiler 2012; Adam, Kingma and Ba 2015. Where they leave a choice, it is that of Caffe's `solvers/*_solver.cpp`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from breve.errors import SolverError, did_you_mean
from breve.kernels import update


def _uncorrected(param: Any, iteration: int) -> float:
    return 1.0


def _adam_correction(param: Any, iteration: int) -> float:
    t = iteration + 1
    return math.sqrt(1 - param.momentum2**t) / (1 - param.momentum**t)


@dataclass(frozen=True)
class Rule:
    """One update rule.

    `constants(param)` follow the learning rate among the kernel's arguments. `correction(param, iteration)` multiplies
    the rate. `num_histories` arrays of its shape are kept for each parameter. `fractions` are fields that must lie in
    [0, 1). `takes_momentum` says whether a momentum is allowed at all.
    """

    kernel: Callable[..., None]
    constants: Callable[[Any], tuple[float, ...]]
    num_histories: int = 1
    fractions: tuple[str, ...] = ()
    takes_momentum: bool = True
    correction: Callable[[Any, int], float] = _uncorrected


RULES = {
    "SGD": Rule(update.sgd, lambda p: (p.momentum,)),
    "Nesterov": Rule(update.nesterov, lambda p: (p.momentum, 1 + p.momentum)),
    "AdaGrad": Rule(update.adagrad, lambda p: (p.delta,), takes_momentum=False),
    "RMSProp": Rule(
        update.rmsprop,
        lambda p: (p.rms_decay, 1 - p.rms_decay, p.delta),
        fractions=("rms_decay",),
        takes_momentum=False,
    ),
    "AdaDelta": Rule(update.adadelta, lambda p: (p.momentum, 1 - p.momentum, p.delta), 2),
    "Adam": Rule(
        update.adam,
        lambda p: (p.momentum, 1 - p.momentum, p.momentum2, 1 - p.momentum2, p.delta),
        2,
        fractions=("momentum", "momentum2"),
        correction=_adam_correction,
    ),
}


def check_rule(param: Any, where: Callable[[str], str]) -> None:
    """Raise SolverError unless the fields that the rule of `param.type` reads are in range.

    `where(field)` is the place that an error about a field names.
    """
    if param.type not in RULES:
        hint = did_you_mean(param.type, RULES)
        raise SolverError(f"unknown solver type '{param.type}'", where=where("type"), hint=hint)
    rule = RULES[param.type]
    if param.momentum and not rule.takes_momentum:
        message = f"{param.type} takes no momentum"
        raise SolverError(message, where=where("momentum"), found=f"{param.momentum:g}", hint="remove momentum")
    for field in rule.fractions:
        if not 0 <= getattr(param, field) < 1:
            found = f"{getattr(param, field):g}"
            raise SolverError(f"{field} is out of range", where=where(field), expected="0 <= value < 1", found=found)
    if param.regularization_type not in ("L1", "L2"):
        found = repr(param.regularization_type)
        raise SolverError(
            "unknown regularization_type", where=where("regularization_type"), expected="L1 or L2", found=found
        )
