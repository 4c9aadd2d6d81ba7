"""Every recording of Caffe 1.0 in `tests/golden`, replayed through pycaffe's calls: data, parameters, gradients.

The tolerance is 2e-4 of an array's largest value, as float32 sums in another order differ.
"""

from pathlib import Path

import numpy as np
import pytest

from breve import pycaffe as caffe

GOLDEN = Path(__file__).parent / "golden"
TOLERANCE = 2e-4


def assert_close(got, want, what):
    assert got.shape == want.shape, what
    scale = max(np.abs(want).max(initial=0.0), 1e-6)
    assert np.abs(got.astype("d") - want).max(initial=0.0) <= TOLERANCE * scale, what


def blobs_of(recording, prefix):
    return [(key[len(prefix) :], recording[key]) for key in recording.files if key.startswith(prefix)]


def params_of(recording, prefix):
    for key, value in blobs_of(recording, prefix):
        layer, i = key.rsplit("_", 1)
        yield layer, int(i), value


@pytest.mark.parametrize("path", sorted(GOLDEN.glob("*.npz")), ids=lambda p: p.stem)
def test_recording_of_caffe_agrees(path, tmp_path):
    recording = np.load(path)
    prototxt = tmp_path / "net.prototxt"
    prototxt.write_text(str(recording["prototxt"]))
    net = caffe.Net(str(prototxt), getattr(caffe, str(recording["phase"])))
    for layer, i, value in params_of(recording, "param_"):
        net.params[layer][i].data[...] = value
    for name, value in blobs_of(recording, "in_"):
        net.blobs[name].data[...] = value
    net.forward()
    for name, value in blobs_of(recording, "data_"):
        assert_close(net.blobs[name].data, value, f"data of {name}")
    for layer, i, value in params_of(recording, "after_"):
        assert_close(net.params[layer][i].data, value, f"parameter {i} of {layer} after forward")
    if not any(key.startswith(("diff_", "pdiff_")) for key in recording.files):
        return
    net.clear_param_diffs()
    for name, value in blobs_of(recording, "seed_"):
        net.blobs[name].diff[...] = value
    net._backward(len(net.layers) - 1, 0)
    for name, value in blobs_of(recording, "diff_"):
        assert_close(net.blobs[name].diff, value, f"gradient wrt {name}")
    for layer, i, value in params_of(recording, "pdiff_"):
        assert_close(net.params[layer][i].diff, value, f"gradient wrt parameter {i} of {layer}")


def test_recordings_are_there():
    assert len(list(GOLDEN.glob("*.npz"))) >= 79
