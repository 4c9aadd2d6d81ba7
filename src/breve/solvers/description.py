"""What a solver prototxt asks for: the nets to build, the files to read, and whether it makes sense."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from breve.errors import SolverError
from breve.proto import SolverParameter
from breve.proto.text import read_solver, read_text
from breve.proto.tokens import field_lines
from breve.proto.upgrade import upgrade_solver
from breve.solvers.policies import check_policy
from breve.solvers.rules import check_rule

log = logging.getLogger("breve")

TRAIN_FIELDS = ("net", "net_param", "train_net", "train_net_param")
LEAST = {"iter_size": 1, "average_loss": 1, "max_iter": 0, "snapshot": 0, "weight_decay": 0, "test_iter": 1}
"""The least value of a number."""


@dataclass(frozen=True)
class NetChoice:
    """What one of the solver's nets is built from."""

    source: Any
    phase: str
    level: int | None
    stages: tuple[str, ...]


class Description:
    """A checked SolverParameter, and the folder that its paths may be relative to.

    `source` is the path of a solver prototxt or a SolverParameter. A rule's name in `type` overrides the file's.
    Raises ParseError, and SolverError with file and line where a field is missing, out of range or contradicts another.
    """

    def __init__(self, source: str | os.PathLike[str] | Any, type: str = "") -> None:
        self.path: Path | None = None
        if isinstance(source, (str, os.PathLike)):
            self.path = Path(source)
            self.param = read_solver(source)
        else:
            self.param = SolverParameter()
            self.param.CopyFrom(source)
            upgrade_solver(self.param)
        if type:
            self.param.type = type
        self._check()

    def where(self, field: str) -> str:
        """`file:line` of a field, the file alone where it is not given, empty for a SolverParameter without a file."""
        if self.path is None:
            return ""
        lines = field_lines(read_text(self.path), {field})
        return f"{self.path}:{lines[0]}" if lines else str(self.path)

    def _error(self, field: str, message: str, **facts: Any) -> SolverError:
        return SolverError(message, where=self.where(field), **facts)

    def _check(self) -> None:
        check_rule(self.param, self.where)
        check_policy(self.param, self.where)
        for field, least in LEAST.items():
            value = getattr(self.param, field)
            for number in value if field == "test_iter" else [value]:
                if not number >= least:
                    raise self._error(
                        field, f"{field} is out of range", expected=f"at least {least}", found=f"{number:g}"
                    )
        self._check_train_net()
        self._check_test_nets()
        self._tell_what_is_passed_over()

    def _check_train_net(self) -> None:
        given = [field for field in TRAIN_FIELDS if self.param.HasField(field)]
        if len(given) != 1:
            raise self._error(
                given[-1] if given else "net",
                "a solver has one training net",
                expected="exactly one of " + ", ".join(TRAIN_FIELDS),
                found=" and ".join(given) or "none of them",
            )

    def _check_test_nets(self) -> None:
        own = len(self.param.test_net) + len(self.param.test_net_param)
        asked, states = len(self.param.test_iter), len(self.param.test_state)
        more_allowed = self.param.HasField("net") or self.param.HasField("net_param")
        if asked < own or (asked > own and not more_allowed):
            message = "test_iter must be given once for each test net"
            raise self._error("test_iter", message, expected=own, found=asked)
        if states not in (0, asked):
            message = "test_state is given once for each test net, or not at all"
            raise self._error("test_state", message, expected=asked, found=states)
        if asked and self.param.test_interval <= 0:
            raise self._error(
                "test_interval",
                "a test net needs test_interval",
                expected="at least 1",
                found=self.param.test_interval,
                hint="write test_interval, or remove test_iter",
            )

    def _tell_what_is_passed_over(self) -> None:
        if self.param.debug_info:
            hint = "breve check and breve explain look into a net"
            log.warning("%s: debug_info prints nothing here; %s", self.where("debug_info"), hint)
        if self.param.HasField("solver_mode") and self.param.solver_mode == self.param.GPU:
            log.info("solver_mode GPU: breve trains on the CPU")

    @property
    def train_net(self) -> NetChoice:
        """The net that is trained."""
        field = next(field for field in TRAIN_FIELDS if self.param.HasField(field))
        return self._choice(getattr(self.param, field), "TRAIN", self.param.train_state)

    @property
    def test_nets(self) -> list[NetChoice]:
        """The nets that are tested, in Caffe's order: test_net_param, test_net, then the training net in phase TEST."""
        param = self.param
        sources = [*param.test_net_param, *param.test_net]
        generic = param.net if param.HasField("net") else param.net_param
        sources += [generic] * (len(param.test_iter) - len(sources))
        states = param.test_state or [type(param.train_state)()] * len(sources)
        return [self._choice(s, "TEST", state) for s, state in zip(sources, states, strict=True)]

    def _choice(self, source: Any, phase: str, state: Any) -> NetChoice:
        if isinstance(source, str):
            source = self.locate(source, "net")
        if state.HasField("phase"):
            phase = ("TRAIN", "TEST")[state.phase]
        return NetChoice(source, phase, state.level if state.HasField("level") else None, tuple(state.stage))

    def weight_files(self, lists: Iterable[str]) -> list[Path]:
        """The files named by comma-separated lists."""
        return [self.locate(name.strip(), "weights") for text in lists for name in text.split(",") if name.strip()]

    def locate(self, name: str, field: str) -> Path:
        """A file as named, as Caffe finds it (from the current directory), else beside the solver's own file."""
        beside = (self.path.parent if self.path else Path()) / name
        for path in (Path(name), beside):
            if path.exists():
                return path
        hint = "looked in the current directory" + (f" and at {beside}" if self.path else "")
        raise self._error(field, f"there is no file {name}", hint=hint)

    def snapshot_prefix(self) -> str:
        """What the names of snapshots begin with. Raises SolverError where it is not given."""
        if not self.param.snapshot_prefix:
            hint = "set it, or turn snapshots off: snapshot_after_train: false"
            raise self._error("snapshot_prefix", "snapshot_prefix is missing", hint=hint)
        return self.param.snapshot_prefix

    def check_solvable(self) -> None:
        """Raise SolverError unless `max_iter` is given and the snapshots that training will take can be written."""
        if not self.param.HasField("max_iter"):
            raise self._error("max_iter", "max_iter is missing", hint="say how many iterations to train")
        if not (self.param.snapshot or self.param.snapshot_after_train):
            return
        folder = Path(self.snapshot_prefix()).parent
        if not folder.is_dir() or not os.access(folder, os.W_OK):
            raise self._error(
                "snapshot_prefix",
                "snapshots cannot be written",
                expected=f"a folder {folder} to write to",
                found="no such folder" if not folder.is_dir() else "no permission",
                hint=f"make it (mkdir -p {folder}) or change snapshot_prefix",
            )
