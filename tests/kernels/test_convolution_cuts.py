"""Convolutions give the same however the work is cut, and wherever the results are written."""

import numpy as np
import pytest
from conv_cases import GEOMETRIES, arrays, check_backward_data, check_backward_weights, check_forward
from conv_reference import geometry

from breve.blob import aligned_zeros
from breve.kernels import convolution, microkernel, scratch, streaming
from breve.kernels.convolution import (
    ALGORITHMS,
    correlate_weights,
    correlation,
    few_channels,
    next_pixels,
    outer_products,
    strassen,
    strassen_kernels,
    winograd,
)
from breve.kernels.convolution.winograd_tiles import needed
from breve.kernels.microkernel import STREAM, tile_columns
from breve.kernels.microkernel.vectors import LINE_BYTES

CUT = ["pad", "channels_15_17", "wide", "tile_sizes_and_one", "5x5", "group_3_odd", "3x3_stride_2_pad", "7x7"]


@pytest.mark.parametrize("case", CUT)
@pytest.mark.parametrize(
    "limits",
    [(1 << 40, 0, 0), (0, 1 << 40, 0), (0, 1 << 40, 1 << 40)],
    ids=["by_outputs", "by_small_blocks", "by_parts"],
)
@pytest.mark.parametrize("is_far", [False, True], ids=["near", "far"])
def test_winograd_gives_the_same_however_it_is_cut(case, limits, is_far, monkeypatch):
    few_tiles, many_weights, part_sums = limits
    monkeypatch.setattr(winograd, "third_level_is_far", lambda: is_far)
    monkeypatch.setattr(winograd, "FAR_WEIGHTS_BYTES", 0)
    monkeypatch.setattr(winograd, "FAR_PART_BLOCK_BYTES", 0)
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


@pytest.mark.parametrize("case", CUT)
@pytest.mark.parametrize("cores", [3, 7, 64])
def test_winograd_gives_the_same_for_any_number_of_cores(case, cores, monkeypatch):
    monkeypatch.setattr(winograd, "physical_cores", lambda: cores)
    monkeypatch.setattr(winograd, "MANY_TILES", 0)
    g = GEOMETRIES[case]
    for name in ("winograd", "winograd_f2", "winograd_f5"):
        if not ALGORITHMS[name].refusal(g, np.dtype(np.float32), "forward"):
            plan = convolution.plan(g, np.float32, name)
            check_forward(plan, g, np.float32)
            check_backward_data(plan, g, np.float32)
            for _ in range(2):  # what sums held before does not count
                check_backward_weights(plan, g, np.float32)


