"""What tests of the smaller emitters share: instruction sets and dtypes, and a call of machine code by its address."""

import ctypes

import numpy as np
import pytest

from breve.kernels.microkernel import INSTRUCTION_SETS
from breve.kernels.microkernel.instruction_sets import runs_here

HERE = [isa for isa in INSTRUCTION_SETS.values() if runs_here(isa)]
DTYPES = [np.float32, np.float64]
CHANNELS = [1, 3, 8, 15, 16, 17, 33]
NEAR = {np.float32: 2e-5, np.float64: 1e-13}

on_every_set = pytest.mark.parametrize("isa", HERE, ids=lambda isa: isa.name)
for_both_dtypes = pytest.mark.parametrize("dtype", DTYPES, ids=["float32", "float64"])


def invoke(address, *arguments):
    """The function at an address; an array is passed as the address of its first element, which a tuple moves."""
    passed = []
    for argument in arguments:
        array, start = argument if isinstance(argument, tuple) else (argument, 0)
        is_array = isinstance(array, np.ndarray)
        passed.append(array.ctypes.data + start * array.itemsize if is_array else int(argument))
    ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(passed))(address)(*passed)
