"""Snapshots: a `.caffemodel` and a `.solverstate` in Caffe's forms, and the way back.

Caffe's solver state holds the iteration, the step of the learning-rate policy, the name of the model file and the
rule's history. Beside them breve keeps what else a run depends on: each layer's random state and place in its data, and
the losses being averaged. Caffe passes that over; breve, given a state of Caffe's, goes without.
"""

from __future__ import annotations

import base64
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from breve import weights
from breve.errors import FileFormatError, SolverError
from breve.solvers import statefile
from breve.solvers.losses import LossAverage
from breve.solvers.statefile import StateFile

if TYPE_CHECKING:
    from breve.solvers.solver import Solver

HDF5 = 0  # SolverParameter.SnapshotFormat


def save(solver: Solver) -> str:
    """Write the model, then the solver state; the latter's path. Raises SolverError or FileFormatError."""
    ending = ".h5" if solver.param.snapshot_format == HDF5 else ""
    prefix = f"{solver.description.snapshot_prefix()}_iter_{solver.iter}"
    model, state = f"{prefix}.caffemodel{ending}", f"{prefix}.solverstate{ending}"
    solver.report.snapshotting(model)
    solver.net.save(model, solver.param.snapshot_diff)
    solver.report.snapshotting(state, "solver state")
    statefile.write(StateFile(solver.iter, model, solver.current_step, solver.history, _pack(_extra(solver))), state)
    return state


def restore(solver: Solver, path: str | os.PathLike[str]) -> None:
    """Set a solver to a snapshot. Raises FileFormatError or SolverError; the solver is unchanged then."""
    state = statefile.read(path)
    _check_history(solver, state, path)
    extra = _unpack(state.extra, path)
    if state.learned_net:
        solver.net.copy_from(_model_of(state, Path(path)))
    for mine, saved in zip(solver.history, state.history, strict=True):
        mine[...] = saved.reshape(mine.shape)
    solver.iter, solver.current_step = state.iter, state.current_step
    _apply(solver, extra)


def _model_of(state: StateFile, path: Path) -> Path:
    """The model file that belongs to a state: as named, else beside the state."""
    for model in (Path(state.learned_net), path.parent / Path(state.learned_net).name):
        if model.exists():
            return model
    raise SolverError(
        "the model file of this solver state is missing",
        where=str(path),
        expected=state.learned_net,
        hint=f"put {Path(state.learned_net).name} beside the solver state",
    )


def _check_history(solver: Solver, state: StateFile, path: str | os.PathLike[str]) -> None:
    if len(state.history) != len(solver.history):
        raise SolverError(
            "the solver state is of another net or another type of solver",
            where=str(path),
            expected=f"{len(solver.history)} history blobs for type {solver.param.type}",
            found=len(state.history),
        )
    for i, (mine, saved) in enumerate(zip(solver.history, state.history, strict=True)):
        if weights.legacy(mine.shape) != weights.legacy(saved.shape):
            raise SolverError(
                f"history blob {i} of the solver state has another shape",
                where=str(path),
                expected=mine.shape,
                found=saved.shape,
            )


def _extra(solver: Solver) -> dict[str, Any]:
    nets = [{layer.name: layer.state() for layer in net.layers} for net in (solver.net, *solver.test_nets)]
    return {"version": 1, "losses": asdict(solver.losses), "nets": nets}


def _apply(solver: Solver, extra: dict[str, Any]) -> None:
    """Set what breve keeps beyond Caffe. Layers that the interrupted run did not have stay as they are."""
    for net, states in zip((solver.net, *solver.test_nets), extra.get("nets", ()), strict=False):
        for layer in net.layers:
            if layer.name in states:
                layer.set_state(states[layer.name])
    losses = LossAverage(**extra.get("losses", {"window": solver.param.average_loss}))
    if losses.window == solver.param.average_loss:
        solver.losses = losses


def _pack(value: Any) -> bytes:
    return json.dumps(value, default=_array_to_json).encode()


def _array_to_json(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    array = np.ascontiguousarray(value)
    return {"array": base64.b64encode(array.tobytes()).decode(), "dtype": str(array.dtype), "shape": array.shape}


def _json_to_array(value: dict[str, Any]) -> Any:
    if value.keys() != {"array", "dtype", "shape"}:
        return value
    return np.frombuffer(base64.b64decode(value["array"]), value["dtype"]).reshape(value["shape"]).copy()


def _unpack(content: bytes, path: str | os.PathLike[str]) -> dict[str, Any]:
    try:
        return json.loads(content or b"{}", object_hook=_json_to_array)
    except ValueError as error:
        raise FileFormatError(
            "breve's part of the solver state is damaged", where=str(path), found=str(error)
        ) from error
