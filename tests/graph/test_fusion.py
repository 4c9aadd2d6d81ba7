"""Groups of steps against the same layers one by one."""

import numpy as np
import pytest

from breve import Net
from breve.graph.fusion import Group
from breve.kernels.convolution import get_algorithm, set_algorithm
from breve.proto import NetParameter
from breve.proto.text import parse

INPUT = 'layer { name: "in" type: "Input" top: "x" input_param { shape { dim: 4 dim: 3 dim: 6 dim: 5 } } } '
LOSS = (  # not without a gradient where a unit has cut y off
    'layer { name: "shift" type: "Power" bottom: "y" top: "z" power_param { shift: 0.5 } } '
    'layer { name: "loss" type: "Reduction" bottom: "z" top: "loss" loss_weight: 1 '
    "reduction_param { operation: SUMSQ } } "
)
CONV = (
    'layer {{ name: "conv" type: "Convolution" bottom: "x" top: "{0}" convolution_param {{ '
    "num_output: 5 kernel_size: 3 "
    'weight_filler {{ type: "gaussian" }} bias_filler {{ type: "gaussian" }} }} }} '
)
RESHAPE = 'layer { name: "flat" type: "Reshape" bottom: "x" top: "t" reshape_param { shape { dim: [0, 0, -1] } } } '
RELU = 'layer { name: "relu" type: "ReLU" bottom: "y" top: "y" } '
LEAKY = 'layer { name: "relu" type: "ReLU" bottom: "y" top: "y" relu_param { negative_slope: 0.2 } } '
NORM = 'layer {{ name: "norm" type: "BatchNorm" bottom: "{0}" top: "y" {1} }} '
GLOBAL = "batch_norm_param { use_global_stats: true }"
SCALE = (
    'layer {{ name: "scale" type: "Scale" bottom: "y" top: "y" {0} '
    'scale_param {{ filler {{ type: "gaussian" }} {1} }} }} '
)
BIASED = 'bias_term: true bias_filler { type: "gaussian" }'

CONSTANT = (
    'layer { name: "constant" type: "DummyData" top: "c" '
    "dummy_data_param { shape { dim: 4 dim: 5 dim: 4 dim: 3 } data_filler { value: 0.3 } } } "
)
SUM = (
    'layer {{ name: "other" type: "Power" bottom: "t" top: "u" power_param {{ scale: -0.5 }} }} '
    'layer {{ name: "sum" type: "Eltwise" bottom: "{0}" bottom: "u" top: "y" eltwise_param {{ {1} }} }} '
)

NETS = {
    "conv_relu": CONV.format("y") + RELU,
    "norm_scale": CONV.format("y") + NORM.format("y", "") + SCALE.format("", BIASED),
    "norm_scale_relu": CONV.format("y") + NORM.format("y", "") + SCALE.format("", BIASED) + RELU,
    "no_bias": CONV.format("y") + NORM.format("y", "") + SCALE.format("", "") + RELU,
    "leaky": CONV.format("y") + NORM.format("y", "") + SCALE.format("", BIASED) + LEAKY,
    "not_in_place": CONV.format("t") + NORM.format("t", "") + SCALE.format("", BIASED) + RELU,
    "global": CONV.format("y") + NORM.format("y", GLOBAL) + SCALE.format("", BIASED) + RELU,
    "frozen": CONV.format("y") + NORM.format("y", "") + SCALE.format("param { lr_mult: 0 }", BIASED) + RELU,
    "three_axes": RESHAPE + NORM.format("t", "") + SCALE.format("", BIASED) + RELU,
    "sum_relu": CONV.format("t") + SUM.format("t", "") + RELU,
    "sum_relu_coefficients": CONV.format("t") + SUM.format("t", "coeff: 2 coeff: -0.3") + RELU,
    "sum_relu_constant": CONSTANT + CONV.format("t") + SUM.format("c", "") + RELU,
    "nothing_below": NORM.format("x", "") + SCALE.format("", BIASED) + RELU,
}
APART = ("not_in_place", "three_axes", "nothing_below")
SUMS = ("sum_relu", "sum_relu_coefficients", "sum_relu_constant")
SIZES = {"conv_relu": 2, "norm_scale": 3} | dict.fromkeys(SUMS, 2) | dict.fromkeys(APART, 3)
CUTS = [
    (name, cut)
    for name, text in NETS.items()
    for cut in ("sum", "norm", "scale", "relu")
    if name != "conv_relu" and "relu" in text and f'"{cut}"' in text
]