@pytest.mark.parametrize("cores", [1, 3, 64])
@pytest.mark.parametrize("group", [1, 2])
def test_direct_gives_the_same_for_any_number_of_cores(cores, group, monkeypatch):
    monkeypatch.setattr(correlation, "physical_cores", lambda: cores)
    monkeypatch.setattr(correlation, "MANY_WEIGHTS", 1 << 40)
    monkeypatch.setattr(correlation, "TASKS", 1)
    monkeypatch.setattr(correlation, "CHUNK_BYTES", 0)
    g = geometry(3, 10, 600, (7, 6), 3, stride=2, pad=1, group=group)
    plan = convolution.plan(g, np.float32, "direct")
    panels = group * -(-600 // (group * tile_columns(np.float32)))
    assert ALGORITHMS["direct"](g, np.float32)._forward.sizes.splits == min(cores, panels)
    check_forward(plan, g, np.float32)
    check_backward_data(plan, g, np.float32)


@pytest.mark.parametrize("case", [case for case, g in GEOMETRIES.items() if len(g.kernel) == 2])
@pytest.mark.parametrize("least", [1, 1 << 40], ids=["tap_by_tap", "rows_of_taps"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_direct_gives_the_same_tap_by_tap_and_by_rows_of_taps(case, least, dtype, monkeypatch):
    for module in (correlation, correlate_weights):
        monkeypatch.setattr(module, "TAP_BY_TAP", least)
    monkeypatch.setattr(correlation, "TAPS_BYTES", 0)
    monkeypatch.setattr(correlation, "LEAST_DEPTH", 5)
    monkeypatch.setattr(correlation, "TAP_DEPTH", 5)
    g = GEOMETRIES[case]
    plan = convolution.plan(g, dtype, "direct")
    check_forward(plan, g, dtype)
    check_forward(plan, g, dtype, relu=True)
    check_backward_data(plan, g, dtype)
    check_backward_weights(plan, g, dtype)


LACKING = {
    "7x7": (geometry(2, 16, 16, (7, 7), 3, pad=1), "winograd", (6 + 5) * (6 + 5)),
    "7x8": (geometry(2, 16, 16, (7, 8), 3, pad=1), "winograd", (6 + 5) * (6 + 6)),
    "8x5": (geometry(2, 16, 16, (8, 5), 3, pad=1), "winograd", (6 + 6) * (6 + 5)),
    "3x2": (geometry(2, 16, 16, (3, 2), 3, pad=1), "winograd", 5 * 5),
    "14x13": (geometry(2, 16, 16, (14, 13), 3, pad=1), "winograd_f5", (7 + 7 + 6) * (7 + 7 + 6)),
    "blocks of 2x2 at the edge": (geometry(2, 16, 16, (15, 13), 7, pad=3), "winograd", (7 + 7) * (7 + 6)),
}


@pytest.mark.parametrize("case", LACKING)
@pytest.mark.parametrize("most", [1, 3, 64], ids=["alone", "by_three", "together"])
def test_tiles_that_lack_a_row_or_column_need_fewer_products(case, most, monkeypatch):
    g, name, products = LACKING[case]
    monkeypatch.setattr(winograd, "BLOCK_POINTS", most * 49)
    s = ALGORITHMS[name](g, np.float32)._sizes
    spans = [
        needed.py_func(p, first // s.block, min(s.block, s.tiles - first), s)
        for first in range(0, s.tiles, s.block)
        for p in range(s.n**2)
    ]
    assert sorted(s.order) == list(range(s.tiles))
    assert sum(high - low for low, high in spans) == products * g.batch


@pytest.mark.parametrize("case", [*CUT, "strassen"])
def test_what_scratch_memory_held_does_not_matter(case):
    g = GEOMETRIES["four_images" if case == "strassen" else case]
    for name in ALGORITHMS:
        if ALGORITHMS[name].refusal(g, np.dtype(np.float32), "forward"):
            continue
        plan = convolution.plan(g, np.float32, name)
        for check in (check_forward, check_backward_data, check_backward_weights):
            check(plan, g, np.float32)
            for storage in getattr(scratch._local, "buffers", {}).values():
                storage.buffer[...] = np.nan if storage.dtype.kind == "f" else 0
            check(plan, g, np.float32)


BANDS = ["pad_beyond_kernel", "1x1_deep", "3x3_stride_2_pad", "5x5_stride_3_pad_beyond", "stride_3_beyond_kernel"]
BANDS += ["uneven", "dilation_3_stride_2", "four_images", "four_images_stride_2", "group_3_odd", "row_kernel", "wide"]


@pytest.mark.parametrize("case", BANDS)
@pytest.mark.parametrize(
    "limits", [(5, 0, 1 << 40), (23, 9 << 10, 1 << 40), (3, 1 << 40, 0)], ids=["by_rows", "by_bands", "by_pieces"]
)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_of_weights_is_the_same_however_it_is_cut(case, limits, dtype, monkeypatch):
    pixels, band_bytes, sums_bytes = limits
    g = GEOMETRIES[case]
    monkeypatch.setattr(few_channels, "CHANNELS", 0)
    monkeypatch.setattr(correlate_weights, "CALL_PIXELS", pixels)
    monkeypatch.setattr(correlate_weights, "BAND_BYTES", band_bytes)
    monkeypatch.setattr(correlate_weights, "SUMS_BYTES", sums_bytes)
    monkeypatch.setattr(correlate_weights, "CHUNK", 7)
    monkeypatch.setattr(correlate_weights, "MOST_CHANNELS", 1)
    check_backward_weights(convolution.plan(g, dtype, "direct"), g, dtype)


@pytest.mark.parametrize("case", [case for case in GEOMETRIES if case.startswith("1x1_many_pixels")])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_outer_products_are_the_same_of_packed_panels(case, dtype, monkeypatch):
    g = GEOMETRIES[case]
    monkeypatch.setattr(outer_products, "UNPACKED", 0)
    assert outer_products.plan_weights(g, np.dtype(dtype))[0].packed
    check_backward_weights(convolution.plan(g, dtype, "direct"), g, dtype)


@pytest.mark.parametrize(("kernel", "stride"), [(1, 1), (3, 1), (3, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_of_weights_of_many_panels_which_are_packed_pixel_by_pixel(kernel, stride, dtype):
    g = geometry(2, 265, 215, (7, 5), kernel, stride=stride, pad=kernel // 2)
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
    "direct_pixels_that_no_tap_sees": geometry(2, 32, 48, (9, 14), 1, stride=2),
    "direct_no_whole_lines": geometry(1, 16, 17, (6, 6), 3),
    "pointwise": geometry(2, 48, 32, (9, 14), 1),
    "pointwise_many_channels": geometry(1, 272, 64, (9, 14), 1),
    "pointwise_group_no_whole_lines": geometry(1, 16, 16, (9, 14), 1, group=2),
    "strassen": geometry(4, 128, 64, (5, 6), 3, stride=2, pad=1),
    "strassen_quarters_no_whole_lines": geometry(4, 64, 32, (5, 6), 1),
    "strassen_no_whole_lines": geometry(4, 64, 36, (5, 6), 1),
    "strassen_pixels_that_no_tap_sees": geometry(4, 64, 64, (6, 9), 1, stride=2),
}


@pytest.mark.parametrize("case", STREAMED)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_same_is_computed_past_the_caches(case, dtype, monkeypatch):
    g, name = STREAMED[case], case.split("_")[0]
    x, w, b, dy = (aligned(array.astype(dtype)) for array in arrays(g))
    found = []
    for least_bytes in (1 << 40, 0):
        monkeypatch.setattr(streaming, "least_bytes", lambda least_bytes=least_bytes: least_bytes)
        plan, y, dx = convolution.plan(g, dtype, name), aligned(np.ones_like(dy)), aligned(np.ones_like(x))
        plan.forward(x, w, b, y, relu=True)
        plan.backward_data(dy, w, dx)
        found.append((y, dx, streaming.stream_flag(x, y.transpose(0, 2, 3, 1))))
    (y, dx, flag), (y_past, dx_past, flag_past) = found
    assert (flag, flag_past) == (0, STREAM if g.num_output % 16 == 0 else 0)
    np.testing.assert_array_equal(y_past, y)
    np.testing.assert_array_equal(dx_past, dx)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("g", [geometry(8, 64, 72, (9, 14), 1), geometry(4, 12, 64, (7, 6), 3, stride=2, pad=1)])
def test_strassens_products_are_the_same_whatever_they_fetch(g, dtype, monkeypatch):
    x, w, b, dy = (array.astype(dtype) for array in arrays(g))
    found = []
    for halves in (False, True):
        at_once = microkernel.host_instruction_set().vector_bytes // (1 + halves)
        monkeypatch.setattr(microkernel, "multiplied_bytes", lambda isa, at_once=at_once: at_once)
        assert all(s.fetches_x == halves for s, _ in strassen.plans(g, "forward", dtype))
        plan, y, dx = convolution.plan(g, dtype, "strassen"), np.ones_like(dy), np.ones_like(x)
        plan.forward(x, w, b, y)
        plan.backward_data(dy, w, dx)
        found.append((y, dx))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("g", [geometry(8, 64, 72, (9, 14), 1), geometry(8, 64, 64, (40, 6), 3, stride=2, pad=1)])
def test_calls_of_strassens_products_fetch_what_the_next_band_sees(g, monkeypatch):
    monkeypatch.setattr(strassen_kernels, "distance", next_pixels.distance.py_func)
    to_next_input = strassen_kernels._to_next_input.py_func
    ((s, shifts),) = strassen.plans(g, "forward", np.float32)
    x, u, calls = np.zeros(8, np.float32), np.zeros(8, np.float32), 1000
    between = (x.ctypes.data - u.ctypes.data) // 4
    for task in range(s.quads * s.bands - 1):
        starts = [to_next_input(x, task, i, calls, s, shifts, u, 5) + 5 - between for i in range(calls)]
        first = (task + 1) % s.bands * s.band * s.scale_h
        images = [(task + 1) // s.bands * 4 + i for i in range(4)]
        seen = {image * s.in_h + first + shift for image in images for shift in shifts.inputs}
        assert {start // (s.in_w * s.in_channels) for start in starts} == seen


@pytest.mark.parametrize("g", [geometry(2, 96, 130, (19, 14), 1), geometry(2, 96, 130, (29, 9), 1, stride=2)])
def test_gradient_of_weights_is_the_same_whatever_its_calls_fetch(g, monkeypatch):
    x, _, _, dy = arrays(g)
    x, dy = (array.transpose(0, 2, 3, 1).astype(np.float32, order="C") for array in (x, dy))
    (s, *seen), found = correlate_weights.plan_weights(g, np.float32), []
    assert s.fetches
    for fetches in (0, 1):
        found.append(np.zeros((g.num_output, g.channels, 1, 1), np.float32))
        correlate_weights.backward_weights((s._replace(fetches=fetches), *seen), dy, x, found[-1], None)
    np.testing.assert_array_equal(*found)


@pytest.mark.parametrize("g", [geometry(2, 96, 130, (19, 14), 1), geometry(2, 96, 130, (29, 9), 1, stride=2)])
def test_calls_of_a_gradient_of_weights_fetch_the_next_pixels(g, monkeypatch):
    for helper in ("distance", "next_pixels", "to_share"):
        monkeypatch.setattr(next_pixels, helper, getattr(next_pixels, helper).py_func)
    monkeypatch.setattr(correlate_weights, "next_pixels", next_pixels.next_pixels)
    monkeypatch.setattr(correlate_weights, "_band", correlate_weights._band.py_func)
    s, *_ = correlate_weights.plan_weights(g, np.float32)
    x, dy, panels, calls = (*(np.zeros(8, np.float32) for _ in range(3)), 1000)
    for each in range(s.bands * s.spans):
        first, last, column, end = correlate_weights._band(each, s)
        pixel, pixels = first * s.out_w + column, (last - first) * (end - column)
        ahead = correlate_weights._next_band.py_func(x, dy, panels, each, calls, s)
        starts = {next_pixels.to_share(call, ahead) for call in range(0, calls, ahead.calls)}
        for array, channels in ((x, g.channels if g.is_1x1 else 0), (dy, g.num_output)):
            begin = (array.ctypes.data - panels.ctypes.data) // 4 + pixel * channels
            assert set(range(begin, begin + pixels * channels, ahead.share)) <= starts


def test_sums_of_weights_are_written_past_the_caches_in_whole_lines():
    stored = microkernel.transform_address("f", strassen.B)
    streamed = strassen._code("f", 1, 1).weights_to_points
    assert (stored != streamed) == (microkernel.host_instruction_set().vector_bytes == LINE_BYTES)


def aligned(array):
    """A copy of a feature map in NHWC memory that begins on a cache line."""
    memory = array.transpose(0, 2, 3, 1) if array.ndim == 4 else array
    copy = aligned_zeros(array.size, array.dtype).reshape(memory.shape)
    copy[...] = memory
    return copy.transpose(0, 3, 1, 2) if array.ndim == 4 else copy
