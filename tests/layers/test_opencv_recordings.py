"""Layers of forks against what OpenCV 4.8's Caffe reader computed for the same prototxt and values."""

from pathlib import Path

import numpy as np
import pytest

from breve.net import Net
from breve.proto import NetParameter
from breve.proto.text import parse

RECORDED = Path(__file__).parents[1] / "recorded" / "opencv_layers.npz"
NAMES = (
    "interp", "interpz", "normalize", "permute", "prior", "proposal", "psroi", "relu6", "reorg", "roi", "shuffle"
)  # fmt: skip


@pytest.fixture(scope="module")
def recorded():
    with np.load(RECORDED) as file:
        return dict(file)


def test_every_recording_is_named(recorded):
    assert sorted({key.partition("/")[0] for key in recorded}) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_layer_gives_what_opencv_gives(name, recorded):
    net = Net(parse(str(recorded[f"{name}/prototxt"]), NetParameter), "TEST")
    for blob in net.blobs:
        if f"{name}/{blob}" in recorded and blob != "y":
            net.blobs[blob].data[...] = recorded[f"{name}/{blob}"]
    net.forward()
    want = recorded[f"{name}/y"]
    assert net.blobs["y"].shape == want.shape
    np.testing.assert_allclose(net.blobs["y"].data, want, rtol=0, atol=2e-6 * np.abs(want).max())
