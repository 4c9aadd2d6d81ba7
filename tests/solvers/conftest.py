"""A small net that draws new data and new dropout masks at each forward pass, and a solver for it."""

import pytest

NET = """
name: "small"
layer {
  name: "data" type: "DummyData" top: "x" top: "t"
  dummy_data_param {
    shape { dim: 6 dim: 2 dim: 4 dim: 4 } shape { dim: 6 dim: 3 }
    data_filler { type: "gaussian" std: 1 } data_filler { type: "uniform" min: -1 max: 1 }
  }
}
layer {
  name: "conv" type: "Convolution" bottom: "x" top: "conv"
  param { lr_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 weight_filler { type: "xavier" } }
}
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" }
layer {
  name: "ip" type: "InnerProduct" bottom: "conv" top: "y"
  inner_product_param { num_output: 3 weight_filler { type: "xavier" } }
}
layer { name: "loss" type: "EuclideanLoss" bottom: "y" bottom: "t" top: "loss" }
"""

SOLVER = """
net: "net.prototxt"
base_lr: 0.05
lr_policy: "fixed"
momentum: 0.9
max_iter: 8
random_seed: 3
snapshot_prefix: "small"
"""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current directory with the net's prototxt in it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.prototxt").write_text(NET)
    return tmp_path


@pytest.fixture
def solver_file(folder):
    """Write a solver's prototxt: the usual one, with fields replaced or (None) left out, and text added."""

    def write(extra="", **fields):
        lines = [line for line in SOLVER.splitlines() if line.split(":")[0] not in fields]
        lines += [f"{name}: {value}" for name, value in fields.items() if value is not None]
        path = folder / "solver.prototxt"
        path.write_text("\n".join([*lines, extra]))
        return path

    return write
