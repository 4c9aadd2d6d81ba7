"""What holds for every layer of the table."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from breve.layers import LAYERS, layer_class
from gradient import check_gradients
from layers.cases import Case
from layers.table import CASES

GOLDEN = Path(__file__).parents[1] / "golden"


def select(condition) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in CASES if condition(c)])


def differentiable(case: Case) -> bool:
    return bool(case.bottoms) and case.gradient != ()


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


def test_every_type_has_a_case():
    assert sorted(set(LAYERS) - {case.type for case in CASES}) == []


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
    doubled = [np.concatenate([v, v], axis=case.batch_axis) for v in values]
    run.reshape(doubled)
    assert_all_close(pass_both_ways(case, run), pass_both_ways(case, case.run(doubled)))
    run.reshape(values)
    assert_all_close(pass_both_ways(case, run), fresh)


@every_resizable_case
def test_empty_batch(case):
    empty = [np.take(v, [], axis=case.batch_axis) for v in case.values()]
    assert all(np.isfinite(data).all() for data in pass_both_ways(case, case.run(empty)))
