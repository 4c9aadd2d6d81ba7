"""Which algorithm computes a pass: by name, by mode, or the one a model of the costs says is fastest.

A model and no measurement, so that the same net takes the same algorithms, and gives the same bits, in every run. Its
unit is the time of one multiplication with addition at full speed; the constants were fitted to `benchmarks/conv.py`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from breve.errors import UnsupportedError, did_you_mean
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.table import ALGORITHMS
from breve.kernels.convolution.winograd import Winograd

MODES = ("fast", "exact")
TRANSFORM = 10.0  # cost of one point of one channel of a tile in Winograd's transforms
PACKING = 20.0  # cost of one point of one pair of channels when weights are transformed
_mode = "fast"


def set_algorithm(name: str) -> None:
    """How all convolutions are computed from now on, unless their layer names an engine.

    "fast" (the initial setting) takes the fastest algorithm; "exact" the fastest whose rounding is that of a plain sum,
    so no Winograd; a name of `ALGORITHMS` that one wherever it computes the pass, and the fastest elsewhere.
    Raises UnsupportedError for an unknown name.
    """
    global _mode
    if name not in MODES and name not in ALGORITHMS:
        raise UnsupportedError("unknown algorithm", found=repr(name), hint=did_you_mean(name, [*MODES, *ALGORITHMS]))
    _mode = name


def get_algorithm() -> str:
    """What `set_algorithm` was told last."""
    return _mode


@lru_cache(maxsize=4096)
def choose(geometry: ConvGeometry, dtype: Any, pass_name: str, mode: str) -> str:
    """The name of the algorithm for one pass.

    >>> import numpy as np
    >>> sizes = dict(in_shape=(56, 56), kernel=(3, 3), stride=(1, 1), pad=(1, 1), dilation=(1, 1))
    >>> geometry = ConvGeometry(batch=16, channels=64, num_output=64, **sizes)
    >>> choose(geometry, np.float32, "forward", "fast"), choose(geometry, np.float32, "forward", "exact")
    ('winograd', 'direct')
    """
    able = [name for name, algorithm in ALGORITHMS.items() if not algorithm.refusal(geometry, dtype, pass_name)]
    if mode in able:
        return mode
    if mode == "exact":
        able = [name for name in able if ALGORITHMS[name].is_exact]
    return min(able, key=lambda name: cost(name, geometry))


def cost(name: str, g: ConvGeometry) -> float:
    """Estimated time of a pass, in multiplications at full speed."""
    if name == "depthwise" and g.channels > 1:
        return 0.0
    if name == "im2col":
        return math.inf
    pixels, taps = g.batch * math.prod(g.out_shape), math.prod(g.kernel)
    c, k = g.channels // g.group, g.num_output // g.group
    winograd = ALGORITHMS[name]
    if not issubclass(winograd, Winograd):
        return g.group * pixels * c * k * taps * (2 if name == "depthwise" else 1)
    outputs = winograd.outputs
    points = (outputs + g.kernel[0] - 1) ** 2
    tiles = g.batch * math.prod(-(-size // outputs) for size in g.out_shape)
    return g.group * points * (tiles * c * k + TRANSFORM * tiles * (c + k) + PACKING * c * k)
