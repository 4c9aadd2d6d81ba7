"""The user's own layers: they run when allowed, gradients and parameters included, and their errors have a place."""

import sys

import numpy as np
import pytest

import breve
from breve.errors import LayerError, UnsupportedError
from breve.layers import python
from breve.proto import NetParameter
from breve.proto.text import parse

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
        top[0].data[...] = self.blobs[0].data[0] * bottom[0].data

    def backward(self, top, propagate_down, bottom):
        self.blobs[0].diff[0] += (top[0].diff * bottom[0].data).sum()
        if propagate_down[0]:
            bottom[0].diff[...] = self.blobs[0].data[0] * top[0].diff

class Broken(Gain):
    def forward(self, bottom, top):
        raise ZeroDivisionError("by nothing")
"""


@pytest.fixture
def user_module(tmp_path, monkeypatch):
    (tmp_path / "gain_layer.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setitem(python._state, "allowed", False)
    monkeypatch.delitem(sys.modules, "gain_layer", raising=False)
    monkeypatch.setitem(sys.modules, "caffe", breve.pycaffe)


def net(layer="Gain", module="gain_layer"):
    text = (
        'force_backward: true layer { name: "in" type: "Input" top: "x" input_param { shape { dim: [1, 2, 1, 2] } } }'
    )
    text += (
        f'layer {{ name: "g" type: "Python" bottom: "x" top: "y" python_param {{ module: "{module}" layer: "{layer}"'
    )
    return breve.Net(parse(text + ' param_str: "3" } }', NetParameter), "TRAIN")


def test_user_layer_runs_both_ways(user_module):
    breve.allow_python_layers()
    n = net()
    n.blobs["x"].data[...] = np.arange(4).reshape(1, 2, 1, 2)
    n.forward()
    assert n.blobs["y"].data.ravel().tolist() == [0, 3, 6, 9]
    n.blobs["y"].diff[...] = 2
    n.clear_param_diffs()
    n.backward()
    assert n.blobs["x"].diff.ravel().tolist() == [6, 6, 6, 6]
    assert n.params["g"][0].diff.tolist() == [12]


def test_user_code_is_not_run_unless_allowed(user_module):
    with pytest.raises(UnsupportedError, match=r"layer 'g' \(Python\): the prototxt wants to run Python code.*allow"):
        net()
    assert "gain_layer" not in sys.modules


@pytest.mark.parametrize(
    ("layer", "module", "message"),
    [
        ("Gian", "gain_layer", "no class 'Gian'; did you mean 'Gain'"),
        ("Gain", "no_such_module", "'no_such_module' cannot be imported.*PYTHONPATH"),
    ],
)
def test_missing_module_or_class_is_named(user_module, layer, module, message):
    breve.allow_python_layers()
    with pytest.raises(LayerError, match=message):
        net(layer, module)


def test_error_in_user_code_names_layer_and_method(user_module):
    breve.allow_python_layers()
    n = net("Broken")
    with pytest.raises(LayerError, match=r"layer 'g' \(Python\): Broken.forward raised ZeroDivisionError: by nothing"):
        n.forward()
