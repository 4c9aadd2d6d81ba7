"""What holds for every layer of the table."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest

from breve.errors import LayerError, NetError
from breve.explain.layers import has_gradient
from breve.layers import LAYERS, layer_class
from breve.net import Net
from breve.proto import NetParameter
from breve.proto.text import parse
from gradient import check_gradients
from layers.cases import Case
from layers.table import CASES

FOLDER = Path(__file__).parent
GOLDEN = FOLDER.parent / "golden"
FORKS = """Axpy ConvolutionDepthwise CReLU DepthwiseConvolution DetectionOutput HardSigmoid HardSwish Interp Mish
MultiBoxLoss Normalize Permute PriorBox Proposal PSROIPooling Region RegionLoss ReLU6 Reorg Resize ROIPooling
ShuffleChannel SmoothL1Loss Unpooling Upsample""".split()  # noqa: SIM905
"""The types that forks added; a type that is not among them is held against a recording of Caffe."""


def select(condition) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if condition(c)])


def differentiable(case: Case) -> bool:
    return case.gradient != () and bool(case.bottoms or case.param_gradient)


every_case = select(lambda case: True)
every_resizable_case = select(lambda case: case.bottoms and case.batch_axis is not None)


def seeds_for(outputs: list[np.ndarray]) -> list[np.ndarray]:
    rng = np.random.default_rng(7)
    return [rng.standard_normal(o.shape) for o in outputs]


def propagate_down(case: Case) -> list[bool]:
    return [case.gradient is None or i in case.gradient for i in range(len(case.bottoms))]


def pass_both_ways(case: Case, run) -> list[np.ndarray]:
    outputs = run.forward()
    run.clear_param_diffs()
    bottom_diffs, param_diffs = run.backward(seeds_for(outputs), propagate_down(case))
    return [
        *outputs,
        *(d for d, wanted in zip(bottom_diffs, propagate_down(case), strict=True) if wanted),
        *param_diffs,
    ]


def assert_all_close(got: list[np.ndarray], want: list[np.ndarray], rtol: float = 1e-12) -> None:
    for g, w in zip(got, want, strict=True):
        assert g.shape == w.shape
        np.testing.assert_allclose(g, w, rtol=0, atol=rtol * max(1.0, np.abs(w).max(initial=0)))


def lacking(condition: Callable[[Case], bool], types: Iterable[str] = LAYERS) -> list[str]:
    """The types of which no case meets the condition."""
    return sorted(set(types) - {case.type for case in CASES if condition(case)})


def test_every_type_has_a_case():
    assert lacking(lambda case: True) == []


def test_every_type_with_bottoms_has_a_case_that_is_reshaped_and_emptied():
    assert lacking(lambda case: not case.bottoms or case.batch_axis is not None) == []


def test_every_type_that_works_in_place_has_a_case_that_does():
    types = [type for type in LAYERS if layer_class(type).in_place]
    assert lacking(lambda case: case.in_place, types) == ["Python"]  # the user's own: test_python_layer.py


def test_every_type_with_a_gradient_has_a_case_whose_gradients_are_checked():
    def checked(case: Case) -> bool:
        return differentiable(case) and (case.gradient is None or bool(case.gradient) or bool(case.run().layer.blobs))

    assert lacking(checked, filter(has_gradient, LAYERS)) == ["Python"]  # the user's own: test_python_layer.py


def test_every_type_of_caffe_is_held_against_a_recording_of_caffe():
    elsewhere = {
        "tests/data/recorded": {"Data", "HDF5Data", "ImageData", "WindowData"},
        "tests/data": {"HDF5Output", "MemoryData"},
        "it computes nothing of its own": {"DummyData", "Input", "Python", "Silence"},
    }
    assert lacking(lambda case: bool(case.golden), set(LAYERS) - set(FORKS)) == sorted(set().union(*elsewhere.values()))


@pytest.mark.parametrize("type", FORKS)
def test_every_type_of_a_fork_is_held_against_its_formula(type):
    formulas = "".join((FOLDER / f"test_fork_{what}.py").read_text() for what in ("layers", "sizes"))
    assert any(f'"{case.name}"' in formulas for case in CASES if case.type == type)


def test_case_names_are_unique():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names)


def test_every_recording_of_a_layer_is_covered():
    recorded = {path.stem for path in GOLDEN.glob("*.npz")} - {"net_lenet"}
    assert sorted(recorded - {name for case in CASES for name in case.golden}) == []
    assert sorted({name for case in CASES for name in case.golden} - recorded) == []


@pytest.mark.parametrize("type", sorted(LAYERS))
def test_docstring_has_the_sections_of_the_catalogue(type):
    sections = re.findall(r"^    ([A-Z][a-z]+): ", layer_class(type).__doc__, re.MULTILINE)
    assert {"Forward", "Backward", "Fields", "Source"} <= set(sections)
    order = ["Forward", "Backward", "Blobs", "Params", "Fields", "Errors", "Source"]
    assert sections == [name for name in order if name in sections]


@every_case
def test_counts_are_declared(case):
    for (least, most), count in ((case.layer.bottom_counts, len(case.bottoms)), (case.layer.top_counts, case.tops)):
        assert least <= count <= (count if most is None else most)
    assert not case.layer.equal_counts or len(case.bottoms) == case.tops


@every_case
def test_output_is_finite_and_repeats(case):
    run = case.run()
    first, second = run.forward(), run.forward()
    assert all(np.isfinite(data).all() for data in first)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


@select(differentiable)
def test_gradient_agrees_with_differences(case):
    check_gradients(
        case.run(), bottoms=case.gradient, params=case.param_gradient, tops=case.gradient_tops, tolerance=case.tolerance
    )


@select(lambda case: case.bottoms)
def test_what_is_not_checked_has_no_gradient(case):
    run = case.run()
    ones = [np.ones(output.shape) for output in run.forward()]
    for i, checked in enumerate(propagate_down(case)):
        if not checked:
            try:
                diffs, _ = run.backward(ones, [i == j for j in range(len(run.bottom))])
            except LayerError:
                continue  # it refuses
            np.testing.assert_array_equal(diffs[i], 0)
    if case.param_gradient is not None:
        rates = [param.lr_mult for param in run.layer.param.param]
        assert all(rates[i] == 0 for i in range(len(run.layer.blobs)) if i not in case.param_gradient)


@select(differentiable)
def test_bottom_diffs_are_overwritten_and_param_diffs_accumulated(case):
    run = case.run()
    seeds = seeds_for(run.forward())
    run.clear_param_diffs()
    once, param_once = run.backward(seeds, propagate_down(case))
    run.forward()
    for blob in run.bottom:
        blob.diff[...] = 1e3
    twice, param_twice = run.backward(seeds, propagate_down(case))
    wanted = [i for i, yes in enumerate(propagate_down(case)) if yes]
    assert_all_close([twice[i] for i in wanted], [once[i] for i in wanted])
    assert_all_close(param_twice, [2 * diff for diff in param_once])


@select(differentiable)
def test_a_diff_nobody_wants_is_left_alone(case):
    run = case.run()
    seeds = seeds_for(run.forward())
    for blob in run.bottom:
        blob.diff[...] = 1e3
    diffs, _ = run.backward(seeds, [False] * len(run.bottom))
    for diff in diffs:
        np.testing.assert_array_equal(diff, 1e3)


@select(lambda case: case.bottoms and case.layer.in_place and case.in_place)
def test_in_place_equals_out_of_place(case):
    assert_all_close(pass_both_ways(case, case.run(in_place=True)), pass_both_ways(case, case.run()))


@select(lambda case: case.bottoms and case.memory_orders)
def test_memory_order_of_the_bottoms_does_not_matter(case):
    assert_all_close(pass_both_ways(case, case.run(channels_last=False)), pass_both_ways(case, case.run()))


@select(lambda case: case.bottoms)
def test_float32_agrees_with_float64(case):
    single = pass_both_ways(case, case.run(dtype=np.float32))
    assert all(array.dtype == np.float32 for array in single)
    assert_all_close(single, pass_both_ways(case, case.run()), rtol=2e-5)


@every_resizable_case
def test_reshaped_to_another_batch_and_back(case):
    run, values = case.run(), case.values()
    fresh = pass_both_ways(case, run)
    doubled = case.doubled()
    run.reshape(doubled)
    assert_all_close(pass_both_ways(case, run), pass_both_ways(case, case.run(doubled)))
    run.reshape(values)
    assert_all_close(pass_both_ways(case, run), fresh)


@every_resizable_case
def test_empty_batch(case):
    run = case.run(case.emptied())
    everything = pass_both_ways(case, run)
    assert all(np.isfinite(data).all() for data in everything)
    for blob in run.layer.blobs:
        np.testing.assert_array_equal(blob.diff, 0)
    if not case.layer.is_loss:
        assert [top.shape for top in run.top] == [extrapolated(*shapes) for shapes in shapes_of_batches(case)]


def shapes_of_batches(case: Case) -> list[tuple]:
    """Each top's shapes for the batch as it is and for twice the batch."""
    runs = [case.run(), case.run(case.doubled())]
    for run in runs:
        run.forward()
    return list(zip(*([top.shape for top in run.top] for run in runs), strict=True))


