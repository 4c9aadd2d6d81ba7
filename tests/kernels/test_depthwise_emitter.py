"""The emitter of depthwise convolutions on the instruction sets that run here, its text, and the plan of its runs."""

import re

import numpy as np
import pytest
from emitter_cases import CHANNELS, NEAR, for_both_dtypes, invoke, on_every_set

from breve.blob import aligned_zeros
from breve.kernels import microkernel
from breve.kernels.convolution import depthwise_plan
from breve.kernels.convolution.depthwise_plan import _most_pixels, _rows_together, forward_phase
from breve.kernels.convolution.geometry import ConvGeometry
from breve.kernels.microkernel import INSTRUCTION_SETS
from breve.kernels.microkernel.compile import assembly
from breve.kernels.microkernel.depthwise import Run, emit_accumulate, emit_correlate, line_vectors
from breve.kernels.microkernel.vectors import LINE_BYTES

RUNS = [
    Run(pixels=4, taps=3, stride=1, step=1, first=0, last=6),
    Run(pixels=3, taps=3, stride=2, step=1, first=1, last=6, fetch_level=1),
    Run(pixels=2, taps=5, stride=1, step=2, first=2, last=8),
    Run(pixels=1, taps=1, stride=1, step=1, first=0, last=1),
    Run(pixels=2, taps=3, stride=1, step=1, first=4, last=4),
]
MULTIPLY_ADD = r"^\s+(?:v?fn?madd\w*|fmla)\s.*"


def depthwise_arrays(run, dtype, channels, rows=2):
    """x with NaN where the run lies outside the image, weights with room for whole vectors, and y."""
    rng, room = np.random.default_rng(0), channels + 64
    positions = (run.pixels - 1) * run.stride + (run.taps - 1) * run.step + 1
    x = rng.standard_normal((rows, positions, channels)).astype(dtype)
    inside = (np.arange(positions) >= run.first) & (np.arange(positions) < run.last)
    x[:, ~inside] = np.nan
    return x, inside, rng.standard_normal((rows, run.taps, room)).astype(dtype), rng.standard_normal(room).astype(dtype)


