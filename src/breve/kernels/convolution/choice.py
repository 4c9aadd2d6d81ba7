"""Which algorithm computes a pass: by name, by mode, or the one a model of the costs says is fastest.

A model and no measurement, so that the same net takes the same algorithms, and gives the same bits, in every run. Its
unit is the time of one multiplication with addition; the constants were fitted to `benchmarks/conv.py`.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

from breve.errors import UnsupportedError, did_you_mean
from breve.kernels import microkernel
from breve.kernels.convolution import few_channels, outer_products
from breve.kernels.convolution.blocks import blocks_of
from breve.kernels.convolution.correlation import pixels_as_one, vectors
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.convolution.strassen import POINTS, parts_of_sums, plans
from breve.kernels.convolution.table import ALGORITHMS
from breve.kernels.convolution.taps import TAP_BY_TAP, backward_axis, forward_axis
from breve.kernels.convolution.weight_gradient import way_of
from breve.kernels.microkernel.vectors import LINE_BYTES
from breve.kernels.streaming import third_level_is_far
from breve.kernels.threads import physical_cores

MODES = ("fast", "exact")
TRANSFORM = {4: 13.0, 5: 18.0, 6: 19.0, 7: 21.0, 8: 20.0}
"""Cost of one point of one channel of a tile in Winograd's transforms, by n, where 64 bytes are multiplied at once.

Half of it, for memory, is the same for all; the other half is in proportion to them, as multiplications take longer.
"""
PASSING = 0.1
"""Cost that reading the weights adds to a product, with as many tiles in a block as F(4, 3) has, which is counted as 0.

A block of larger tiles has fewer, so the weights pass more often: F(5, 3) gains 3 % less than it saves.
"""
WEIGHTS = 20.0
"""Cost of one point of one pair of channels when weights are transformed, where 64 bytes are multiplied at once.

It is in proportion to their size: most of it is to turn them over, one by one, and multiplications take longer.
"""
BLOCK_WEIGHTS = 65.0  # the same between blocks of pixels: they are more, and go through memory
READING = 5.5  # cost of one weight that `direct` reads for an image: half of the time of 3x3 pixels, an eighth of 7x7
COPYING = 0.5  # cost of one element of x that `direct` copies to stand between zeros
PACKING = 14.0  # cost of one element that `direct` packs for the gradient of weights
ADDING = 35.0  # cost of one weight there, whose sums are added to its gradient
POINT, POINT_OF_SHORT_VECTORS, POINT_FAR = 6.6, 7.0, 12.6
"""Cost of one point of one channel in Strassen's transforms, where vectors are 64 bytes, and where they are shorter.

Measured with AVX-512 and 1 MB of second-level cache a core, and with AVX2 and 512 KB; the last with AVX-512 on a
processor whose third-level cache is far away.
"""
OUTPUT = 1.75  # times as much costs one of an output: it is written, then read
WEIGHT_POINT = {"forward": (20.0, 10.0), "backward_data": (60.0, 38.0), "backward_weights": (260.0, 130.0)}
"""Cost of one point of a weight there, with several taps and with one, where nothing is turned over.

For a forward pass it may have been kept; its gradient is summed in memory.
"""
POINT_HALVED, OUTPUT_HALVED = 4.9, 1.27
"""The same in a forward pass and a gradient of data where a vector is multiplied in two halves."""
SUMS = 1.4  # times as much cost both in a gradient of weights where vectors are shorter, or the third level is far
APART = 1.5  # times as much cost both in a gradient of data with a stride and several phases: on a Zen 4, 256 channels
_mode = "fast"


def set_algorithm(name: str) -> None:
    """How all convolutions are computed from now on, unless their layer names an engine.

    "fast" (the initial setting) takes the fastest algorithm; "exact" the fastest whose rounding is that of a plain sum,
    so neither Winograd nor Strassen; a name of `ALGORITHMS` that one wherever it computes the pass, and the fastest
    elsewhere.
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
    return min(able, key=lambda name: cost(name, geometry, dtype, pass_name))


def cost(name: str, g: ConvGeometry, dtype: Any, pass_name: str) -> float:
    """Estimated time of a pass, in multiplications at the speed of `direct`."""
    if name == "im2col":
        return math.inf
    if name == "depthwise":
        return 0.0 if g.channels > 1 else math.inf
    if name == "pointwise":
        return pointwise(g, dtype, pass_name)
    if name == "strassen":
        return strassen(g, dtype, pass_name)
    if name == "direct":
        return direct_weights(g, dtype) if pass_name == "backward_weights" else g.group * direct(g, dtype, pass_name)
    return g.group * winograd(g, dtype, pass_name, ALGORITHMS[name].outputs)  # type: ignore[attr-defined]


