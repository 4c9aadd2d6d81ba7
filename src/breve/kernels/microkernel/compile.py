"""From emitted LLVM IR to machine code at an address, through the cache on disk."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from breve.kernels.microkernel import cache as disk
from breve.kernels.microkernel.instruction_sets import (
    InstructionSet,
    host_features,
    host_instruction_set,
    host_processor,
)

_engines: dict[str, Any] = {}  # an engine owns its machine code: it lives as long as the process
_addresses: dict[tuple[Any, ...], int] = {}
_lock = threading.Lock()


def function_address(emit: Callable[..., ir.Module], symbol: str, *parameters: Any, isa: InstructionSet) -> int:
    """Address of the function `symbol` in the module that `emit(isa, *parameters)` makes, compiled once.

    `emit` lives in this package; `parameters` are hashable and have a `repr` that tells them apart.
    """
    request = emit, symbol, parameters, isa
    with _lock:
        if request not in _addresses:
            key = _key(emit, parameters, isa)  # 0.1 ms: not for every call of a convolution
            if key not in _engines:
                _engines[key] = _load(_object_code(key, emit, parameters, isa), isa)
            _addresses[request] = _engines[key].get_function_address(symbol)
        return _addresses[request]


def assembly(emit: Callable[..., ir.Module], *parameters: Any, isa: InstructionSet) -> str:
    """The module as assembly text, for any instruction set, whether it runs here or not."""
    machine = target_machine(isa)
    return machine.emit_assembly(_optimised(emit(isa, *parameters), machine))


def target_machine(isa: InstructionSet) -> Any:
    """What LLVM builds for: this very processor for its own instruction set, else the one named in the table."""
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    host = llvm.get_process_triple()
    triple = host if isa.machine in ("", host.split("-")[0]) else f"{isa.machine}-unknown-linux-gnu"
    cpu, features = _processor(isa)
    return llvm.Target.from_triple(triple).create_target_machine(cpu=cpu, features=features, opt=2)


def _processor(isa: InstructionSet) -> tuple[str, str]:
    """LLVM's name of the processor, and its features; the 256-bit preference that LLVM has for some is off."""
    if isa is host_instruction_set():
        features = ",".join(("+" if on else "-") + name for name, on in sorted(host_features().items()))
        cpu = host_processor()
    else:
        features, cpu = ",".join("+" + name for name in isa.features), isa.cpu
    return cpu, features + ",-prefer-256-bit" if isa.name == "avx512" else features


def _optimised(module: ir.Module, machine: Any) -> Any:
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    options.loop_unrolling = options.loop_vectorization = options.slp_vectorization = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
    return parsed


def _object_code(key: str, emit: Callable[..., ir.Module], parameters: tuple[Any, ...], isa: InstructionSet) -> bytes:
    code = disk.read(key)
    if code is None:
        machine = target_machine(isa)
        code = machine.emit_object(_optimised(emit(isa, *parameters), machine))
        disk.write(key, code)
    return code


def _load(code: bytes, isa: InstructionSet) -> Any:
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    machine = llvm.Target.from_default_triple().create_target_machine()
    engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), machine)
    engine.add_object_file(llvm.ObjectFileRef.from_data(code))
    engine.finalize_object()
    return engine


def _key(emit: Callable[..., ir.Module], parameters: tuple[Any, ...], isa: InstructionSet) -> str:
    """Everything the machine code depends on."""
    versions = f"llvmlite {llvmlite.__version__} LLVM {llvm.llvm_version_info}"
    return "\n".join(
        (
            _source_digest(),
            versions,
            llvm.get_process_triple(),
            repr(isa),
            *_processor(isa),
            emit.__name__,
            repr(parameters),
        )
    )


@cache
def _source_digest() -> str:
    """Hash of this package's source: an emitter and all that it stands on."""
    digest = hashlib.sha256()
    for path in sorted(Path(__file__).parent.glob("*.py")):
        digest.update(path.name.encode() + path.read_bytes())
    return digest.hexdigest()
