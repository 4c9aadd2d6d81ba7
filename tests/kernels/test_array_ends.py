"""Arrays that end at the end of a page, with nothing readable behind: gradients and matrix products stay inside."""

import subprocess
import sys

import pytest

PAGES = """
import ctypes, mmap, sys
import numpy as np

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
"""
GRADIENTS = (
    PAGES
    + """
from breve.kernels import convolution
from breve.kernels.convolution import ConvGeometry

channels, outputs, width, kernel = map(int, sys.argv[1:])
g = ConvGeometry(1, channels, outputs, (1, width), (1, kernel), (1, 1), (0, 0), (1, 1))
x = at_the_end_of_a_page(np.ones((1, 1, width, channels), np.float32)).transpose(0, 3, 1, 2)
dy = at_the_end_of_a_page(np.ones((1, *g.out_shape, outputs), np.float32)).transpose(0, 3, 1, 2)
weight_diff, bias_diff = np.zeros((outputs, channels, 1, kernel), np.float32), np.zeros(outputs, np.float32)
convolution.plan(g, np.float32).backward_weights(dy, x, weight_diff, bias_diff)
assert (weight_diff == g.out_shape[1]).all() and (bias_diff == g.out_shape[1]).all()
"""
)
PRODUCT = (
    PAGES
    + """
from breve.kernels.gemm import gemm

m, n, k, trans_b = map(int, sys.argv[1:])
a = at_the_end_of_a_page(np.ones((m, k), np.float32))
b = at_the_end_of_a_page(np.ones((n, k) if trans_b else (k, n), np.float32))
assert (gemm(a, b, at_the_end_of_a_page(np.zeros((m, n), np.float32)), trans_b=bool(trans_b)) == k).all()
"""
)


def run(program, *args):
    done = subprocess.run([sys.executable, "-c", program, *map(str, args)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called as on Linux")
@pytest.mark.parametrize(
    ("channels", "outputs", "width", "kernel"), [(1, 1, 513, 1), (3, 20, 40, 3), (2, 1, 514, 2), (48, 7, 6200, 1)]
)
def test_gradients_read_nothing_behind_the_end(channels, outputs, width, kernel):
    run(GRADIENTS, channels, outputs, width, kernel)


@pytest.mark.skipif(sys.platform != "linux", reason="mprotect is called as on Linux")
@pytest.mark.parametrize(("m", "n"), [(3, 64), (3, 70), (8, 2 * 2048 + 8), (9, 64), (7, 5), (100, 33)])
@pytest.mark.parametrize("trans_b", [0, 1])
def test_products_read_nothing_behind_the_end(m, n, trans_b):
    run(PRODUCT, m, n, 150, trans_b)
