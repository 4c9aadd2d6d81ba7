"""Training: the loop, update rules, learning-rate policies, snapshots."""

from __future__ import annotations

import os
from typing import Any

from breve.solvers.report import Report
from breve.solvers.solver import Action, Solver


class SGDSolver(Solver):
    """Stochastic gradient descent with momentum."""

    type = "SGD"


class NesterovSolver(Solver):
    """Nesterov's accelerated gradient."""

    type = "Nesterov"


class AdaGradSolver(Solver):
    """Rates that fall with the sum of an element's squared gradients."""

    type = "AdaGrad"


class RMSPropSolver(Solver):
    """Rates that follow a moving average of an element's squared gradients."""

    type = "RMSProp"


class AdaDeltaSolver(Solver):
    """Steps scaled by the ratio of past updates to past gradients."""

    type = "AdaDelta"


class AdamSolver(Solver):
    """Moving averages of gradient and squared gradient, corrected for their start."""

    type = "Adam"


def get_solver(source: str | os.PathLike[str] | Any, **options: Any) -> Solver:
    """The solver that a solver prototxt (or SolverParameter) describes, by its `type`; `options` as for `Solver`."""
    return Solver(source, **options)


__all__ = [
    "Action", "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "RMSPropSolver", "Report", "SGDSolver",
    "Solver", "get_solver",
]  # fmt: skip
