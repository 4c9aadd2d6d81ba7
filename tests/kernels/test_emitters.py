"""The smaller emitters (copy, transform, normalisation) on the instruction sets that run here, and their text."""

import re

import numpy as np
import pytest
from emitter_cases import CHANNELS, NEAR, for_both_dtypes, invoke, on_every_set

from breve.blob import aligned_zeros
from breve.kernels import microkernel
from breve.kernels.convolution import strassen
from breve.kernels.convolution.cook_toom import cook_toom
from breve.kernels.microkernel import INSTRUCTION_SETS
from breve.kernels.microkernel.compile import assembly
from breve.kernels.microkernel.copy import emit_copy
from breve.kernels.microkernel.normalisation import READS, emit_normalisation
from breve.kernels.microkernel.transform import ALL, emit_transform
from breve.kernels.microkernel.vectors import LINE_BYTES


def matrix_of(array):
    return tuple(map(tuple, array.tolist()))


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("channels", [*CHANNELS, 64, 100])
def test_maximum_takes_the_first_of_the_largest(isa, dtype, channels):
    x = np.random.default_rng(0).integers(-3, 3, (4, 5, channels)).astype(dtype)
    x[0, :, 0], x[1, 1, -1] = -np.inf, np.nan
    y, mask = np.full(channels + 9, 7, dtype), np.full(channels + 9, 7, np.int32)
    address = microkernel.maximum_address(dtype, isa)
    invoke(address, (x, 5 * channels), 5 * channels, channels, 2, 3, y, mask, channels, 5, 5)
    values = np.where(np.isnan(x), -np.inf, x)[1:3, :3].reshape(6, channels)
    np.testing.assert_array_equal(y[:channels], values.max(0))
    np.testing.assert_array_equal(mask[:channels], np.array([5, 6, 7, 10, 11, 12])[values.argmax(0)])
    assert (y[channels:] == 7).all()
    assert (mask[channels:] == 7).all()


