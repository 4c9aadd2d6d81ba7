"""Every algorithm, pass and dtype of a convolution against the float64 reference."""

import threading

import conv_reference as reference
import numpy as np
import pytest
from conv_cases import (
    GEOMETRIES,
    LIMITS,
    arrays,
    assert_close,
    check_backward_data,
    check_backward_weights,
    check_forward,
)
from conv_reference import geometry
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from breve.errors import LayerError, UnsupportedError
from breve.kernels import convolution
from breve.kernels.convolution import ALGORITHMS, PASSES, outer_products
from breve.kernels.microkernel import tile_columns
from breve.kernels.threads import get_num_threads, set_num_threads

SPECIAL = {"depthwise": "depthwise", "pointwise": "1x1", "strassen": "four_images"}


COMBINATIONS = [
    pytest.param(name, g, dtype, id=f"{name}-{case}-{dtype}")
    for name, algorithm in ALGORITHMS.items()
    for case, g in GEOMETRIES.items()
    for dtype in LIMITS
    if not algorithm.refusal(g, np.dtype(dtype), "forward")
]


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
        kernel, stride, pad = (1, 1), (1, 1), (0, 0)
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


@pytest.mark.parametrize("name", list(ALGORITHMS))
@pytest.mark.parametrize("position", [0, -1])
@pytest.mark.parametrize("changed", ["weight", "gain"])
def test_scaled_weights_follow_weights_and_factors(name, position, changed):
    g = GEOMETRIES[SPECIAL.get(name, "pad")]
    bottom, weight, bias, top_diff = arrays(g)
    weight, gain = weight.copy(), np.random.default_rng(2).uniform(0.5, 2, g.num_output).astype(np.float32)
    plan, top = convolution.plan(g, np.float32, name), np.empty_like(top_diff)
    for i in range(5):
        if i == 3:
            array = weight if changed == "weight" else gain
            array.flat[position] += 1
        plan.forward_scaled(bottom, weight, gain, bias, top, relu=i % 2 == 1)
        expected = reference.forward(g, bottom, weight * gain[:, None, None, None]) + bias[:, None, None]
        assert_close(top, np.maximum(expected, 0) if i % 2 == 1 else expected, np.float32)
    plan.forward(bottom, weight, None, top)
    assert_close(top, reference.forward(g, bottom, weight), np.float32)


def test_scaled_weights_are_packed_once(monkeypatch):
    g = GEOMETRIES["pad"]
    bottom, weight, bias, top_diff = arrays(g)
    plan, top, packed = convolution.plan(g, np.float32, "direct"), np.empty_like(top_diff), []
    run = plan._algorithm("forward")
    monkeypatch.setattr(run._packed, "_pack", lambda *args, pack=run._pack: packed.append(pack(*args)))
    for _ in range(3):
        plan.forward_scaled(bottom, weight, np.ones_like(bias), bias, top)
    assert len(packed) == 1


def test_factors_of_a_wrong_shape_are_refused():
    g = GEOMETRIES["pad"]
    bottom, weight, bias, top_diff = arrays(g)
    with pytest.raises(LayerError, match="gain has a wrong shape"):
        convolution.plan(g, np.float32).forward_scaled(bottom, weight, bias[1:], bias, np.empty_like(top_diff))


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
