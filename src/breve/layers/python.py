"""Layers that the user writes in Python, as Caffe's Python layer runs them.

A prototxt that names a module to import runs whatever that module holds. So nothing is imported until the program says
`allow_python_layers()`.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Sequence
from typing import Any, ClassVar

import numpy as np

from breve.blob import Blob
from breve.errors import BreveError, LayerError, UnsupportedError, did_you_mean
from breve.layers.base import Layer

PHASES = {"TRAIN": 0, "TEST": 1}
BUILT_IN = {("rpn.proposal_layer", "ProposalLayer"): "breve.layers.proposal"}
"""Layers that prototxts name and few can import: breve's own stand in, unless the module is there and allowed."""
_state = {"allowed": False}


def allow_python_layers(allowed: bool = True) -> None:
    """Let prototxts name Python modules whose layers are imported and run. Only for prototxts that you trust."""
    _state["allowed"] = allowed


class BlobList(list):
    """The parameters of a user's layer: a list of blobs with pycaffe's `add_blob`."""

    def __init__(self, dtype: Any) -> None:
        super().__init__()
        self.dtype = dtype

    def add_blob(self, *shape: int) -> Blob:
        """Append a parameter of `shape`, filled with zeros."""
        self.append(Blob(shape, self.dtype, channels_last=False))
        return self[-1]


class UserLayer:
    """What a user's layer derives from (`caffe.Layer`): override `setup`, `reshape`, `forward` and `backward`.

    `bottom` and `top` are lists of blobs with `data`, `diff`, `shape` and `reshape(*shape)`. `self.param_str` is the
    text in the prototxt, `self.phase` 0 (TRAIN) or 1 (TEST), and `self.blobs.add_blob(*shape)`, in `setup`, makes a
    parameter.
    """

    blobs: BlobList
    param_str: str
    phase: int

    def __init__(self, *param: Any) -> None:
        pass

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Check `param_str` and the number of blobs; make parameters."""

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Give the tops their shapes."""
        raise NotImplementedError

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Write `top[i].data[...]`."""
        raise NotImplementedError

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Write `bottom[i].diff[...]` where `propagate_down[i]`, and add to `self.blobs[i].diff`."""
        raise NotImplementedError


class Python(Layer):
    """A layer of the user's own, written in Python.

    Forward: what the user's `forward(bottom, top)` writes.
    Backward: what the user's `backward(top, propagate_down, bottom)` writes.
    Blobs: any bottoms and tops; `reshape(bottom, top)` shapes the tops before every forward pass.
    Params: those that the user's `setup` adds with `self.blobs.add_blob(*shape)`.
    Fields: python_param: `module` (required), `layer` (required; the class in it), `param_str` (empty);
        `share_in_parallel` is ignored.
    Errors: Python layers are not allowed; no such module or class; whatever the user's code raises, as a LayerError.
    Source: Caffe's python_layer; the user's class derives from `caffe.Layer`, here `breve.pycaffe.Layer`.
    """

    bottom_counts: ClassVar[tuple[int, int | None]] = (0, None)
    top_counts: ClassVar[tuple[int, int | None]] = (0, None)
    in_place: ClassVar[bool] = True
    reshapes_always: ClassVar[bool] = True

    def __init__(self, param: Any, phase: str = "TEST", dtype: Any = np.float32, rng: Any = None) -> None:
        super().__init__(param, phase, dtype, rng)
        self.user = _make(param.python_param)
        self.user.blobs = self.blobs = BlobList(self.dtype)
        self.user.param_str = self.user.param_str_ = param.python_param.param_str
        self.user.phase = PHASES[phase]

    def setup(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Run the user's `setup`."""
        self._call("setup", bottom, top)
        self.param_propagate_down = [True] * len(self.blobs)

    def reshape(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Run the user's `reshape`."""
        self._call("reshape", bottom, top)

    def forward(self, bottom: Sequence[Blob], top: Sequence[Blob]) -> None:
        """Run the user's `forward`."""
        self._call("forward", bottom, top)

    def backward(self, top: Sequence[Blob], propagate_down: Sequence[bool], bottom: Sequence[Blob]) -> None:
        """Run the user's `backward`."""
        self._call("backward", top, propagate_down, bottom)

    def _call(self, method: str, *args: Any) -> None:
        try:
            getattr(self.user, method)(*args)
        except BreveError:
            raise
        except Exception as error:
            raised = f"{type(error).__name__}: {error}"
            raise LayerError(f"{type(self.user).__name__}.{method} raised {raised}") from error


def _make(param: Any) -> Any:
    """The user's object. Raises UnsupportedError unless allowed, LayerError where it cannot be made."""
    what = f"{param.module}.{param.layer}"
    if (param.module, param.layer) in BUILT_IN and not (_state["allowed"] and _is_there(param.module)):
        return getattr(importlib.import_module(BUILT_IN[param.module, param.layer]), param.layer)()
    if not _state["allowed"]:
        raise UnsupportedError(
            f"the prototxt wants to run Python code ({what}), and that is not allowed",
            hint="if you trust it: breve.allow_python_layers(), or --allow-python-layers on the command line",
        )
    try:
        module = importlib.import_module(param.module)
    except Exception as error:
        raised = f"{type(error).__name__}: {error}"
        raise LayerError(
            f"the module {param.module!r} cannot be imported: {raised}", hint="its folder must be on PYTHONPATH"
        ) from error
    if not hasattr(module, param.layer):
        raise LayerError(
            f"the module {param.module!r} has no class {param.layer!r}", hint=did_you_mean(param.layer, vars(module))
        )
    cls = getattr(module, param.layer)
    return cls(param) if issubclass(cls, UserLayer) else cls()


def _is_there(module: str) -> bool:
    """Whether a module can be found; its packages are imported on the way."""
    try:
        return importlib.util.find_spec(module) is not None
    except ImportError:
        return False
