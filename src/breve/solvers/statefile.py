"""A `.solverstate` on disk: binary, or HDF5 where its name ends in `.h5`; Caffe reads both, and its own are read."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from breve.errors import FileFormatError
from breve.proto.binary import read_message, write_binary
from breve.proto.blobs import array_to_blob, blob_to_array
from breve.proto.files import HDF5_MAGIC, whole_file
from breve.proto.schema import WIRE_MESSAGES


@dataclass
class StateFile:
    """What a solver state says; `extra` is breve's own addition."""

    iter: int
    learned_net: str
    current_step: int
    history: list[np.ndarray]
    extra: bytes = b""


def write(state: StateFile, path: str | os.PathLike[str]) -> None:
    """Write a solver state, whole or not at all. Raises FileFormatError where that cannot be."""
    if Path(path).suffix == ".h5":
        with whole_file(path) as temporary:
            _write_hdf5(state, temporary)
    else:
        write_binary(_message(state), path)


def read(path: str | os.PathLike[str]) -> StateFile:
    """Read a solver state. Raises FileFormatError where it is missing, damaged or something else."""
    with contextlib.suppress(OSError), open(path, "rb") as file:
        if file.read(len(HDF5_MAGIC)) == HDF5_MAGIC:
            return _read_hdf5(path)
    return _read_binary(path)


def _message(state: StateFile) -> Any:
    message = WIRE_MESSAGES["SolverState"](
        iter=state.iter, learned_net=state.learned_net, current_step=state.current_step, breve_state=state.extra
    )
    for array in state.history:
        array_to_blob(array, message.history.add())
    return message


def _read_binary(path: str | os.PathLike[str]) -> StateFile:
    message = read_message(path, WIRE_MESSAGES["SolverState"], "a solver state (.solverstate)")
    if not message.HasField("iter"):
        raise _damaged(path, "no iteration in it")
    history = [blob_to_array(blob) for blob in message.history]
    return StateFile(message.iter, message.learned_net, message.current_step, history, message.breve_state)


def _write_hdf5(state: StateFile, path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["iter"] = np.array([state.iter], np.int32)
        file["learned_net"] = np.bytes_(state.learned_net)
        file["current_step"] = np.array([state.current_step], np.int32)
        group = file.create_group("history")
        for i, array in enumerate(state.history):
            group[str(i)] = array
        file["breve_state"] = np.frombuffer(state.extra, np.uint8)


def _read_hdf5(path: str | os.PathLike[str]) -> StateFile:
    try:
        with h5py.File(path) as file:
            history = [file["history"][str(i)][()] for i in range(len(file["history"]))]
            learned_net = file["learned_net"][()].decode() if "learned_net" in file else ""
            extra = file["breve_state"][()].tobytes() if "breve_state" in file else b""
            return StateFile(int(file["iter"][0]), learned_net, int(file["current_step"][0]), history, extra)
    except (OSError, KeyError, ValueError, AttributeError) as error:
        raise _damaged(path, str(error)) from error


def _damaged(path: str | os.PathLike[str], reason: str) -> FileFormatError:
    return FileFormatError(
        "not a whole solver state",
        where=str(path),
        expected="a solver state (.solverstate)",
        found=reason,
        hint="take an older snapshot, or start from the .caffemodel as weights",
    )
