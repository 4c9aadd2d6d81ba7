"""A user's own Python layer is checked and explained like any other."""

import sys

import pytest

import breve
from breve.explain.unfold import Pass
from breve.layers import python
from explain.nets import net_of

MODULE = """
import caffe
import numpy as np

class Gain(caffe.Layer):
    def setup(self, bottom, top):
        self.blobs.add_blob(1)
        self.blobs[0].data[0] = float(self.param_str)

    def reshape(self, bottom, top):
        top[0].reshape(*bottom[0].shape)

    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data[0] * np.sin(bottom[0].data)

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += (top[0].diff * np.sin(bottom[0].data)).sum()
        if propagate_down[0]:
            bottom[0].diff[...] = self.blobs[0].data[0] * top[0].diff * np.cos(bottom[0].data)

class Single(Gain):
    def forward(self, bottom, top):
        top[0].data[...] = self.blobs[0].data[0].astype(np.float32) * np.sin(bottom[0].data.astype(np.float32))

class Twice(Gain):
    def backward(self, top, propagate_down, bottom):
        super().backward(top, propagate_down, bottom)
        bottom[0].diff[0, 1, 2] *= 2

class Forgotten(Gain):
    def backward(self, top, propagate_down, bottom):
        super().backward(top, propagate_down, bottom)
        self.blobs[0].diff[0] = 0
"""


@pytest.fixture
def user_net(tmp_path, monkeypatch):
    (tmp_path / "own_layer.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(python._state, "allowed", True)
    monkeypatch.delitem(sys.modules, "own_layer", raising=False)
    monkeypatch.setitem(sys.modules, "caffe", breve.pycaffe)

    def build(layer):
        param = f'python_param {{ module: "own_layer" layer: "{layer}" param_str: "3" }}'
        return net_of(f'layer {{ name: "own" type: "Python" bottom: "x" top: "y" {param} }}', (2, 3, 4))

    return build


@pytest.mark.parametrize("layer", ["Gain", "Single"])
def test_right_layer_agrees(user_net, layer):
    report = breve.check(user_net(layer))
    assert report.ok, str(report)
    assert {f.wrt for f in report.findings if f.what == "gradient"} == {"data", "weights"}


def test_wrong_element_is_named(user_net):
    (finding,) = [f for f in breve.check(user_net("Twice")).wrong if f.what == "gradient"]
    assert (finding.layer, finding.wrt, finding.index) == ("own", "data", (0, 1, 2))
    assert finding.verdict.endswith("off by a factor of 2")


def test_parameter_gradient_that_is_forgotten_is_found(user_net):
    wrong = {(f.wrt, f.what) for f in breve.check(user_net("Forgotten")).wrong if f.layer == "own"}
    assert ("weights", "gradient") in wrong
    assert ("weights", "rule") in wrong


def test_its_gradients_are_explained(user_net):
    run = Pass(user_net("Gain"))
    for wrt, at in (("data", (1, 2, 3)), ("weights", (0,))):
        e = run.explain("own", wrt, at)
        assert e.numeric.verdict.startswith("agrees")
        assert e.sum == pytest.approx(e.value, rel=1e-5)
    assert len(e.terms) == 24
