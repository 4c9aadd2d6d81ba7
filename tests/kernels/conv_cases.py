"""Geometries of convolutions around every edge, and what each pass of them is compared with."""

from functools import lru_cache

import conv_reference as reference
import numpy as np
from conv_reference import Guarded, geometry

from breve.kernels.gemm import block_depth

GEOMETRIES = {
    "plain": geometry(2, 3, 4, (5, 6), 3),
    "pad": geometry(2, 16, 16, (7, 9), 3, pad=1),
    "one_pixel": geometry(1, 1, 1, (1, 1), 1),
    "one_pixel_all_padding": geometry(1, 2, 3, (1, 1), 3, pad=1),
    "channels_15_17": geometry(2, 15, 17, (6, 5), 3, pad=1),
    "channels_33_1": geometry(1, 33, 1, (4, 4), 3, pad=1),
    "channels_1_33": geometry(2, 1, 33, (9, 8), 5, pad=2),
    "wide": geometry(1, 64, 48, (8, 13), 3, pad=1),
    "tile_sizes": geometry(1, 16, 96, (12, 12), 3, pad=1),
    "fives": geometry(1, 17, 20, (10, 15), 3, pad=1),
    "fives_and_one": geometry(1, 8, 33, (11, 14), 3, pad=1),
    "tile_sizes_and_one": geometry(2, 17, 97, (13, 13), 3, pad=1),
    "pad_2": geometry(2, 8, 24, (6, 7), 3, pad=2),
    "pad_uneven": geometry(1, 5, 6, (6, 7), 3, pad=(0, 2)),
    "pad_beyond_kernel": geometry(1, 3, 5, (4, 3), 3, pad=4),
    "1x1": geometry(3, 20, 50, (5, 5), 1),
    "1x1_deep": geometry(2, 2 * block_depth(33, np.float32) + 3, 33, (6, 7), 1),
    "1x1_more_outputs_than_pixels": geometry(1, 40, 700, (3, 5), 1),
    "1x1_group_3": geometry(2, 51, 99, (5, 4), 1, group=3),
    "outputs_that_see_padding_alone": geometry(4, 8, 64, (1, 2), 1, stride=3, pad=1),
    "1x1_many_pixels": geometry(1, 5, 32, (83, 75), 1),
    "1x1_many_pixels_fewer_outputs": geometry(1, 32, 7, (83, 75), 1),
    "1x1_many_pixels_group_2_stride_2": geometry(2, 6, 64, (127, 99), 1, stride=2, group=2),
    "1x1_many_pixels_fewer_outputs_stride_2_1": geometry(2, 64, 12, (127, 99), 1, stride=(2, 1)),
    "1x1_many_pixels_packed": geometry(1, 100, 144, (83, 75), 1),
    "1x1_many_pixels_packed_fewer_outputs": geometry(1, 288, 68, (83, 75), 1, group=2),
    "1x1_3d": geometry(2, 5, 7, (4, 3, 2), 1),
    "1x1_stride_2": geometry(2, 17, 16, (7, 6), 1, stride=2),
    "1x1_stride_2_3_group_2": geometry(2, 18, 20, (7, 9), 1, stride=(2, 3), group=2),
    "1x1_pad": geometry(2, 9, 16, (3, 4), 1, pad=1),
    "5x5": geometry(2, 20, 50, (12, 12), 5),
    "5x5_pad": geometry(1, 32, 32, (9, 11), 5, pad=2),
    "2x2": geometry(2, 5, 18, (7, 10), 2),
    "3x3_stride_2_pad": geometry(2, 17, 33, (9, 12), 3, stride=2, pad=1),
    "4x4_stride_2": geometry(2, 9, 20, (10, 13), 4, stride=2, pad=1),
    "5x5_stride_3_pad_beyond": geometry(1, 8, 16, (13, 12), 5, stride=3, pad=(4, 1)),
    "6x6": geometry(1, 5, 16, (9, 11), 6, pad=2),
    "7x7": geometry(2, 6, 24, (17, 12), 7, pad=3),
    "9x9": geometry(1, 3, 8, (13, 14), 9, pad=4),
    "11x11_stride_2": geometry(1, 2, 16, (17, 22), 11, stride=2, pad=5),
    "7x7_stride_2": geometry(1, 3, 16, (15, 16), 7, stride=2, pad=3),
    "11x11_stride_4": geometry(1, 3, 24, (31, 30), 11, stride=4),
    "few_channels_odd_width": geometry(2, 2, 8, (6, 11), 3, pad=1),
    "few_channels_stride_2_odd": geometry(2, 3, 8, (9, 13), 5, stride=2, pad=2),
    "few_channels_many_bands": geometry(12, 2, 9, (40, 33), 5, pad=2),
    "few_outputs": geometry(1, 8, 3, (6, 9), 5, pad=2),
    "stride_3_beyond_kernel": geometry(2, 6, 7, (11, 12), 2, stride=3),
    "stride_2_pixels_unused": geometry(2, 4, 8, (8, 8), 3, stride=2),
    "uneven": geometry(1, 7, 9, (9, 10), (3, 5), stride=(2, 1), pad=(0, 2), dilation=(1, 2)),
    "row_kernel": geometry(1, 7, 9, (9, 10), (1, 7), pad=(0, 3)),
    "dilation_2": geometry(2, 16, 16, (9, 9), 3, pad=2, dilation=2),
    "dilation_3_stride_2": geometry(1, 5, 4, (12, 11), 3, stride=2, pad=3, dilation=3),
    "four_images": geometry(4, 36, 68, (9, 7), 3, pad=1),
    "four_images_1x1": geometry(3, 264, 20, (6, 14), 1),
    "four_images_stride_2": geometry(8, 16, 72, (11, 10), 3, stride=2, pad=1),
    "four_images_stride_beyond_kernel": geometry(4, 12, 8, (9, 10), (1, 2), stride=(2, 3)),
    "four_images_uneven": geometry(4, 132, 4, (10, 9), (2, 5), stride=(1, 2), pad=(0, 3), dilation=(3, 1)),
    "group_2": geometry(2, 8, 12, (6, 6), 3, pad=1, group=2),
    "group_3_odd": geometry(1, 9, 15, (5, 7), 5, pad=2, group=3),
    "depthwise": geometry(2, 33, 33, (7, 6), 3, pad=1, group=33),
    "depthwise_wide": geometry(2, 20, 20, (5, 37), 3, pad=1, group=20),
    "depthwise_stride_2": geometry(1, 32, 32, (8, 9), 3, stride=2, pad=1, group=32),
    "depthwise_outputs_that_see_padding_alone": geometry(
        1, 4, 4, (2, 9), (2, 3), stride=(4, 3), pad=(2, 3), dilation=(1, 2), group=4
    ),
    "depthwise_multiplier": geometry(2, 5, 15, (6, 6), 5, pad=2, group=5),
    "depthwise_7x7": geometry(1, 17, 17, (9, 8), 7, pad=3, group=17),
    "depthwise_9x9_dilated": geometry(1, 16, 16, (19, 20), 9, pad=4, dilation=2, group=16),
    "1d": geometry(2, 3, 8, (10,), 3, stride=2, pad=1),
    "1d_1x1": geometry(2, 3, 8, (10,), 1),
    "3d_1x1": geometry(2, 20, 3, (4, 2, 3), 1),
    "3d": geometry(2, 3, 4, (4, 5, 3), (2, 3, 2), stride=(1, 2, 1), pad=(1, 0, 1)),
}
LIMITS = {"float32": 1e-5, "float64": 1e-13}


