"""Every algorithm, pass and dtype of a convolution against the float64 reference."""

import threading
from functools import lru_cache

import conv_reference as reference
import numpy as np
import pytest
from conv_reference import Guarded, geometry
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from breve.blob import aligned_zeros
from breve.errors import LayerError, UnsupportedError
from breve.kernels import convolution, streaming
from breve.kernels.convolution import ALGORITHMS, PASSES, correlate_weights, few_channels, outer_products, winograd
from breve.kernels.gemm import block_depth
from breve.kernels.microkernel import STREAM, tile_columns
from breve.kernels.threads import get_num_threads, set_num_threads

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
    "1x1_deep": geometry(2, 2 * block_depth(np.float32) + 3, 33, (6, 7), 1),
    "1x1_more_outputs_than_pixels": geometry(1, 40, 700, (3, 5), 1),
    "1x1_group_3": geometry(2, 51, 99, (5, 4), 1, group=3),
    "1x1_many_pixels": geometry(1, 5, 32, (83, 75), 1),
    "1x1_many_pixels_fewer_outputs": geometry(1, 32, 7, (83, 75), 1),
    "1x1_many_pixels_group_2_stride_2": geometry(2, 6, 64, (127, 99), 1, stride=2, group=2),
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
    "depthwise_multiplier": geometry(2, 5, 15, (6, 6), 5, pad=2, group=5),
    "depthwise_7x7": geometry(1, 17, 17, (9, 8), 7, pad=3, group=17),
    "depthwise_9x9_dilated": geometry(1, 16, 16, (19, 20), 9, pad=4, dilation=2, group=16),
    "1d": geometry(2, 3, 8, (10,), 3, stride=2, pad=1),
    "1d_1x1": geometry(2, 3, 8, (10,), 1),
    "3d_1x1": geometry(2, 20, 3, (4, 2, 3), 1),
    "3d": geometry(2, 3, 4, (4, 5, 3), (2, 3, 2), stride=(1, 2, 1), pad=(1, 0, 1)),
}
SPECIAL = {"depthwise": "depthwise", "pointwise": "1x1", "strassen": "four_images"}
LIMITS = {"float32": 1e-5, "float64": 1e-13}


COMBINATIONS = [
    pytest.param(name, g, dtype, id=f"{name}-{case}-{dtype}")
    for name, algorithm in ALGORITHMS.items()
    for case, g in GEOMETRIES.items()
    for dtype in LIMITS
    if not algorithm.refusal(g, np.dtype(dtype), "forward")
]


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


@pytest.mark.parametrize(("name", "g", "dtype"), COMBINATIONS)
def test_passes_agree_with_the_reference(name, g, dtype):
    plan = convolution.plan(g, dtype, name)
    for _ in range(2):  # the second time with buffers in use and packed weights kept
        check_forward(plan, g, dtype)
        check_backward_data(plan, g, dtype)
        check_backward_weights(plan, g, dtype)
    check_forward(plan, g, dtype, relu=True)


KERNELS = {"pointwise": 1, "strassen": 1, "winograd_f5": 3}  # others take 5 x 5


