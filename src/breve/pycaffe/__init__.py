"""The `caffe` package as scripts know it, thin over breve's own classes."""

from breve.layers.python import UserLayer as Layer
from breve.pycaffe._install import allow_python_layers, install_as_caffe
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
    "TEST", "TRAIN", "AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Layer", "NesterovSolver", "Net", "RMSPropSolver",
    "SGDSolver", "allow_python_layers", "get_solver", "install_as_caffe", "set_device", "set_mode_cpu", "set_mode_gpu",
    "set_random_seed",
]  # fmt: skip