@on_every_set
def test_maximum_of_nothing_is_the_lowest(isa):
    y, mask = np.zeros(3, np.float32), np.zeros(3, np.int32)
    x = np.full((2, 2, 3), -np.inf, np.float32)
    for rows in (0, 2):
        invoke(microkernel.maximum_address(np.float32, isa), x, 6, 3, rows, 2, y, mask, 3, 0, 2)
        assert (y == np.finfo(np.float32).min).all()
        assert (mask == -1).all()


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("columns", [0, 1, 7, 8, 17, 33])
@pytest.mark.parametrize("rows", [0, 1, 3, 8, 15, 16, 19])
def test_transpose_turns_the_matrix_and_writes_nothing_else(isa, dtype, rows, columns):
    src = np.random.default_rng(0).standard_normal((20, 40)).astype(dtype)
    dst = np.full((40, 30), 7, dtype)
    invoke(microkernel.transpose_address(dtype, isa), rows, columns, (src, 2), 40, (dst, 5), 30)
    expected = np.full((40, 30), 7, dtype)
    expected[:columns, 5 : 5 + rows] = src[:rows, 2 : 2 + columns].T
    np.testing.assert_array_equal(dst, expected)


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("columns", [0, 1, 2, 3, 7, 8, 15, 16, 31, 32, 33, 100])
def test_copy_moves_the_columns_and_nothing_else(isa, dtype, columns):
    src = np.random.default_rng(0).standard_normal((3, 110)).astype(dtype)
    dst = np.full((3, 120), 7, dtype)
    invoke(microkernel.copy_address(dtype, isa), 3, columns, (src, 2), 110, (dst, 5), 120)
    expected = np.full((3, 120), 7, dtype)
    expected[:, 5 : 5 + columns] = src[:, 2 : 2 + columns]
    np.testing.assert_array_equal(dst, expected)


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("channels", CHANNELS)
@pytest.mark.parametrize("sizes", [(2, 3), (4, 3), (5, 3), (4, 5)], ids=str)
def test_transform_to_points_reads_the_image_and_writes_panels(isa, dtype, channels, sizes):
    _, _, bt = cook_toom(*sizes)
    n, nr = len(bt), isa.tile_columns(dtype)
    panels = -(-channels // nr)
    image = np.full((n, n + 1, channels + 3), np.nan, dtype)
    image[:, :n, :channels] = np.random.default_rng(0).standard_normal((n, n, channels))
    points = np.full((n, n, panels, nr), np.nan, dtype)
    address = microkernel.transform_address(dtype, matrix_of(bt), "src", sizes[0], isa=isa)
    row, col = (n + 1) * (channels + 3), channels + 3
    for rows, columns in ((ALL, ALL), (0b011, ALL), (ALL, 0b110), (0b110, 0b001), (0, ALL)):
        inside = np.outer(bits(rows, n), bits(columns, n))[..., None]
        seen = np.full_like(image, np.nan)  # what lies outside is not read: it would spread
        seen[:, :n, :channels] = np.where(inside, image[:, :n, :channels], np.nan)
        invoke(address, seen, row, col, nr, points, n * panels * nr, panels * nr, nr, channels, rows, columns)
        expected = np.einsum("iy,yxc,jx->ijc", bt, np.where(inside, image[:, :n, :channels], 0).astype(float), bt)
        found = points.reshape(n, n, -1)[..., :channels]
        np.testing.assert_allclose(found, expected, rtol=0, atol=NEAR[dtype] * np.abs(expected).max())


def bits(number, count):
    """The lowest of them, as truth values."""
    return np.array([number >> i & 1 for i in range(count)], bool)


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("channels", CHANNELS)
def test_transform_from_points_adds_bias_and_clamps(isa, dtype, channels, relu):
    at, _, _ = cook_toom(4, 3)
    (m, n), nr, rng = at.shape, isa.tile_columns(dtype), np.random.default_rng(0)
    panels = -(-channels // nr)
    points = rng.standard_normal((n, n, panels, nr)).astype(dtype)
    bias = rng.standard_normal(panels * nr).astype(dtype)
    image = np.full((m, m, channels + 2), 7, dtype)
    address = microkernel.transform_address(dtype, matrix_of(at), "dst", 4, epilogue=True, isa=isa)
    row, col = m * (channels + 2), channels + 2
    invoke(address, points, n * panels * nr, panels * nr, nr, image, row, col, nr, channels, bias, relu)
    seen = points.reshape(n, n, -1)[..., :channels].astype(float)
    expected = np.einsum("iy,yxc,jx->ijc", at, seen, at) + bias[:channels]
    expected = np.maximum(expected, 0) if relu else expected
    np.testing.assert_allclose(image[..., :channels], expected, rtol=0, atol=NEAR[dtype] * np.abs(expected).max())
    assert (image[..., channels:] == 7).all()


@on_every_set
@for_both_dtypes
def test_transform_from_points_streams_what_it_would_store(isa, dtype):
    at, _, _ = cook_toom(4, 3)
    (m, n), nr, channels = at.shape, isa.tile_columns(dtype), 2 * LINE_BYTES // np.dtype(dtype).itemsize
    points = np.random.default_rng(0).standard_normal((n, n, -(-channels // nr), nr)).astype(dtype)
    found = aligned_zeros(2 * m * m * channels, dtype).reshape(2, m, m, channels)
    for image, stream in zip(found, (False, True), strict=True):
        address = microkernel.transform_address(dtype, matrix_of(at), "dst", m, epilogue=True, stream=stream, isa=isa)
        sizes = (points[0].size, points[0, 0].size, nr), (m * channels, channels, nr, channels)
        invoke(address, points, *sizes[0], image, *sizes[1], np.zeros(channels, dtype), 0)
    np.testing.assert_array_equal(found[1], found[0])
    assert found[0].all()


def quadrants(matrix):
    """(4 rows, 4 blocks, channels) as [y, x, channels]: y chooses a half of rows and blocks, x a half of these."""
    halves = matrix.reshape(2, 2, 2, 2, -1)  # half of rows, row of it, half of blocks, block of it
    return halves.transpose(0, 2, 1, 3, 4).reshape(4, 4, -1)


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("channels", CHANNELS)
def test_transform_to_points_takes_quadrants_of_quadrants(isa, dtype, channels):
    nr, matrix = isa.tile_columns(dtype), np.array(strassen.A, float)
    panels = -(-channels // nr)
    rows = np.full((4, 4 * channels + 5), np.nan, dtype)
    rows[:, : 4 * channels] = np.random.default_rng(0).standard_normal((4, 4 * channels))
    points = np.full((7, 7, panels, nr), np.nan, dtype)
    address = microkernel.transform_address(dtype, matrix_of(matrix), "src", 1, quadrants=True, isa=isa)
    row, point = 4 * channels + 5, panels * nr
    invoke(address, rows, 2 * row, row, channels, points, 7 * point, point, nr, channels, ALL, ALL)
    expected = np.einsum("iy,yxc,jx->ijc", matrix, quadrants(rows[:, : 4 * channels].astype(float)), matrix)
    found = points.reshape(7, 7, -1)[..., :channels]
    np.testing.assert_allclose(found, expected, rtol=0, atol=NEAR[dtype] * np.abs(expected).max())


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("relu", [0, 1])
@pytest.mark.parametrize("channels", CHANNELS)
def test_transform_from_points_writes_quadrants_with_the_bias_of_each(isa, dtype, channels, relu):
    nr, matrix, rng = isa.tile_columns(dtype), np.array(strassen.C, float), np.random.default_rng(0)
    point = -(-channels // nr) * nr
    points, bias = rng.standard_normal((7, 7, point)).astype(dtype), rng.standard_normal(4 * channels).astype(dtype)
    rows = np.full((4, 4 * channels + 5), 7, dtype)
    address = microkernel.transform_address(dtype, matrix_of(matrix), "dst", 1, epilogue=True, quadrants=True, isa=isa)
    row = rows.shape[1]
    invoke(address, points, 7 * point, point, nr, rows, 2 * row, row, channels, channels, bias, relu)
    expected = np.einsum("iy,yxc,jx->ijc", matrix, points[..., :channels].astype(float), matrix)
    expected += quadrants(np.tile(bias, (4, 1)))
    expected = np.maximum(expected, 0) if relu else expected
    found = quadrants(rows[:, : 4 * channels])
    np.testing.assert_allclose(found, expected, rtol=0, atol=NEAR[dtype] * np.abs(expected).max())
    assert (rows[:, 4 * channels :] == 7).all()


@pytest.mark.parametrize("name", ["avx512", "avx2"])
@pytest.mark.parametrize("stream", [False, True])
def test_transform_text_fetches_or_streams_each_output(name, stream):
    isa, (at, _, _) = INSTRUCTION_SETS[name], cook_toom(4, 3)
    text = assembly(emit_transform, "f", matrix_of(at), "dst", 4, True, stream, False, isa=isa)
    streamed, fetched = (len(re.findall(rf"^\s+{op}\s", text, re.M)) for op in ("vmovntps", r"prefetch\w+"))
    assert (streamed, fetched) == ((16, 0) if stream else (0, 2 * 16))  # for whole vectors, and for the masked one


def normalisation_arrays(dtype, channels):
    """x and dy of nine rows, off their line by one element; seven coefficients a channel; room for two outputs."""
    rng = np.random.default_rng(0)
    x, dy = rng.standard_normal((2, 9 * channels + 1)).astype(dtype)
    outputs = aligned_zeros(2 * (9 * channels + 64), dtype).reshape(2, -1)
    x, dy = (array[1:].reshape(9, channels) for array in (x, dy))
    return x, dy, rng.standard_normal((7, channels)).astype(dtype), outputs


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("channels", [*CHANNELS, 64, 100])
def test_normalisation_sums_over_rows(isa, dtype, channels):
    x, dy, of, outputs = normalisation_arrays(dtype, channels)
    wide, off = x.astype(float), x - of[0].astype(float)
    dv = np.where(off * of[1] + of[2] > 0, dy, of[3] * dy.astype(float))
    expected = {"sum": [wide.sum(0)], "squares": [(off**2).sum(0)], "sums": [dv.sum(0), (dv * off).sum(0)]}
    for kind, sums in expected.items():
        outputs[...] = 7
        address = microkernel.normalisation_address(dtype, kind, isa)
        invoke(address, 9, channels, x, dy, of, channels, outputs[0], outputs[1], 0)
        for found, values in zip(outputs, sums, strict=False):
            np.testing.assert_allclose(found[:channels], values, rtol=0, atol=10 * NEAR[dtype])
        assert (outputs[len(sums) :] == 7).all()
        assert (outputs[:, channels:] == 7).all()


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("channels", [*CHANNELS, 64, 100])
@pytest.mark.parametrize("wants", ["first", "both", "past the caches"])
def test_normalisation_of_each_row(isa, dtype, channels, wants):
    if wants == "past the caches":
        channels *= LINE_BYTES // np.dtype(dtype).itemsize
    x, dy, of, outputs = normalisation_arrays(dtype, channels)
    mean, gain, shift, slope, offset, tilt, factor = of.astype(float)
    off = x - mean
    v = off * gain + shift
    dv = np.where(v > 0, dy, slope * dy)
    expected = {
        "forward": (np.where(v > 0, v, slope * v), x),
        "backward": ((dv - offset - off * tilt) * gain, dv * factor),
    }
    past = microkernel.SECOND | microkernel.STREAM_FIRST | microkernel.STREAM_SECOND
    flags = {"first": 0, "both": microkernel.SECOND, "past the caches": past}[wants]
    for kind, values in expected.items():
        outputs[...] = 7
        address = microkernel.normalisation_address(dtype, kind, isa)
        invoke(address, 9, channels, x, dy, of, channels, outputs[0], outputs[1], flags)
        written = 1 if wants == "first" else 2
        for found, value in zip(outputs[:written], values, strict=False):
            np.testing.assert_allclose(found[: value.size], value.reshape(-1), rtol=0, atol=10 * NEAR[dtype])
        assert (outputs[written:] == 7).all()
        assert (outputs[:, x.size :] == 7).all()


@pytest.mark.parametrize("name", list(INSTRUCTION_SETS))
@for_both_dtypes
def test_every_emitter_builds_for_every_instruction_set(name, dtype):
    isa, char = INSTRUCTION_SETS[name], np.dtype(dtype).char
    assert "copy:" in assembly(emit_copy, char, isa=isa)
    for kind in READS:
        assert "normalisation:" in assembly(emit_normalisation, char, kind, isa=isa)
    for matrix in cook_toom(4, 3):
        assert "transform:" in assembly(emit_transform, char, matrix_of(matrix), "src", 4, False, False, False, isa=isa)
