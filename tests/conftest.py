"""Tests run on one thread unless they ask for more: arrays are small, and other work on the machine does not slow them.

Threads that wait for each other at every kernel slow down many times when another process has one of their cores.
"""

import os

os.environ.setdefault("BREVE_NUM_THREADS", "1")
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
