"""Learning-rate policies against values worked out by hand, and those that Caffe 1.0 logged."""

import pytest

from breve.errors import SolverError
from breve.proto import SolverParameter
from breve.solvers.policies import POLICIES, check_policy, learning_rate


def param(**fields):
    return SolverParameter(**{"base_lr": 0.5, "max_iter": 10, **fields})


def nowhere(field):
    return field


# policy, iteration, rate: written out, not computed by the formula under test.
BY_HAND = [
    (param(lr_policy="fixed"), 7, 0.5),
    (param(lr_policy="step", gamma=0.5, stepsize=3), 2, 0.5),
    (param(lr_policy="step", gamma=0.5, stepsize=3), 3, 0.25),
    (param(lr_policy="step", gamma=0.5, stepsize=3), 8, 0.125),
    (param(lr_policy="exp", gamma=0.5), 0, 0.5),
    (param(lr_policy="exp", gamma=0.5), 3, 0.0625),
    (param(lr_policy="inv", gamma=1.0, power=2.0), 0, 0.5),
    (param(lr_policy="inv", gamma=1.0, power=2.0), 3, 0.03125),
    (param(lr_policy="poly", power=2.0), 5, 0.125),
    (param(lr_policy="poly", power=2.0), 10, 0.0),
    (param(lr_policy="sigmoid", gamma=1.0, stepsize=4), 4, 0.25),
    (param(lr_policy="sigmoid", gamma=1.0, stepsize=4), 5, 0.5 * 0.7310585786300049),
    (param(lr_policy="sigmoid", gamma=1.0, stepsize=4), 2000, 0.5),
]


@pytest.mark.parametrize(("settings", "iteration", "rate"), BY_HAND, ids=lambda v: getattr(v, "lr_policy", v))
def test_rate_by_hand(settings, iteration, rate):
    check_policy(settings, nowhere)
    assert learning_rate(settings, iteration, 0)[0] == pytest.approx(rate, rel=1e-7)


# What `caffe` 1.0 printed as "Iteration t, lr = ..." for base_lr 0.01 and max_iter 10, t = 0 to 9.
LOGGED = {
    'lr_policy: "sigmoid" gamma: 0.5 stepsize: 4': (
        "0.00119203 0.00182426 0.00268941 0.00377541 0.005 0.00622459 0.00731059 0.00817574 0.00880797 0.00924142"
    ),
    'lr_policy: "exp" gamma: 0.9': (
        "0.01 0.009 0.0081 0.00729 0.006561 0.0059049 0.00531441 0.00478297 0.00430467 0.0038742"
    ),
    'lr_policy: "inv" gamma: 0.3 power: 0.75': (
        "0.01 0.00821377 0.00702927 0.00617924 0.00553583 0.00502973 0.00461989 0.00428034 0.00399384 0.00374842"
    ),
    'lr_policy: "poly" power: 1.5': (
        "0.01 0.00853815 0.00715542 0.00585662 0.00464758 0.00353553 0.00252982 0.00164317 0.000894427 0.000316228"
    ),
    'lr_policy: "multistep" gamma: 0.1 stepvalue: 4 stepvalue: 8': (
        "0.01 0.01 0.01 0.01 0.001 0.001 0.001 0.001 0.0001 0.0001"
    ),
}


@pytest.mark.parametrize("fields", LOGGED)
def test_rate_as_caffe_logged(fields):
    from google.protobuf import text_format

    settings = text_format.Parse("base_lr: 0.01 max_iter: 10 " + fields, SolverParameter())
    rates, step = [], 0
    for iteration in range(10):
        rate, step = learning_rate(settings, iteration, step)
        rates.append(f"{rate:g}")
    assert rates == LOGGED[fields].split()


def test_multistep_takes_one_step_an_iteration_even_where_several_are_due():
    settings = param(lr_policy="multistep", gamma=0.5, stepvalue=[2, 4, 4])
    step, steps = 0, []
    for iteration in (5, 6, 7, 8):
        _, step = learning_rate(settings, iteration, step)
        steps.append(step)
    assert steps == [1, 2, 3, 3]


@pytest.mark.parametrize(
    ("settings", "field", "message"),
    [
        (param(lr_policy="stepp"), "lr_policy", "unknown lr_policy 'stepp'; did you mean 'step'"),
        (param(), "lr_policy", "lr_policy is missing; known: exp, fixed, inv"),
        (param(lr_policy="step", gamma=0.1), "lr_policy", "lr_policy 'step' needs stepsize"),
        (param(lr_policy="exp"), "lr_policy", "lr_policy 'exp' needs gamma"),
        (param(lr_policy="multistep", gamma=0.1), "lr_policy", "lr_policy 'multistep' needs stepvalue"),
        (param(lr_policy="exp", gamma=-0.1), "gamma", "gamma is out of range; expected at least 0"),
        (
            param(lr_policy="step", gamma=0.1, stepsize=0),
            "stepsize",
            "stepsize is out of range; expected at least 1, found 0",
        ),
        (param(lr_policy="poly", power=1, max_iter=0), "max_iter", "max_iter is out of range"),
        (
            param(lr_policy="multistep", gamma=0.1, stepvalue=[8, 4]),
            "stepvalue",
            r"the stepvalues must rise; found \[8, 4\]",
        ),
        (SolverParameter(lr_policy="fixed"), "lr_policy", "lr_policy 'fixed' needs base_lr"),
    ],
    ids=lambda v: v if isinstance(v, str) and " " not in v else "",
)
def test_policy_that_lacks_something_is_refused(settings, field, message):
    with pytest.raises(SolverError, match=f"^{field}: {message}"):
        check_policy(settings, nowhere)


def test_poly_ends_at_max_iter():
    settings = param(lr_policy="poly", power=0.5)
    with pytest.raises(
        SolverError, match="lr_policy 'poly' ends at max_iter; expected at most 10 iterations, found iteration 11"
    ):
        learning_rate(settings, 11, 0)


def test_table_has_caffes_policies():
    assert sorted(POLICIES) == ["exp", "fixed", "inv", "multistep", "poly", "sigmoid", "step"]