def build(text, phase="TRAIN"):
    net = Net(parse(INPUT + text + LOSS, NetParameter), phase, dtype=np.float64, seed=3)
    rng = np.random.default_rng(0)
    net.blobs["x"].data[...] = rng.standard_normal(net.blobs["x"].shape)
    for blob in net.params.get("norm", ()):
        blob.data[...] = rng.uniform(0.5, 1.5, blob.shape)
    return net


def groups(net):
    """Those that are no part of another."""
    found = [group for group in net.plan._starts.values() if isinstance(group, Group)]
    return [group for group in found if all(group is not other.rest for other in found)]


def observed(net):
    """Everything that can be read of a net after forward and backward."""
    blobs = [array for blob in net.blobs.values() for array in (blob.data, blob.diff)]
    return blobs + [array for blobs in net.params.values() for blob in blobs for array in (blob.data, blob.diff)]


def assert_alike(net, reference):
    for got, want in zip(observed(net), observed(reference), strict=True):
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-12 * max(1, np.abs(want).max()))


def by_layers(net, times=1):
    for _ in range(times):
        net.clear_param_diffs()
        loss = sum(step.forward() for step in net.steps)
        for step in reversed(net.steps):
            step.backward()
    return loss


@pytest.mark.parametrize("name", NETS)
def test_a_group_is_found(name):
    (group,) = groups(build(NETS[name]))
    assert len(group.steps) == SIZES.get(name, 4)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_a_group_does_what_its_layers_do(name, phase):
    net, reference = build(NETS[name], phase), build(NETS[name], phase)
    for _ in range(2):
        net.clear_param_diffs()
        loss = net.forward()
        net.backward()
    np.testing.assert_allclose(loss, by_layers(reference, 2))
    assert_alike(net, reference)


@pytest.mark.parametrize(("name", "cut"), CUTS)
def test_a_part_of_a_group_does_what_its_layers_do(name, cut):
    net, reference = build(NETS[name]), build(NETS[name])
    net.clear_param_diffs()
    net.forward(end=cut)
    net.forward(start=net.layer_names[net.layer_names.index(cut) + 1])
    net.backward(end=cut)
    if cut != "in":
        net.backward(start=net.layer_names[net.layer_names.index(cut) - 1])
    by_layers(reference)
    assert_alike(net, reference)


@pytest.mark.parametrize(("name", "cut"), CUTS)
def test_backward_in_parts_after_a_forward_in_one(name, cut):
    net, reference = build(NETS[name]), build(NETS[name])
    net.clear_param_diffs()
    net.forward()
    net.backward(end=cut)
    net.backward(start=net.layer_names[net.layer_names.index(cut) - 1])
    by_layers(reference)
    assert_alike(net, reference)


def test_the_rest_of_a_group_runs_as_one(monkeypatch):
    net, reference = build(NETS["norm_scale_relu"]), build(NETS["norm_scale_relu"])
    swept = []
    rest = groups(net)[0].rest
    monkeypatch.setattr(rest, "sweep_backward", lambda sweep=rest.sweep_backward: swept.append(sweep()))
    net.clear_param_diffs()
    net.forward(end="conv")
    net.forward(start="norm")
    net.backward(end="norm")
    net.backward(start="conv")
    by_layers(reference)
    assert_alike(net, reference)
    assert swept == [None]


def test_backward_in_one_after_a_forward_by_layers():
    net, reference = build(NETS["norm_scale_relu"]), build(NETS["norm_scale_relu"])
    net.forward()
    for step in net.steps:
        step.forward()
    net.clear_param_diffs()
    net.backward()
    by_layers(reference, 2)
    assert_alike(net, reference)


@pytest.mark.parametrize("name", [name for name in NETS if SIZES.get(name, 4) == 4])
def test_a_convolution_writes_where_its_values_are_kept(name):
    net = build(NETS[name])
    net.forward()
    (group,), y = groups(net), net.blobs["y"]
    kept = group.rest.norm.kept
    assert not np.shares_memory(kept.values, y.data)
    group.steps[0].forward()
    np.testing.assert_array_equal(kept.values.reshape(y.data_nhwc.shape), y.data_nhwc)
    assert kept._copy.size == 0


FOLDING = ("norm_scale", "norm_scale_relu", "no_bias", "global", "frozen")


