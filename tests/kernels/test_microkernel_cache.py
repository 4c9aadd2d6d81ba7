"""Object code on disk: used when it verifies, rebuilt when not, done without where it cannot be kept."""

import numpy as np
import pytest
from llvmlite import ir

from breve.kernels.microkernel import cache, host_instruction_set
from breve.kernels.microkernel import compile as compiler


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.setenv("BREVE_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(compiler, "_engines", {})
    monkeypatch.setattr(compiler, "_addresses", {})
    return tmp_path / "microkernel"


emitted = []


def emit_answer(isa, number):
    """A module whose function `answer` returns `number`."""
    emitted.append(number)
    module = ir.Module("answer")
    function = ir.Function(module, ir.FunctionType(ir.IntType(64), []), "answer")
    ir.IRBuilder(function.append_basic_block()).ret(ir.Constant(ir.IntType(64), number))
    return module


def answer(number):
    import ctypes

    address = compiler.function_address(emit_answer, "answer", number, isa=host_instruction_set())
    return ctypes.CFUNCTYPE(ctypes.c_int64)(address)()


def restart():
    compiler._engines.clear()
    compiler._addresses.clear()
    emitted.clear()


def test_second_process_does_not_emit(folder):
    restart()
    assert answer(41) == 41
    assert emitted == [41]
    restart()
    assert answer(41) == 41
    assert emitted == []


def test_parameters_tell_kernels_apart(folder):
    restart()
    assert [answer(1), answer(2), answer(1)] == [1, 2, 1]
    assert emitted == [1, 2]
    assert len(list(folder.iterdir())) == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: data[:100] + bytes([data[100] ^ 1]) + data[101:],
        lambda data: b"#!/bin/sh\n",
        lambda data: bytes(len(data)),
    ],
    ids=["empty", "truncated", "longer", "flipped", "foreign", "zeros"],
)
def test_damaged_file_is_rebuilt(folder, damage):
    restart()
    answer(5)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    restart()
    assert answer(5) == 5
    assert emitted == [5]
    assert path.read_bytes()[:47] == whole[:47]


def test_file_under_another_key_is_rebuilt(folder):
    restart()
    answer(6)
    (six,) = folder.iterdir()
    answer(7)
    (seven,) = set(folder.iterdir()) - {six}
    seven.write_bytes(six.read_bytes())
    restart()
    assert answer(7) == 7
    assert emitted == [7]


def test_folder_that_cannot_be_written_means_no_cache(folder, tmp_path, monkeypatch):
    blocked = tmp_path / "file"
    blocked.write_text("not a folder")
    monkeypatch.setenv("BREVE_CACHE_DIR", str(blocked))
    restart()
    assert answer(8) == 8
    restart()
    assert answer(8) == 8
    assert emitted == [8]
    assert blocked.read_text() == "not a folder"


def test_nothing_half_written_stays(folder, monkeypatch):
    def fail(*_):
        raise OSError("disk full")

    monkeypatch.setattr(cache.os, "replace", fail)
    restart()
    assert answer(9) == 9
    assert list(folder.iterdir()) == []


def test_folder_follows_the_environment(monkeypatch, tmp_path):
    monkeypatch.setenv("BREVE_CACHE_DIR", str(tmp_path / "own"))
    assert cache.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("BREVE_CACHE_DIR")
    monkeypatch.setattr(cache.sys, "platform", "linux")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache.cache_folder() == tmp_path / "xdg" / "breve"


def test_key_depends_on_processor_and_versions(monkeypatch):
    isa = host_instruction_set()
    key = compiler._key(emit_answer, (np.dtype("f").char,), isa)
    monkeypatch.setattr(compiler.llvmlite, "__version__", "0.0.1")
    assert compiler._key(emit_answer, ("f",), isa) != key
    monkeypatch.undo()
    monkeypatch.setattr(compiler, "_processor", lambda isa: ("another", ""))
    assert compiler._key(emit_answer, ("f",), isa) != key