@lru_cache(maxsize=256)
def arrays(g, seed=0):
    """bottom, weight, bias and top_diff, in float32 values so that every dtype computes with the same numbers."""
    rng = np.random.default_rng(seed)
    shapes = (
        (g.batch, g.channels, *g.in_shape),
        (g.num_output, g.channels // g.group, *g.kernel),
        (g.num_output,),
        (g.batch, g.num_output, *g.out_shape),
    )
    return tuple(rng.standard_normal(shape).astype(np.float32) for shape in shapes)


def assert_close(found, expected, dtype):
    scale = np.abs(expected).max() or 1.0
    assert np.abs(found - expected).max() <= LIMITS[str(np.dtype(dtype))] * scale


def check_forward(plan, g, dtype, relu=False):
    bottom, weight, bias, _ = arrays(g)
    top = Guarded(np.full((g.batch, g.num_output, *g.out_shape), np.nan), dtype)
    bottom_data, weights, biases = Guarded(bottom, dtype), Guarded(weight, dtype, False), Guarded(bias, dtype, False)
    plan.forward(bottom_data.array, weights.array, biases.array, top.array, relu=relu)
    expected = reference.forward(g, bottom, weight, bias)
    assert_close(top.array, np.maximum(expected, 0) if relu else expected, dtype)
    top.check()


def check_backward_data(plan, g, dtype):
    _, weight, _, top_diff = arrays(g)
    bottom = Guarded(np.full((g.batch, g.channels, *g.in_shape), np.nan), dtype)
    plan.backward_data(Guarded(top_diff, dtype).array, Guarded(weight, dtype, False).array, bottom.array)
    assert_close(bottom.array, reference.backward_data(g, top_diff, weight), dtype)
    bottom.check()


def check_backward_weights(plan, g, dtype):
    bottom, weight, bias, top_diff = arrays(g)
    weights, biases = Guarded(weight, dtype, False), Guarded(bias, dtype, False)
    plan.backward_weights(Guarded(top_diff, dtype).array, Guarded(bottom, dtype).array, weights.array, biases.array)
    weight_diff, bias_diff = reference.backward_weights(g, top_diff, bottom)
    assert_close(weights.array, weight + weight_diff, dtype)
    assert_close(biases.array, bias + bias_diff, dtype)
    weights.check()
    biases.check()
