"""Caffe, in short: convolutional networks that train fast on a CPU and show how every gradient came about.

>>> import breve
>>> net = breve.Net("lenet.prototxt", "TEST", weights="lenet.caffemodel")  # doctest: +SKIP
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_PUBLIC = {
    "Net": "breve.net",
    "Blob": "breve.blob",
    "BreveError": "breve.errors",
    "set_random_seed": "breve.randomness",
    "set_num_threads": "breve.kernels.threads",
    "get_num_threads": "breve.kernels.threads",
    "set_algorithm": "breve.kernels.convolution",
    "get_algorithm": "breve.kernels.convolution",
    "get_solver": "breve.solvers",
    "SGDSolver": "breve.solvers",
    "NesterovSolver": "breve.solvers",
    "AdaGradSolver": "breve.solvers",
    "RMSPropSolver": "breve.solvers",
    "AdaDeltaSolver": "breve.solvers",
    "AdamSolver": "breve.solvers",
    "allow_python_layers": "breve.pycaffe",
    "install_as_caffe": "breve.pycaffe",
    "explain": "breve",
    "check": "breve.explain",
    "functional": "breve",
    "pycaffe": "breve",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    """Public names are imported when first used: importing breve must not load the compiler."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'breve' has no attribute {name!r}")
    module = _PUBLIC[name]
    value = import_module(f"breve.{name}") if module == "breve" else getattr(import_module(module), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
