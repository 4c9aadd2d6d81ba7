"""Arrays that end at the end of a page, with nothing readable behind: gradients of weights and bias stay inside."""

import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, mmap, sys
import numpy as np
from breve.kernels import convolution
from breve.kernels.convolution import ConvGeometry

libc, pages = ctypes.CDLL(None, use_errno=True), []

def at_the_end_of_a_page(values):
    size = -(-values.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    pages.append(memory)
    start = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    assert libc.mprotect(ctypes.c_void_p(start + size), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    array = np.frombuffer(memory, values.dtype, values.size, size - values.nbytes).reshape(values.shape)
    array[...] = values
    return array

channels, outputs, width, kernel = map(int, sys.argv[1:])
g = ConvGeometry(1, channels, outputs, (1, width), (1, kernel), (1, 1), (0, 0), (1, 1))
x = at_the_end_of_a_page(np.ones((1, 1, width, channels), np.float32)).transpose(0, 3, 1, 2)
dy = at_the_end_of_a_page(np.ones((1, *g.out_shape, outputs), np.float32)).transpose(0, 3, 1, 2)
weight_diff, bias_diff = np.zeros((outputs, channels, 1, kernel), np.float32), np.zeros(outputs, np.float32)
convolution.plan(g, np.float32).backward_weights(dy, x, weight_diff, bias_diff)
assert (weight_diff == g.out_shape[1]).all() and (bias_diff == g.out_shape[1]).all()
"""


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called as on Linux")
@pytest.mark.parametrize(
    ("channels", "outputs", "width", "kernel"), [(1, 1, 513, 1), (3, 20, 40, 3), (2, 1, 514, 2), (48, 7, 6200, 1)]
)
def test_gradients_read_nothing_behind_the_end(channels, outputs, width, kernel):
    command = [sys.executable, "-c", PROGRAM, *map(str, (channels, outputs, width, kernel))]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
