"""The `caffe` package as scripts know it, thin over breve's own classes."""

from breve.pycaffe._net import Net
from breve.pycaffe._run import TEST, TRAIN, set_device, set_mode_cpu, set_mode_gpu, set_random_seed
from breve.pycaffe._solver import (
    AdaDeltaSolver,
    AdaGradSolver,
    AdamSolver,
    NesterovSolver,
    RMSPropSolver,
    SGDSolver,
    get_solver,
)

__all__ = [
    "TEST", "TRAIN", "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "NesterovSolver", "Net", "RMSPropSolver",
    "SGDSolver", "get_solver", "set_device", "set_mode_cpu", "set_mode_gpu", "set_random_seed",
]  # fmt: skip
