"""The instruction sets that the micro-kernel is written for: one row each.

To add one: add a row. The register tile, `tile_rows` by `tile_vectors`, takes tile_rows * tile_vectors registers for
sums, tile_vectors for B and one for the broadcast element of A.
"""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from functools import cache

import numpy as np

from breve.errors import UnsupportedError, did_you_mean

HALVED = ("znver4",)  # processors that multiply a vector of 64 bytes in two halves, by LLVM's names


@dataclass(frozen=True)
class InstructionSet:
    """What the emitter needs to know of a processor family."""

    name: str
    machine: str
    """Architecture in LLVM's words; "" for any."""
    vector_bytes: int
    registers: int
    tile_rows: int
    tile_vectors: int
    chains: int
    """Independent sums that keep the FMA pipelines busy: latency times pipelines."""
    fma: bool
    fast_masks: bool
    """Masked stores cost no more than whole ones."""
    features: tuple[str, ...]
    """Processor features that must be there."""
    cpu: str
    """A processor that has them and little else, to build for when it is not the one at hand."""

    def lanes(self, dtype: np.dtype | type) -> int:
        """Elements of one vector."""
        return self.vector_bytes // np.dtype(dtype).itemsize

    def tile_columns(self, dtype: np.dtype | type) -> int:
        """Columns of the register tile, and of a panel of B."""
        return self.tile_vectors * self.lanes(dtype)


INSTRUCTION_SETS = {
    row.name: row
    for row in (
        InstructionSet("avx512", "x86_64", 64, 32, 6, 4, 8, True, True, ("avx512f", "avx512vl"), "skylake-avx512"),
        InstructionSet("avx2", "x86_64", 32, 16, 6, 2, 8, True, False, ("avx2", "fma"), "haswell"),
        InstructionSet("neon", "aarch64", 16, 32, 6, 4, 16, True, False, ("neon",), "generic"),
        InstructionSet("generic", "", 16, 16, 4, 2, 8, False, False, (), ""),
    )
}


@cache
def host_features() -> dict[str, bool]:
    """The features of this processor, by LLVM's names; empty where LLVM cannot tell."""
    import llvmlite.binding as llvm

    try:
        return dict(llvm.get_host_cpu_features())
    except RuntimeError:
        return {}


@cache
def host_processor() -> str:
    """LLVM's name of this processor: `znver5`, `sapphirerapids`, ..."""
    import llvmlite.binding as llvm

    return str(llvm.get_host_cpu_name())


def multiplied_bytes(isa: InstructionSet) -> int:
    """Bytes of a vector that a pipeline of this processor multiplies at once."""
    return isa.vector_bytes // 2 if isa.vector_bytes == 64 and host_processor() in HALVED else isa.vector_bytes


def runs_here(isa: InstructionSet) -> bool:
    """Whether this processor has the instruction set."""
    machine = {"amd64": "x86_64", "arm64": "aarch64"}.get(platform.machine().lower(), platform.machine().lower())
    return isa.machine in ("", machine) and all(host_features().get(feature) for feature in isa.features)


@cache
def host_instruction_set() -> InstructionSet:
    """The first of the table that runs here, or the one that `BREVE_INSTRUCTION_SET` names.

    Raises UnsupportedError when that one is unknown or does not run here.
    """
    name = os.environ.get("BREVE_INSTRUCTION_SET")
    if not name:
        return next(isa for isa in INSTRUCTION_SETS.values() if runs_here(isa))
    if name not in INSTRUCTION_SETS:
        raise UnsupportedError("unknown instruction set", found=name, hint=did_you_mean(name, INSTRUCTION_SETS))
    if not runs_here(INSTRUCTION_SETS[name]):
        raise UnsupportedError(
            "this processor lacks the instruction set", found=name, hint="unset BREVE_INSTRUCTION_SET"
        )
    return INSTRUCTION_SETS[name]
