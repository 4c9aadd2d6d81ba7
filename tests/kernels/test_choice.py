"""Which algorithm is taken, and how to say so."""

import doctest

import numpy as np
import pytest
from conv_reference import geometry

from breve.errors import UnsupportedError
from breve.kernels import convolution
from breve.kernels.convolution import ALGORITHMS, PASSES, choice, get_algorithm, set_algorithm

WIDE = geometry(4, 64, 64, (28, 28), 3, pad=1)


@pytest.fixture(autouse=True)
def _keep_mode():
    mode = get_algorithm()
    yield
    set_algorithm(mode)


def test_examples_run():
    failed, attempted = doctest.testmod(choice, extraglobs={"np": np})
    assert attempted
    assert not failed


def test_exact_takes_no_winograd_and_fast_does():
    plan = convolution.plan(WIDE, np.float32)
    assert set(plan.algorithms.values()) == {"winograd"}
    set_algorithm("exact")
    assert all(ALGORITHMS[name].is_exact for name in plan.algorithms.values())
    set_algorithm("fast")
    assert set(plan.algorithms.values()) == {"winograd"}


@pytest.mark.parametrize(("kernel", "stride", "exact"), [(1, 1, "pointwise"), (3, 2, "direct")])
def test_many_channels_are_multiplied_by_strassens_products_unless_exact(kernel, stride, exact):
    g = geometry(16, 512, 512, (14, 14), kernel, stride=stride, pad=kernel // 2)
    chosen = [choice.choose(g, np.dtype(np.float32), "forward", mode) for mode in ("fast", "exact")]
    assert chosen == ["strassen", exact]


@pytest.mark.parametrize("pass_name", PASSES)
def test_strassens_products_cost_more_where_the_third_level_cache_is_far(pass_name, monkeypatch):
    g, costs = geometry(16, 512, 512, (14, 14), 1), []
    monkeypatch.setattr(choice.microkernel, "multiplied_bytes", lambda isa: isa.vector_bytes)
    for is_far in (False, True):
        monkeypatch.setattr(choice, "third_level_is_far", lambda is_far=is_far: is_far)
        costs.append(choice.cost("strassen", g, np.float32, pass_name))
    assert costs[0] < costs[1]


@pytest.mark.parametrize("pass_name", PASSES)
def test_transforms_cost_less_beside_multiplications_that_take_two_cycles(pass_name, monkeypatch):
    costs = []
    for at_once in (32, 64):
        monkeypatch.setattr(choice.microkernel, "multiplied_bytes", lambda isa, at_once=at_once: at_once)
        costs.append(choice.cost("winograd", WIDE, np.float32, pass_name))
    assert costs[0] < costs[1]


@pytest.mark.parametrize("g", [geometry(16, 256, 256, (28, 28), 1), geometry(16, 1024, 1024, (7, 7), 1)])
def test_strassens_points_cost_less_there_but_for_gradients_of_weights(g, monkeypatch):
    isa = choice.microkernel.INSTRUCTION_SETS["avx512"]
    monkeypatch.setattr(choice.microkernel, "host_instruction_set", lambda: isa)
    monkeypatch.setattr(choice, "third_level_is_far", lambda: False)
    costs = []
    for at_once in (32, 64):
        monkeypatch.setattr(choice.microkernel, "multiplied_bytes", lambda isa, at_once=at_once: at_once)
        costs.append([choice.cost("strassen", g, np.float32, name) for name in PASSES])
    halved, whole = costs
    assert halved[0] < whole[0]
    assert halved[1] < whole[1]
    assert halved[2] == whole[2]


def test_pixels_that_no_tap_sees_cost_strassens_products_nothing():
    """Nor do they the others, which clear them as well."""
    seen, strided = geometry(16, 256, 256, (14, 14), 1), geometry(16, 256, 256, (28, 28), 1, stride=2)
    costs = [choice.cost("strassen", g, np.float32, "backward_data") for g in (seen, strided)]
    assert costs[1] == pytest.approx(costs[0], rel=0.1)  # bands are cut otherwise


@pytest.mark.parametrize("name", list(ALGORITHMS))
def test_named_algorithm_is_taken_where_it_computes_the_pass(name):
    set_algorithm(name)
    for g in (WIDE, geometry(1, 8, 8, (9, 9), 5, stride=2, group=8), geometry(1, 2, 2, (9,), 3)):
        for pass_name, chosen in convolution.plan(g, np.float32).algorithms.items():
            if not ALGORITHMS[name].refusal(g, np.dtype(np.float32), pass_name):
                assert chosen == name


def test_unknown_name_is_refused():
    with pytest.raises(UnsupportedError, match="did you mean 'winograd'"):
        set_algorithm("winogard")


@pytest.mark.parametrize("g", [WIDE, geometry(1, 3, 8, (9, 9), 7, stride=2), geometry(1, 8, 8, (9, 9), 3, group=8)])
def test_im2col_is_never_taken_where_another_computes_the_pass(g):
    assert "im2col" not in {choice.choose(g, np.dtype(np.float32), pass_name, "fast") for pass_name in PASSES}