def deployed(name, folded, monkeypatch):
    """A net in TEST without a loss, and so without backward; `folded` gets a word for each sweep of the convolution."""
    net = Net(parse(INPUT + NETS[name], NetParameter), "TEST", dtype=np.float64, seed=3)
    rng = np.random.default_rng(0)
    net.blobs["x"].data[...] = rng.standard_normal(net.blobs["x"].shape)
    for blob in net.params["norm"]:
        blob.data[...] = rng.uniform(0.5, 1.5, blob.shape)
    layer = net.steps[1].layer
    run = layer.forward_normalised
    monkeypatch.setattr(layer, "forward_normalised", lambda *args: folded.append("folded") or run(*args))
    return net


def assert_as_by_layers(net):
    net.forward()
    together = net.blobs["y"].data.copy()
    for step in net.steps:
        step.forward()
    np.testing.assert_allclose(together, net.blobs["y"].data, rtol=0, atol=1e-12 * np.abs(together).max())


@pytest.mark.parametrize("name", FOLDING)
def test_without_backward_a_normalisation_is_part_of_the_convolution(name, monkeypatch):
    folded = []
    net = deployed(name, folded, monkeypatch)
    for _ in range(4):
        assert_as_by_layers(net)
    assert len(folded) == 4


PARAMETERS = [(layer, i) for layer, count in (("conv", 2), ("norm", 3), ("scale", 2)) for i in range(count)]


@pytest.mark.parametrize(("layer", "number"), PARAMETERS)
def test_a_folded_normalisation_follows_every_parameter(layer, number, monkeypatch):
    net = deployed("norm_scale_relu", [], monkeypatch)
    for _ in range(3):
        net.forward()
    net.params[layer][number].data.flat[-1] *= 1.5
    assert_as_by_layers(net)


def test_rectified_with_a_slope_it_is_not_folded(monkeypatch):
    folded = []
    assert_as_by_layers(deployed("leaky", folded, monkeypatch))
    assert folded == []


@pytest.mark.parametrize("how", ["exact", "im2col"])
def test_where_rounding_should_be_plain_it_is_not_folded(how, monkeypatch):
    folded = []
    net = deployed("norm_scale_relu", folded, monkeypatch)
    before = get_algorithm()
    try:
        if how == "exact":
            set_algorithm("exact")
        else:
            net.steps[1].layer.algorithm = "im2col"
        assert_as_by_layers(net)
    finally:
        set_algorithm(before)
    assert folded == []


def test_many_weights_that_are_not_kept_are_not_folded(monkeypatch):
    net = deployed("norm_scale_relu", [], monkeypatch)
    layer = net.steps[1].layer
    assert layer.folds
    monkeypatch.setattr(type(layer.plan._algorithm("forward")), "keeps_weights", False)
    monkeypatch.setattr(layer.plan, "_weight_shape", (5, 3, 300, 3))
    assert not layer.folds


def test_a_group_takes_other_shapes():
    net, reference = build(NETS["norm_scale_relu"]), build(NETS["norm_scale_relu"])
    for n in (net, reference):
        n.blobs["x"].reshape(2, 3, 5, 7)
        n.blobs["x"].data[...] = np.random.default_rng(1).standard_normal((2, 3, 5, 7))
    net.clear_param_diffs()
    net.forward()
    net.backward()
    by_layers(reference)
    assert_alike(net, reference)


@pytest.mark.parametrize(
    "text",
    [
        CONV.format("t") + 'layer { name: "relu" type: "ReLU" bottom: "t" top: "y" } ',
        CONV.format("y") + LEAKY,
        CONV.format("t") + SUM.format("t", "") + LEAKY,
        CONV.format("t") + SUM.format("t", "operation: MAX") + RELU,
        CONV.format("t")
        + SUM.format("t", "").replace('bottom: "t" bottom: "u"', 'bottom: "t" bottom: "t" bottom: "u"')
        + RELU,
        CONV.format("y") + NORM.format("y", "batch_norm_param { scale_bias: true }") + SCALE.format("", BIASED),
        CONV.format("y") + NORM.format("y", "") + SCALE.format("", "axis: 0"),
        CONV.format("y") + NORM.format("y", "") + SCALE.format("", "axis: 2"),
        CONV.format("y") + NORM.format("y", "") + RELU,
        CONV.format("t") + 'layer { name: "n" type: "BatchNorm" bottom: "t" top: "u" } '
        'layer { name: "s" type: "Scale" bottom: "u" top: "y" } ',
    ],
)
def test_no_group_where_a_difference_would_be_seen_or_gained_nothing(text):
    assert groups(build(text)) == []
