"""Every layer type has an explanation, and its terms add up to the engine's value and to the numeric derivative."""

import numpy as np
import pytest

from breve.explain.check import check
from breve.explain.layers import EXPLAINERS, explainer_class, has_gradient
from breve.explain.unfold import Pass
from breve.explain.wrt import Wrt
from breve.layers import LAYERS
from explain.nets import net_of_case
from layers.table import CASES

EXPLAINED = [case for case in CASES if case.bottoms and case.gradient != () and has_gradient(case.type)]


@pytest.mark.parametrize("type", sorted(LAYERS))
def test_every_layer_type_has_an_explanation(type):
    assert type in EXPLAINERS, f"add a row for {type} to EXPLAINERS in breve/explain/layers/__init__.py"
    assert explainer_class(type).__doc__


def test_no_explanation_is_left_of_a_layer_that_is_gone():
    assert sorted(set(EXPLAINERS) - set(LAYERS)) == []


def targets(case, record):
    """What gradients the case has, each with a few elements: the largest, a zero one if any, and random ones."""
    rng = np.random.default_rng(0)
    bottoms = range(len(record.bottom_data)) if case.gradient is None else case.gradient
    params = range(len(record.param_data)) if case.param_gradient is None else case.param_gradient
    for wrt, diffs in [(Wrt(False, i), record.bottom_diff[i]) for i in bottoms] + [
        (Wrt(True, i), record.param_diff[i]) for i in params
    ]:
        if diffs.size and (wrt.is_param or record.propagate_down[wrt.number]):
            flat = {
                int(np.abs(diffs).argmax()),
                int(np.abs(diffs).argmin()),
                *map(int, rng.integers(diffs.size, size=2)),
            }
            for position in sorted(flat):
                yield wrt, tuple(int(i) for i in np.unravel_index(position, diffs.shape))


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in EXPLAINED])
def test_terms_add_up_to_the_engines_value_and_the_numeric_one(case):
    net, layer = net_of_case(case)
    run = Pass(net)
    number = run.number(layer)
    for wrt, at in targets(case, run.records[number]):
        e = run.explain(layer, wrt.name, at)
        scale = float(np.abs(e.terms.top_diff.astype(np.float64)).max(initial=0)) + abs(e.value)
        where = f"{case.name}, {wrt.name} at {at}: {e.value}, {e.sum}, {e.numeric}"
        assert e.numeric.verdict.startswith("agrees"), where
        assert e.sum == pytest.approx(e.value, rel=2e-4, abs=2e-5 * scale), where
        assert e.sum == pytest.approx(e.numeric.value, rel=max(1e-6, case.tolerance), abs=1e-6 * scale), where
        assert e.chain, where
        assert e.formula, where


@pytest.mark.parametrize("case", [pytest.param(case, id=case.name) for case in CASES if case.bottoms])
def test_check_finds_nothing_wrong_in_any_layer(case):
    net, layer = net_of_case(case)
    wrong = check(net, layer, quick=True).wrong
    assert not wrong, [(f.wrt, f.verdict) for f in wrong]
