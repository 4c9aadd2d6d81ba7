"""`breve.check` finds every planted mistake, names layer and element, and finds none in the right code."""

import numpy as np
import pytest

from breve.explain.check import check
from breve.explain.gradient_check import LayerCheck
from breve.explain.unfold import Pass
from breve.graph.fusion import ScaledNormalisation
from breve.kernels.convolution import ConvPlan
from breve.layers import layer_class
from explain.mistakes import LOSS_MISTAKES, MISTAKES
from explain.nets import net_of

LABELS = """layer { name: "l" type: "DummyData" top: "label"
    dummy_data_param { data_filler { value: 2 } shape { dim: 3 } } }"""
CONV = """layer { name: "c" type: "Convolution" bottom: "x" top: "y"
    convolution_param { num_output: 3 kernel_size: 3 } }"""
RELU_AND_POOL = """layer { name: "r" type: "ReLU" bottom: "x" top: "y" }
    layer { name: "p" type: "Pooling" bottom: "y" top: "z" pooling_param { kernel_size: 2 stride: 2 } }"""


def suspect_net(mistake):
    """The mistake's layer, called suspect, with innocent layers before and after it."""
    names = [f"a{i}" for i in range(mistake.bottoms)]
    before = "".join(
        f'layer {{ name: "{n}" type: "TanH" bottom: "x{i or ""}" top: "{n}" }}' for i, n in enumerate(names)
    )
    bottoms = " ".join(f'bottom: "{n}"' for n in names)
    tops = [f"t{i}" for i in range(mistake.tops)]
    suspect = f'layer {{ name: "suspect" {bottoms} {" ".join(f"top: {t!r}" for t in tops)} {mistake.prototxt} }}'
    after = "".join(
        f'layer {{ name: "z{t}" type: "Power" bottom: "{t}" top: "z{t}" power_param {{ scale: 2 }} }}' for t in tops
    )
    if mistake in LOSS_MISTAKES:
        before, after = LABELS + before, ""
    net = net_of(before + suspect + after, *[mistake.shape] * mistake.bottoms, seed=5)
    if mistake.rounded:
        net.blobs["x"].data[...] = np.round(net.blobs["x"].data)
    return net


def right_gradient(net, finding):
    """What the layer's gradient is without the mistake, for the diffs that the check sends."""
    run = Pass(net)
    layer_check = LayerCheck(run.explainer(run.number("suspect")), quick=True)
    copy = layer_check.copy
    copy.forward()
    bottoms, params = copy.backward(layer_check.seeds, layer_check.record.propagate_down)
    named = {"weights": 0, "bias": 1}
    return params[named[finding.wrt]] if finding.wrt in named else bottoms[int(finding.wrt[4:] or 0)]


@pytest.mark.parametrize("mistake", [pytest.param(m, id=m.name) for m in MISTAKES + LOSS_MISTAKES])
def test_planted_mistake_is_found_in_its_layer_and_element(mistake, monkeypatch):
    net = suspect_net(mistake)
    assert check(net, quick=True).ok
    cls = layer_class(mistake.layer_class)
    with monkeypatch.context() as planted:
        planted.setattr(cls, "backward", mistake.spoil(cls.backward))
        report = check(net, quick=True)
    found = [f for f in report.wrong if f.what in ("gradient", "rule")]
    assert {(f.layer, f.wrt, f.what) for f in found} == {("suspect", mistake.wrt, mistake.what)}, str(report)
    assert {f.layer for f in report.wrong} <= {"suspect", "(the whole net)"}
    finding = found[0]
    assert "wrong: first at" in finding.verdict
    if mistake.what == "gradient":
        right = right_gradient(net, finding)
        assert finding.numeric == pytest.approx(right[finding.index], rel=1e-5, abs=1e-7)
        assert abs(finding.analytic - right[finding.index]) > 1e-4 * np.abs(right).max()


def test_first_wrong_element_is_the_first(monkeypatch):
    net = net_of('layer { name: "t" type: "TanH" bottom: "x" top: "y" }', (2, 3, 5, 4))
    cls = layer_class("TanH")
    original = cls.backward

    def spoiled(self, top, propagate_down, bottom):
        original(self, top, propagate_down, bottom)
        bottom[0].diff[0, 2, 3, 1] *= 2
        bottom[0].diff[1] *= 3

    monkeypatch.setattr(cls, "backward", spoiled)
    (finding,) = [f for f in check(net).wrong if f.what == "gradient"]
    assert finding.index == (0, 2, 3, 1)
    assert finding.verdict.startswith("wrong: first at (0,2,3,1), analytic ")
    assert finding.verdict.endswith("off by a factor of 2")


