"""The random layers of scripts/differential are of every type that Caffe has, and run in breve. Caffe is not needed."""

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from breve.net import Net
from breve.proto import NetParameter
from breve.proto.text import parse

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def scripts():
    """The modules configurations and make_layer_docs."""
    added = [str(SCRIPTS), str(SCRIPTS / "differential")]
    sys.path[:0] = added
    import configurations
    import make_layer_docs

    yield configurations, make_layer_docs
    for path in added:
        sys.path.remove(path)


def test_every_type_of_caffe_is_drawn_or_said_not_to_be(scripts):
    configurations, docs = scripts
    drawn = {configurations.draw(seed).type for seed in range(1000)}
    assert drawn - {"(net)", "Permute"} == set(docs.CAFFE) - set(configurations.NOT_DRAWN)


def test_drawn_layers_run(scripts):
    configurations, _ = scripts
    by_type = defaultdict(list)
    for seed in range(300):
        layer = configurations.draw(seed)
        if not layer.files and not layer.arrays and layer.type != "Python":
            by_type[layer.type].append(layer)
    for layers in by_type.values():
        layer = layers[0]
        net = Net(parse(layer.prototxt(), NetParameter), layer.phase, seed=1)
        for i, values in enumerate(layer.bottoms):
            net.blobs[f"x{i}"].data[...] = values
        net.forward()
        if layer.backward:
            net.backward()
        assert all(np.isfinite(blob.data).all() for blob in net.blobs.values())