def extrapolated(once: tuple[int, ...], twice: tuple[int, ...]) -> tuple[int, ...]:
    """A top's shape for a batch of none, as each axis either grows with the batch or does not."""
    return tuple(2 * a - b for a, b in zip(once, twice, strict=True))


@select(lambda case: case.bottoms and case.tops and case.batch_axis is not None)
def test_reshaped_within_a_net(case):
    first, second = case.values(), case.doubled()
    net = net_of(case, first)
    put(net, first)
    net.forward()
    for values in (second, case.emptied(), first):
        for i, value in enumerate(values):
            net.blobs[f"x{i}"].reshape(*value.shape)
        net.reshape()
        other = net_of(case, values)
        other.share_trained_layers_with(net)
        for each in (net, other):
            put(each, values)
            each.forward()
        for name in net.outputs:
            assert net.blobs[name].shape == other.blobs[name].shape
            if not net.layers[-1].draws:
                np.testing.assert_allclose(net.blobs[name].data, other.blobs[name].data, rtol=1e-9, atol=1e-12)


def net_of(case: Case, values: list[np.ndarray], **options) -> Net:
    return Net(parse(case.net_text(values, **options), NetParameter), case.phase, dtype=np.float64, seed=1)


def put(net: Net, values: list[np.ndarray]) -> None:
    for i, value in enumerate(values):
        net.blobs[f"x{i}"].data[...] = value


@select(lambda case: case.bottoms and case.tops == len(case.bottoms) and not case.layer.in_place)
def test_layer_that_cannot_work_in_place_refuses_to(case):
    with pytest.raises(NetError, match="cannot work in place"):
        net_of(case, case.values(), in_place=True)