def test_mistake_in_the_float32_kernel_alone_is_found(monkeypatch):
    net = net_of(CONV, (2, 2, 6, 6))
    original = ConvPlan.backward_data

    def spoiled(self, top_diff, weight, bottom_diff):
        original(self, top_diff, weight, bottom_diff)
        if bottom_diff.dtype == np.float32:
            bottom_diff[1, 0, 2:, 3] = 0

    monkeypatch.setattr(ConvPlan, "backward_data", spoiled)
    report = check(net)
    (finding,) = report.wrong
    assert (finding.layer, finding.wrt, finding.what, finding.index) == ("c", "data", "engine", (1, 0, 2, 3))
    assert "float32 0, float64" in finding.verdict


def test_mistake_on_one_layer_object_is_found():
    net = net_of(
        'layer { name: "t" type: "TanH" bottom: "x" top: "y" } layer { name: "u" type: "TanH" bottom: "y" top: "z" }',
        (2, 3),
    )
    layer = net.layers[-1]
    original = layer.backward

    def spoiled(top, propagate_down, bottom):
        original(top, propagate_down, bottom)
        bottom[0].diff[...] = 1

    layer.backward = spoiled
    assert {f.layer for f in check(net).wrong} == {"u", "(the whole net)"}


def test_kinks_and_ties_are_named_and_are_not_wrong():
    net = net_of(RELU_AND_POOL, (1, 1, 4, 4))
    net.blobs["x"].data[0, 0, 1, 2] = 2e-7
    net.blobs["x"].data[0, 0, :2, :2] = -1
    report = check(net)
    assert report.ok, str(report)
    verdicts = {f.layer: f.verdict for f in report.findings if f.what == "gradient"}
    assert "kink at ReLU input (0,0,1,2), value 2e-07" in verdicts["r"]
    assert "tie in a maximum at (0,0,0,0), value 0 (and " in verdicts["p"]


def test_long_sums_of_like_terms_may_round_far():
    mean = 'layer { name: "p" type: "Pooling" bottom: "x" top: "y" pooling_param { pool: AVE global_pooling: true } }'
    net = net_of(mean, (1, 1, 120, 120))
    net.blobs["x"].data[...] = 2.9423728813559324  # off by 2e-4 when added up in float32, one after the other
    assert check(net).ok


def test_the_net_is_left_as_it_was():
    net = net_of(
        CONV
        + """layer { name: "b" type: "BatchNorm" bottom: "y" top: "y" }
        layer { name: "d" type: "Dropout" bottom: "y" top: "y" }
        layer { name: "r" type: "ReLU" bottom: "y" top: "y" }""",
        (2, 2, 6, 6),
    )
    net.forward()
    net.backward()
    before = snapshot(net)
    check(net, quick=True)
    after = snapshot(net)
    for name, value in before.items():
        np.testing.assert_array_equal(value, after[name], err_msg=name)
    assert str(net.layers[3].rng.bit_generator.state) == str(net.layers[3].rng.bit_generator.state)


def snapshot(net):
    arrays = {f"{n}.{k}": getattr(b, k).copy() for n, b in net.blobs.items() for k in ("data", "diff")}
    arrays |= {
        f"param {i}.{k}": getattr(b, k).copy() for i, b in enumerate(net.learnable_params) for k in ("data", "diff")
    }
    arrays["rng"] = np.array([str(layer.rng.bit_generator.state) for layer in net.layers])
    return arrays


def test_a_net_without_values_is_checked_on_random_ones():
    net = net_of('layer { name: "t" type: "TanH" bottom: "x" top: "y" }', (2, 3))
    net.blobs["x"].data[...] = 0
    report = check(net)
    assert report.ok
    assert "'x' held zeros" in report.remarks[0]
    assert not net.blobs["x"].data.any()


NORMALISED = (
    CONV
    + """layer { name: "b" type: "BatchNorm" bottom: "y" top: "y" }
    layer { name: "s" type: "Scale" bottom: "y" top: "y" scale_param { bias_term: true } }
    layer { name: "r" type: "ReLU" bottom: "y" top: "y" }"""
)


def test_layers_that_run_in_one_sweep_are_checked_as_they_run():
    (finding,) = [f for f in check(net_of(NORMALISED, (3, 2, 6, 6))).findings if (f.type, f.what) == ("Net", "engine")]
    assert finding.ok
    assert finding.verdict.startswith("float32 rounding through all layers")


def test_mistake_in_the_sweep_of_several_layers_is_found(monkeypatch):
    original = ScaledNormalisation.sweep_backward

    def spoiled(self):
        original(self)
        self.scale.blobs[0].diff[...] *= 2

    monkeypatch.setattr(ScaledNormalisation, "sweep_backward", spoiled)
    (finding,) = check(net_of(NORMALISED, (3, 2, 6, 6)), quick=True).wrong
    assert (finding.layer, finding.wrt, finding.what) == ("(the whole net)", "s weights", "engine")
    assert "as the net runs" in finding.verdict
