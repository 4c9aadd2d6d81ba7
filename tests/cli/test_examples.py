"""The example's files: found in a checkout and in an installed package, and what they say."""

from pathlib import Path

import pytest

import breve
from breve.cli import demo
from breve.errors import DataError
from breve.net import Net
from breve.proto import NetParameter
from breve.proto.text import parse

EXAMPLES = Path(breve.__file__).parents[2] / "examples" / "mnist"


def test_lenet_has_the_published_number_of_parameters(tmp_path):
    text = demo.example("lenet_train_test.prototxt")
    start, end = text.index("layer {"), text.index("# 28x28")
    inputs = """layer { name: "d" type: "DummyData" top: "data" top: "label"
        dummy_data_param { shape { dim: [2, 1, 28, 28] } shape { dim: 2 } } }"""
    net = Net(parse(text[:start] + inputs + text[end:], NetParameter), "TRAIN")
    assert sum(blob.count for blob in net.learnable_params) == 431_080


def test_example_is_found_in_a_checkout():
    assert demo.example("lenet_solver.prototxt") == (EXAMPLES / "lenet_solver.prototxt").read_text()


def test_example_is_found_in_an_installed_package(monkeypatch, tmp_path):
    class Installed:
        name = "lenet_solver.prototxt"

        def locate(self):
            return tmp_path / "lenet_solver.prototxt"

    (tmp_path / "lenet_solver.prototxt").write_text("installed")
    monkeypatch.setattr(breve, "__file__", str(tmp_path / "site-packages" / "breve" / "__init__.py"))
    monkeypatch.setattr(demo.metadata, "files", lambda name: [Installed()])
    assert demo.example("lenet_solver.prototxt") == "installed"
    with pytest.raises(DataError, match="is not installed with breve; install breve again"):
        demo.example("other.prototxt")