@pytest.mark.parametrize("name", sorted(set(ALGORITHMS) - {"depthwise"}))
@pytest.mark.parametrize(("batch", "terms", "size"), [(128, 100, 32), (1, 12800, 12)], ids=["pixels", "channels"])
def test_rounding_stays_within_its_limit_over_long_sums(name, batch, terms, size):
    kernel = KERNELS.get(name, 5)
    g = geometry(batch, terms // kernel**2, 8, (size, size), kernel, pad=kernel // 2)
    plan = convolution.plan(g, np.float32, name)
    check_forward(plan, g, np.float32)
    check_backward_weights(plan, g, np.float32)


BLOCKS = [("winograd", 3, 2), ("winograd_f5", 3, 2), ("winograd", 7, 1), ("winograd_f5", 7, 1), ("winograd", 9, 1)]


@pytest.mark.parametrize(("name", "kernel", "stride"), [*BLOCKS, ("winograd_f2", 7, 2), ("winograd_f5", 11, 4)])
@pytest.mark.parametrize(("batch", "terms", "size"), [(64, 400, 32), (1, 12800, 22)], ids=["pixels", "channels"])
def test_rounding_between_blocks_of_pixels_stays_within_its_limit(name, kernel, stride, batch, terms, size):
    outputs = tile_columns(np.float32) // 2  # at least; Winograd wants whole panels of 2 x 2 blocks
    g = geometry(batch, max(1, terms // kernel**2), outputs, (size, size), kernel, stride=stride, pad=kernel // 2)
    plan = convolution.plan(g, np.float32, name)
    check_forward(plan, g, np.float32)
    check_backward_data(plan, g, np.float32)
    check_backward_weights(plan, g, np.float32)


CUT = ["pad", "channels_15_17", "wide", "tile_sizes_and_one", "5x5", "group_3_odd", "3x3_stride_2_pad", "7x7"]


@pytest.mark.parametrize("case", CUT)
@pytest.mark.parametrize(
    "limits",
    [(1 << 40, 0, 0), (0, 1 << 40, 0), (0, 1 << 40, 1 << 40)],
    ids=["by_outputs", "by_small_blocks", "by_parts"],
)
def test_winograd_gives_the_same_however_it_is_cut(case, limits, monkeypatch):
    few_tiles, many_weights, part_sums = limits
    monkeypatch.setattr(winograd, "PART_SUMS_BYTES", part_sums)
    monkeypatch.setattr(winograd, "ALL_SUMS_BYTES", 1 << 40)
    monkeypatch.setattr(winograd, "MANY_TILES", 0)
    monkeypatch.setattr(winograd, "PART_BLOCK_BYTES", 0)
    monkeypatch.setattr(winograd, "LEAST_PART_BLOCK", 3)
    monkeypatch.setattr(winograd, "FEW_TILES_BYTES", few_tiles)
    monkeypatch.setattr(winograd, "MANY_WEIGHTS_BYTES", many_weights)
    monkeypatch.setattr(winograd, "BLOCK_POINTS", 3 * 64)
    monkeypatch.setattr(winograd, "WEIGHTS_BLOCK_BYTES", 0)
    g = GEOMETRIES[case]
    for name in ("winograd", "winograd_f2", "winograd_f5"):
        if ALGORITHMS[name].refusal(g, np.dtype(np.float32), "forward"):
            continue
        plan = convolution.plan(g, np.float32, name)
        for _ in range(3):  # weights are transformed as they are used, then kept
            check_forward(plan, g, np.float32)
        check_backward_data(plan, g, np.float32)
        check_backward_weights(plan, g, np.float32)


BANDS = ["pad_beyond_kernel", "1x1_deep", "3x3_stride_2_pad", "5x5_stride_3_pad_beyond", "stride_3_beyond_kernel"]
BANDS += ["uneven", "dilation_3_stride_2", "four_images", "four_images_stride_2", "group_3_odd", "row_kernel", "wide"]


@pytest.mark.parametrize("case", BANDS)
@pytest.mark.parametrize(
    "limits", [(5, 0, 1 << 40), (23, 9 << 10, 1 << 40), (3, 1 << 40, 0)], ids=["by_rows", "by_bands", "by_pieces"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_of_weights_is_the_same_however_it_is_cut(case, limits, dtype, monkeypatch):
    pixels, band_bytes, sums_bytes = limits
    g, pixel_bytes = GEOMETRIES[case], tile_columns(dtype) * np.dtype(dtype).itemsize
    monkeypatch.setattr(few_channels, "CHANNELS", 0)
    monkeypatch.setattr(correlate_weights, "CALL_BYTES", pixels * pixel_bytes)
    monkeypatch.setattr(correlate_weights, "BAND_BYTES", band_bytes)
    monkeypatch.setattr(correlate_weights, "SUMS_BYTES", sums_bytes)
    monkeypatch.setattr(correlate_weights, "CHUNK", 7)
    monkeypatch.setattr(correlate_weights, "MOST_PANELS", 1)
    check_backward_weights(convolution.plan(g, dtype, "direct"), g, dtype)


STREAMED = {
    "depthwise": GEOMETRIES["depthwise_stride_2"],
    "depthwise_dilated": GEOMETRIES["depthwise_9x9_dilated"],
    "depthwise_no_whole_lines": GEOMETRIES["depthwise"],
    "winograd": geometry(2, 32, 64, (9, 14), 3, pad=1),
    "winograd_group_2": geometry(1, 64, 32, (10, 7), 3, group=2),
    "winograd_group_no_whole_lines": geometry(1, 16, 16, (6, 6), 3, pad=1, group=2),
    "winograd_no_whole_lines": geometry(1, 15, 17, (6, 6), 3, pad=1),
    "winograd_blocks": geometry(2, 16, 32, (13, 12), 7, pad=3),
    "direct": geometry(2, 5, 32, (9, 14), 3, pad=1),
    "direct_many_channels": geometry(1, 136, 16, (6, 5), 3, pad=1),
    "direct_pixels_as_one": geometry(2, 16, 16, (6, 13), 3, stride=2, pad=1),
    "direct_groups_of_whole_lines": geometry(2, 6, 64, (6, 13), 3, pad=1, group=2),
    "direct_groups_of_no_whole_lines": geometry(2, 8, 48, (6, 13), 3, pad=1, group=2),
    "direct_no_whole_lines": geometry(1, 16, 17, (6, 6), 3),
    "pointwise": geometry(2, 48, 32, (9, 14), 1),
    "pointwise_many_channels": geometry(1, 272, 64, (9, 14), 1),
    "pointwise_group_no_whole_lines": geometry(1, 16, 16, (9, 14), 1, group=2),
    "strassen": geometry(4, 128, 64, (5, 6), 3, stride=2, pad=1),
    "strassen_quarters_no_whole_lines": geometry(4, 64, 32, (5, 6), 1),
    "strassen_no_whole_lines": geometry(4, 64, 36, (5, 6), 1),
}


@pytest.mark.parametrize("case", STREAMED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_is_computed_past_the_caches(case, dtype, monkeypatch):
    g, name = STREAMED[case], case.split("_")[0]
    x, w, b, dy = (aligned(array.astype(dtype)) for array in arrays(g))
    found = []
    for least_bytes in (1 << 40, 0):
        monkeypatch.setattr(streaming, "least_bytes", lambda least_bytes=least_bytes: least_bytes)
        plan, y, dx = convolution.plan(g, dtype, name), aligned(np.zeros_like(dy)), aligned(np.zeros_like(x))
        plan.forward(x, w, b, y, relu=True)
        plan.backward_data(dy, w, dx)
        found.append((y, dx, streaming.stream_flag(x, y.transpose(0, 2, 3, 1))))
    (y, dx, flag), (y_past, dx_past, flag_past) = found
    assert (flag, flag_past) == (0, STREAM if g.num_output % 16 == 0 else 0)
    np.testing.assert_array_equal(y_past, y)
    np.testing.assert_array_equal(dx_past, dx)


def aligned(array):
    """A copy of a feature map in NHWC memory that begins on a cache line."""
    memory = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
    copy = aligned_zeros(array.size, array.dtype).reshape(memory.shape)
    copy[...] = memory
    return copy.transpose(0, 3, 1, 2) if array.ndim == 4 else copy


def test_every_algorithm_is_tested():
    assert {param.values[0] for param in COMBINATIONS} == set(ALGORITHMS)


def test_many_pixels_are_multiplied_as_they_lie():
    served = {
        case for case, g in GEOMETRIES.items() if max(g.kernel) == 1 and outer_products.serves(g, np.dtype(np.float32))
    }
    assert served == {case for case in GEOMETRIES if case.startswith("1x1_many_pixels")}


@pytest.mark.parametrize("g", list(GEOMETRIES.values()), ids=list(GEOMETRIES))
def test_chosen_algorithms_agree_with_the_reference(g):
    plan = convolution.plan(g, np.float32)
    check_forward(plan, g, np.float32)
    check_backward_data(plan, g, np.float32)
    check_backward_weights(plan, g, np.float32)
    assert set(plan.algorithms) == set(PASSES)
    assert set(plan.algorithms.values()) <= set(ALGORITHMS)


@st.composite
def geometries(draw, name=""):
    group = draw(st.sampled_from([1, 1, 1, 2, 3]))
    channels, num_output = (draw(st.sampled_from([1, 3, 8, 15, 16, 17, 33])) * group for _ in range(2))
    batch = draw(st.integers(1, 3))
    if name == "strassen":
        group, batch, channels, num_output = 1, 4 * batch, 4 * channels, 4 * num_output
    elif draw(st.integers(0, 4)) == 0:
        group, num_output = channels, channels * draw(st.sampled_from([1, 1, 2]))
    pair = lambda *values: tuple(draw(st.sampled_from(values)) for _ in range(2))  # noqa: E731
    kernel = draw(st.sampled_from([(3, 3), (3, 3), (5, 5), (7, 7), (1, 1), None])) or pair(1, 2, 3, 4, 7)
    stride = draw(st.sampled_from([(1, 1), (1, 1), (2, 2), None])) or pair(1, 2, 3)
    dilation = draw(st.sampled_from([(1, 1), (1, 1), None])) or pair(1, 2, 3)
    pad, in_shape = pair(0, 1, 2, 3), tuple(draw(st.integers(1, 14)) for _ in range(2))
    if name == "pointwise":
        kernel, pad = (1, 1), (0, 0)
    spans = zip(in_shape, pad, kernel, dilation, strict=True)
    assume(all(i + 2 * p > d * (k - 1) for i, p, k, d in spans))
    return geometry(batch, channels, num_output, in_shape, kernel, stride, pad, dilation, group)


@pytest.mark.parametrize("name", list(ALGORITHMS))
@given(data=st.data())
@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.filter_too_much], derandomize=True)
def test_drawn_geometries_agree_with_the_reference(name, data):
    g = data.draw(geometries(name))
    assume(not ALGORITHMS[name].refusal(g, np.dtype(np.float32), "forward"))
    plan = convolution.plan(g, np.float32, name)
    check_forward(plan, g, np.float32)
    check_backward_data(plan, g, np.float32)
    check_backward_weights(plan, g, np.float32)


@pytest.mark.parametrize(("name", "g", "dtype"), [p for p in COMBINATIONS if p.values[2] == "float64"])
def test_forward_and_backward_data_are_adjoint(name, g, dtype):
    bottom, weight, _, top_diff = (array.astype(dtype) for array in arrays(g))
    top, bottom_diff = np.empty_like(top_diff), np.empty_like(bottom)
    plan = convolution.plan(g, dtype, name)
    plan.forward(bottom, weight, None, top)
    plan.backward_data(top_diff, weight, bottom_diff)
    scale = np.linalg.norm(top) * np.linalg.norm(top_diff)
    assert abs(np.vdot(top_diff, top) - np.vdot(bottom_diff, bottom)) <= 1e-13 * scale


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_strided_arrays_are_served(name):
    g = GEOMETRIES[SPECIAL.get(name, "pad")]
    bottom, weight, bias, top_diff = arrays(g)
    every_second = [np.repeat(array, 2, axis=-1)[..., ::2] for array in (bottom, weight, bias, top_diff)]
    plain, strided = (convolution.plan(g, np.float32, name) for _ in range(2))
    results = []
    for plan, (x, w, b, dy), step in ((plain, arrays(g), 1), (strided, every_second, 2)):
        outs = [
            np.zeros((*array.shape[:-1], array.shape[-1] * step), np.float32)[..., ::step] for array in (dy, x, w, b)
        ]
        plan.forward(x, w, b, outs[0])
        plan.backward_data(dy, w, outs[1])
        plan.backward_weights(dy, x, outs[2], outs[3])
        results.append(outs)
    for one, other in zip(*results, strict=True):
        assert np.array_equal(one, other)
        assert one.any()


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_results_do_not_depend_on_the_number_of_threads(name):
    count, results = get_num_threads(), []
    cases = [g for g in GEOMETRIES.values() if not ALGORITHMS[name].refusal(g, np.dtype(np.float32), "forward")]
    try:
        for threads in (1, 2):
            set_num_threads(threads)
            results.append([run_all(convolution.plan(g, np.float32, name), g) for g in cases])
    finally:
        set_num_threads(count)
    assert results[0] == results[1]


def run_all(plan, g):
    """The bytes of all results of the three passes."""
    bottom, weight, bias, top_diff = arrays(g)
    outs = [np.zeros_like(array) for array in (top_diff, bottom, weight, bias)]
    plan.forward(bottom, weight, bias, outs[0])
    plan.backward_data(top_diff, weight, outs[1])
    plan.backward_weights(top_diff, bottom, outs[2], outs[3])
    return [out.tobytes() for out in outs]


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_several_python_threads_may_share_a_plan(name):
    g = GEOMETRIES[SPECIAL.get(name, "wide")]
    plan = convolution.plan(g, np.float32, name)
    expected, found = run_all(plan, g), []
    workers = [threading.Thread(target=lambda: found.extend(run_all(plan, g) for _ in range(5))) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert found == [expected] * 20


@pytest.mark.parametrize("name", list(ALGORITHMS))
@pytest.mark.parametrize("position", [0, -1])
def test_weights_written_in_place_are_followed(name, position):
    g = GEOMETRIES[SPECIAL.get(name, "pad")]
    bottom, weight, _, top_diff = arrays(g)
    weight, plan = weight.copy(), convolution.plan(g, np.float32, name)
    run_all(plan, g)
    weight.flat[position] += 1
    top, bottom_diff = np.empty_like(top_diff), np.empty_like(bottom)
    plan.forward(bottom, weight, None, top)
    plan.backward_data(top_diff, weight, bottom_diff)
    assert_close(top, reference.forward(g, bottom, weight), np.float32)
    assert_close(bottom_diff, reference.backward_data(g, top_diff, weight), np.float32)


def test_kernel_larger_than_padded_image_is_refused():
    with pytest.raises(LayerError, match="larger than the padded input"):
        geometry(1, 1, 1, (4, 4), 7, pad=1)


def test_named_algorithm_refuses_what_it_does_not_do():
    refused = [
        (name, g, why)
        for name, algorithm in ALGORITHMS.items()
        for g in GEOMETRIES.values()
        if (why := algorithm.refusal(g, np.dtype(np.float32), "forward"))
    ]
    for name, g, why in refused:
        with pytest.raises(UnsupportedError, match=f"{name} does not compute forward here"):
            run_all(convolution.plan(g, np.float32, name), g)
        assert why


def test_other_float_dtypes_go_through_im2col():
    g = GEOMETRIES["plain"]
    bottom, weight, bias, _ = (array.astype(np.float16) for array in arrays(g))
    top = np.empty((g.batch, g.num_output, *g.out_shape), np.float16)
    plan = convolution.plan(g, np.float16)
    plan.forward(bottom, weight, bias, top)
    assert plan.algorithms["forward"] == "im2col"
    assert np.abs(top - reference.forward(g, bottom, weight, bias)).max() < 0.05
