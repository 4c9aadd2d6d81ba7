"""A float64 convolution to test against, and arrays whose surroundings show a stray read or write.

Each axis and tap has a matrix of zeros and ones that picks, for every output pixel, the input pixel under the tap (a
zero row where it lies in the padding). Forward multiplies by these matrices, backward by their transposes: no
unfolding, no index arithmetic shared with what is tested.
"""

import itertools
import math

import numpy as np

from breve.kernels.convolution import ConvGeometry

MARGIN = 512  # elements around an array: more than a tile of vectors


def geometry(batch, channels, num_output, in_shape, kernel, stride=1, pad=0, dilation=1, group=1):
    axes = len(in_shape)
    sizes = (size if isinstance(size, tuple) else (size,) * axes for size in (kernel, stride, pad, dilation))
    return ConvGeometry(batch, channels, num_output, in_shape, *sizes, group)


def picks(g):
    """For each tap, one matrix (out, in) per axis."""
    for tap in itertools.product(*map(range, g.kernel)):
        matrices = []
        for axis, t in enumerate(tap):
            pixel = np.arange(g.out_shape[axis]) * g.stride[axis] + t * g.dilation[axis] - g.pad[axis]
            matrices.append((pixel[:, None] == np.arange(g.in_shape[axis])).astype(float))
        yield tap, matrices


def apply(matrices, images):
    for axis, matrix in enumerate(matrices):
        images = np.moveaxis(np.tensordot(images, matrix, (2 + axis, 1)), -1, 2 + axis)
    return images


def grouped(g, images):
    """Feature maps as (batch, group, channels of a group, pixels)."""
    batch, channels, *spatial = images.shape
    return images.astype(float).reshape(batch, g.group, channels // g.group, math.prod(spatial))


def split(g, tap_weight):
    """The weights of one tap as (group, num_output of a group, channels of a group)."""
    return tap_weight.astype(float).reshape(g.group, g.num_output // g.group, -1)


def forward(g, bottom, weight, bias=None):
    top = np.zeros((g.batch, g.num_output, *g.out_shape))
    for tap, matrices in picks(g):
        seen = grouped(g, apply(matrices, bottom.astype(float)))
        top += np.einsum("gkc,ngcp->ngkp", split(g, weight[(..., *tap)]), seen).reshape(top.shape)
    return top if bias is None else top + bias.astype(float).reshape(-1, *[1] * len(g.kernel))


def backward_data(g, top_diff, weight):
    bottom_diff = np.zeros((g.batch, g.channels, *g.in_shape))
    for tap, matrices in picks(g):
        spread = np.einsum("gkc,ngkp->ngcp", split(g, weight[(..., *tap)]), grouped(g, top_diff))
        spread = spread.reshape(g.batch, g.channels, *g.out_shape)
        bottom_diff += apply([matrix.T for matrix in matrices], spread)
    return bottom_diff


def backward_weights(g, top_diff, bottom):
    weight_diff = np.zeros((g.num_output, g.channels // g.group, *g.kernel))
    for tap, matrices in picks(g):
        seen = grouped(g, apply(matrices, bottom.astype(float)))
        product = np.einsum("ngkp,ngcp->gkc", grouped(g, top_diff), seen)
        weight_diff[(..., *tap)] = product.reshape(g.num_output, -1)
    return weight_diff, top_diff.astype(float).sum((0, *range(2, top_diff.ndim)))


class Guarded:
    """An array in the middle of NaNs: who reads beyond it gets NaN, who writes beyond it is found by `check`.

    With `channels_last` the array is in Caffe's order and its memory has the channels last, as a blob's has.
    """

    def __init__(self, values, dtype, channels_last=True):
        values = np.asarray(values, dtype)
        stored = np.moveaxis(values, 1, -1) if channels_last else values
        self.memory = np.full(values.size + 2 * MARGIN, np.nan, dtype)
        inner = self.memory[MARGIN : MARGIN + values.size].reshape(stored.shape)
        inner[...] = stored
        self.array = np.moveaxis(inner, -1, 1) if channels_last else inner

    def check(self):
        assert np.isnan(self.memory[:MARGIN]).all(), "written before the array"
        assert np.isnan(self.memory[-MARGIN:]).all(), "written behind the array"