def direct(g: ConvGeometry, dtype: Any, pass_name: str) -> float:
    """What taps see of rows, and of columns or with zeros between them, times channels of x and vectors of y."""
    forward = pass_name == "forward"
    h, w = ((forward_axis if forward else backward_axis)(g, axis) for axis in (0, 1))
    channels = (g.channels // g.group, g.num_output // g.group)
    x, y = channels if forward else channels[::-1]
    lanes = microkernel.host_instruction_set().lanes(dtype)
    pixels = pixels_as_one(w, y, lanes) if g.group == 1 else 1
    tap_by_tap = pixels == 1 and x >= TAP_BY_TAP
    copied = h.size * w.size * x if any(w.margins) and not tap_by_tap else 0
    reading = READING * math.prod(g.kernel) * x * y
    products = h.products * x * vectors(w, y, lanes, pixels, tap_by_tap) * lanes
    return g.batch * (products + reading + COPYING * copied)


def direct_weights(g: ConvGeometry, dtype: Any) -> float:
    """The product, the packing of its sides where they are packed, and adding it to the gradient."""
    c, k = g.channels // g.group, g.num_output // g.group
    way = way_of(g, dtype)
    if way is outer_products:
        packed = max(g.channels, g.num_output) if outer_products.packs(g, dtype) else 0
        return g.flops / 2 + PACKING * packed * g.batch * math.prod(g.out_shape)
    h, w = forward_axis(g, 0), forward_axis(g, 1)
    seen = h.products * (w.products if c >= TAP_BY_TAP else g.out_shape[1] * g.kernel[1])
    packing = 0.0 if way is few_channels else PACKING * (c + k) * math.prod(g.out_shape)
    return g.group * (g.batch * (seen * c * k + packing) + ADDING * math.prod(g.kernel) * c * k)


def pointwise(g: ConvGeometry, dtype: Any, pass_name: str) -> float:
    """The product, and the packing for the gradient of weights; always a little less than `direct`."""
    return 0.99 * (direct_weights(g.one_row, dtype) if pass_name == "backward_weights" else g.flops / 2)


def winograd(g: ConvGeometry, dtype: Any, pass_name: str, outputs: int) -> float:
    """The product of each point that a tile needs, the transforms of all tiles, and that of the weights."""
    blocks = blocks_of(g)
    assert blocks is not None  # or it had been refused
    n = outputs + blocks.taps - 1
    isa = microkernel.host_instruction_set()
    at_once = microkernel.multiplied_bytes(isa) / LINE_BYTES
    transform = TRANSFORM[n] * (0.5 + 0.5 * at_once)
    weights = (BLOCK_WEIGHTS if blocks.in_step > 1 else WEIGHTS) * at_once
    lanes = isa.lanes(dtype)
    c, k = (
        -(-channels // g.group * step**2 // lanes) * lanes
        for channels, step in ((g.channels, blocks.in_step), (g.num_output, blocks.out_step))
    )
    sizes, step = [(size, 0) for size in g.out_shape], blocks.out_step
    if pass_name == "backward_data":
        sizes, step = list(zip(g.in_shape, (pad % blocks.in_step for pad in g.pad), strict=True)), blocks.in_step
    rows = [-(-(size + pad) // step) for size, pad in sizes]  # of blocks of outputs, and columns
    tiles = g.batch * math.prod(-(-row // outputs) for row in rows)
    products = g.batch * math.prod(n * -(-row // outputs) - (row % outputs > 0) for row in rows)
    passing = 1 + PASSING * (n**2 / 36 - 1)
    return products * c * k * passing + n**2 * (transform * tiles * (c + k) + weights * c * k)


def strassen(g: ConvGeometry, dtype: Any, pass_name: str) -> float:
    """The products, the transforms of what all rows of taps see and of all outputs, and that of the weights."""
    isa, total = microkernel.host_instruction_set(), 0.0
    is_short, is_far, lanes = isa.vector_bytes < LINE_BYTES, third_level_is_far(), isa.lanes(dtype)
    weight = WEIGHT_POINT[pass_name][math.prod(g.kernel) == 1]
    point, output = POINT_FAR if is_far else POINT_OF_SHORT_VECTORS if is_short else POINT, OUTPUT
    if pass_name != "backward_weights" and microkernel.multiplied_bytes(isa) < isa.vector_bytes:
        point, output = POINT_HALVED, OUTPUT_HALVED
    for s, shifts in plans(g, pass_name, dtype):
        seen = s.quads * s.bands * len(shifts.inputs) * s.columns * s.taps_w
        out, weights = s.quads * s.rows * s.columns, s.taps * s.c * s.j
        products = out * s.taps * s.c * -(-s.j // lanes) * lanes
        transforms = point * (seen * s.c + output * out * s.j) + weight * weights
        transforms *= SUMS if (is_short or is_far) and pass_name == "backward_weights" else 1.0
        transforms *= APART if pass_name == "backward_data" and max(g.stride) > 1 < math.prod(g.kernel) else 1.0
        work = POINTS * (products + transforms)
        idle = physical_cores() / parts_of_sums(s, dtype) if pass_name == "backward_weights" else 1.0
        total += work * max(1.0, idle)  # where sums are large there are fewer parts than cores
    return total
