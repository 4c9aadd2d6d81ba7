"""Caffe's solver classes, holding pycaffe's nets."""

from __future__ import annotations

from typing import Any

from breve import solvers
from breve.pycaffe._net import Net


class SGDSolver(solvers.SGDSolver):
    """Stochastic gradient descent with momentum."""

    net_class = Net


class NesterovSolver(solvers.NesterovSolver):
    """Nesterov's accelerated gradient."""

    net_class = Net


class AdaGradSolver(solvers.AdaGradSolver):
    """AdaGrad."""

    net_class = Net


class RMSPropSolver(solvers.RMSPropSolver):
    """RMSProp."""

    net_class = Net


class AdaDeltaSolver(solvers.AdaDeltaSolver):
    """AdaDelta."""

    net_class = Net


class AdamSolver(solvers.AdamSolver):
    """Adam."""

    net_class = Net


class Solver(solvers.Solver):
    """The rule that the prototxt's `type` names."""

    net_class = Net


def get_solver(source: Any) -> Solver:
    """The solver that a prototxt describes. Raises ParseError, SolverError, and what building its nets raises."""
    return Solver(source)