def depthwise_pairs(run, inside):
    """(pixel, tap, position) of everything that meets inside the image."""
    places = ((p, j, p * run.stride + j * run.step) for p in range(run.pixels) for j in range(run.taps))
    return [place for place in places if inside[place[2]]]


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("run", RUNS, ids=str)
@pytest.mark.parametrize("channels", CHANNELS)
def test_depthwise_run_is_the_sum_over_its_taps(isa, dtype, run, channels):
    x, inside, w, bias = depthwise_arrays(run, dtype, channels)
    y = np.full((run.pixels, channels + 1), 7, dtype)
    address = microkernel.depthwise_address(dtype, run, accumulate=False, isa=isa)
    room = w.shape[2]
    invoke(
        address, 1, x, 0, x[0].size, channels, w, run.taps * room, room, y, 0, channels + 1, len(x), channels, bias,
        microkernel.FETCH, 1 << 40, 1 << 30, 1 << 50, 0, 0, 0,
    )  # fmt: skip
    expected = np.tile(bias[:channels].astype(float), (run.pixels, 1))
    for pixel, tap, position in depthwise_pairs(run, inside):
        expected[pixel] += (w[:, tap, :channels].astype(float) * x[:, position]).sum(0)
    np.testing.assert_allclose(y[:, :channels], expected, rtol=0, atol=NEAR[dtype] * 10)
    assert (y[:, channels] == 7).all()


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("run", RUNS, ids=str)
def test_depthwise_run_streams_what_it_would_store(isa, dtype, run):
    channels = 2 * LINE_BYTES // np.dtype(dtype).itemsize
    x, _, w, bias = depthwise_arrays(run, dtype, channels)
    stored, streamed = aligned_zeros(2 * run.pixels * channels, dtype).reshape(2, run.pixels, channels)
    address, room = microkernel.depthwise_address(dtype, run, accumulate=False, isa=isa), w.shape[2]
    for y, flag in ((stored, 0), (streamed, microkernel.STREAM)):
        flags = microkernel.RELU | flag
        invoke(
            address, 1, x, 0, x[0].size, channels, w, run.taps * room, room, y, 0, channels, len(x), channels, bias,
            flags, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
    np.testing.assert_array_equal(streamed, stored)
    assert stored.max() > 0


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("run", RUNS, ids=str)
@pytest.mark.parametrize("channels", [1, 16, 33])
@pytest.mark.parametrize(("upper", "both", "lower"), [(1, 2, 1), (0, 2, 1), (1, 2, 0), (0, 1, 0), (1, 0, 1), (0, 0, 0)])
def test_depthwise_runs_of_two_rows_are_the_sums_of_what_each_sees(isa, dtype, run, channels, upper, both, lower):
    x, inside, w, bias = depthwise_arrays(run, dtype, channels, rows=upper + both + lower + 1)
    y = np.full((2, run.pixels + 1, channels + 1), 7, dtype)
    address = microkernel.depthwise_address(dtype, run._replace(rows=2), accumulate=False, isa=isa)
    room = w.shape[2]
    invoke(
        address, 1, x, 0, x[0].size, channels, (w, run.taps * room), run.taps * room, room, y, 0, channels + 1, both,
        channels, bias, microkernel.FETCH, 1 << 40, 1 << 30, 1 << 50, y[0].size, upper, lower,
    )  # fmt: skip
    expected = np.tile(bias[:channels].astype(float), (2, run.pixels, 1))
    for pixel, tap, position in depthwise_pairs(run, inside):
        for row in range(upper + both):
            expected[0, pixel] += w[row + 1, tap, :channels].astype(float) * x[row, position]
        for row in range(upper, upper + both + lower):
            expected[1, pixel] += w[row, tap, :channels].astype(float) * x[row, position]
    np.testing.assert_allclose(y[:, :-1, :channels], expected, rtol=0, atol=NEAR[dtype] * 10)
    assert (y[:, -1] == 7).all()
    assert (y[..., channels] == 7).all()


@pytest.mark.parametrize("taps", [3, 5, 7])
def test_depthwise_text_of_two_rows_keeps_its_sums_and_weights_in_registers(taps, monkeypatch):
    isa = INSTRUCTION_SETS["avx512"]
    monkeypatch.setattr(microkernel, "host_instruction_set", lambda: isa)
    phase = forward_phase(ConvGeometry(1, 1, 1, (56, 56), (taps,) * 2, (1, 1), (taps // 2,) * 2, (1, 1)), 1)
    assert _rows_together([phase], [phase]) == 2
    pixels = _most_pixels(phase, 2)
    text = assembly(emit_correlate, "f", Run(pixels, taps, 1, 1, 0, pixels + taps - 1, rows=2), isa=isa)
    loops = [block for block in re.split(r"^\.LBB\w+:", text, flags=re.M) if re.search(MULTIPLY_ADD, block, re.M)]
    whole = [block for block in loops if "%k1" not in block]  # for vectors of channels, not for the masked one
    assert sum(len(re.findall(MULTIPLY_ADD, block, re.M)) for block in whole) == 4 * pixels * taps
    assert not re.search(r"%zmm\d+, -?\d*\(%rsp\)|-?\d+\(%rsp\), .*%zmm", "\n".join(whole), re.M)


def test_depthwise_takes_two_rows_where_the_registers_hold_them_and_rows_are_shared(monkeypatch):
    def together(name, **sizes):
        sizes = {"in_shape": (9, 9), "kernel": (3, 3), "stride": (1, 1), "pad": (1, 1), "dilation": (1, 1)} | sizes
        monkeypatch.setattr(microkernel, "host_instruction_set", lambda: INSTRUCTION_SETS[name])
        h, w = (forward_phase(ConvGeometry(1, 1, 1, **sizes), axis) for axis in (0, 1))
        return _rows_together([h], [w])

    assert [together(name) for name in ("avx512", "avx2", "neon", "generic")] == [2, 1, 1, 1]
    assert together("avx512", stride=(2, 2)) == together("avx512", dilation=(2, 2), pad=(2, 2)) == 1
    assert together("avx512", kernel=(1, 3)) == together("avx512", kernel=(3, 12), pad=(1, 6)) == 1


def test_depthwise_gradients_of_weights_have_few_parts_where_sums_are_large_beside_the_data(monkeypatch):
    for cores in (2, 6):
        monkeypatch.setattr(depthwise_plan, "physical_cores", lambda cores=cores: cores)
        assert depthwise_plan._parts(1000, 64 << 20, 1 << 10) == depthwise_plan.PARTS
        assert depthwise_plan._parts(1000, 64 << 20, 200 << 10) == 8  # 10 would take a 32nd of the data
        assert depthwise_plan._parts(1000, 1 << 20, 1 << 20) == cores
        assert depthwise_plan._parts(1, 64 << 20, 1 << 10) == 1


@pytest.mark.parametrize("name", ["avx512", "avx2"])
def test_depthwise_text_has_a_streaming_store_for_each_vector_of_a_line(name):
    isa, run = INSTRUCTION_SETS[name], RUNS[0]
    text = assembly(emit_correlate, "f", run, isa=isa)
    assert len(re.findall(r"^\s+vmovntps\s", text, re.M)) == run.pixels * line_vectors(isa)


@pytest.mark.parametrize("level", [1, 2])
def test_depthwise_text_fetches_x_of_the_next_row_into_the_level_that_the_run_says(level):
    run = RUNS[1]._replace(fetch_level=level)
    text = assembly(emit_correlate, "f", run, isa=INSTRUCTION_SETS["avx512"])
    assert len(re.findall(rf"^\s+prefetcht{level - 1}\s", text, re.M)) == run.pixels * run.stride
    assert not re.findall(rf"^\s+prefetcht{2 - level}\s", text, re.M)


@on_every_set
@for_both_dtypes
@pytest.mark.parametrize("run", RUNS, ids=str)
@pytest.mark.parametrize("channels", CHANNELS)
def test_depthwise_gradient_is_added_to_the_weights(isa, dtype, run, channels):
    x, inside, w, _ = depthwise_arrays(run, dtype, channels)
    y = np.random.default_rng(1).standard_normal((run.pixels, channels)).astype(dtype)
    before, room = w.copy(), w.shape[2]
    address = microkernel.depthwise_address(dtype, run, accumulate=True, isa=isa)
    invoke(
        address, 1, x, 0, x[0].size, channels, w, run.taps * room, room, y, 0, channels, len(x), channels, x,
        microkernel.FETCH, 0, 0, 0, 0, 0, 0,
    )  # fmt: skip
    expected = before[..., :channels].astype(float)
    for pixel, tap, position in depthwise_pairs(run, inside):
        expected[:, tap] += y[pixel].astype(float) * x[:, position]
    np.testing.assert_allclose(w[..., :channels], expected, rtol=0, atol=NEAR[dtype] * 10)


@pytest.mark.parametrize("name", ["avx512", "avx2", "neon"])
@pytest.mark.parametrize("emit", [emit_correlate, emit_accumulate])
def test_depthwise_text_has_one_fma_for_each_pair_and_vector(name, emit):
    isa, run = INSTRUCTION_SETS[name], RUNS[0]
    text = assembly(emit, "f", run, isa=isa)
    vectors = (
        min(line_vectors(isa), isa.registers * 3 // 4 // run.taps) if emit is emit_accumulate else line_vectors(isa)
    )
    multiply_adds = re.findall(MULTIPLY_ADD, text, re.M)
    assert len(multiply_adds) == run.pixels * run.taps * (vectors + 1)  # whole lines, and single vectors of a tail
