"""`breve test`, `time`, `upgrade`, `convert-mnist`, `demo`, and the help that lists them."""

import gzip
import re
import struct
import subprocess
import sys
from contextlib import closing

import numpy as np
import pytest
from PIL import Image

from breve.data.lmdb_reader import LmdbReader
from breve.proto import NetParameter, SolverParameter
from breve.proto.binary import read_mean
from breve.proto.text import parse


def test_help_lists_every_command_quickly(breve):
    result = breve("--help")
    for name in ("train", "test", "time", "demo", "upgrade", "convert-mnist"):
        assert re.search(rf"^  {name} ", result.out, re.MULTILINE)


def test_help_needs_no_heavy_imports():
    code = "import sys, breve.cli; breve.cli.main(['--help']); print(sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for module in ("numpy", "numba", "google.protobuf", "rich"):
        assert f"'{module}'" not in out


@pytest.mark.parametrize(
    "name", ["train", "test", "time", "demo", "upgrade", "convert-mnist", "convert-imageset", "compute-mean"]
)
def test_every_command_has_help(breve, name):
    result = breve(name, "--help")
    assert result.code == 0
    assert result.out.startswith(f"Usage: breve {name}")
    assert "--debug" in result.out


def test_version(breve):
    assert re.fullmatch(r"breve \d+\.\d+\.\d+\n", breve("--version").out)


def test_threads(breve, folder):
    from breve.kernels import threads

    before = threads.get_num_threads()
    try:
        assert breve("train", "--solver", "solver.prototxt", "--threads", 1).code == 0
        assert threads.get_num_threads() == 1
    finally:
        threads.set_num_threads(before)


@pytest.fixture
def trained(breve, folder):
    assert breve("train", "--solver", "solver.prototxt").code == 0
    return folder


def test_score_is_the_mean_over_batches(breve, trained):
    result = breve("test", "--model", "net.prototxt", "--weights", "small_iter_8.caffemodel", "--iterations", 5)
    assert result.code == 0
    lines = [line.split("] ")[1] for line in result.out.splitlines()]
    assert lines[0] == "Running for 5 iterations."
    batches = [float(line.split(" = ")[1]) for line in lines if re.match(r"Batch \d, accuracy", line)]
    losses = [float(line.split(" = ")[1]) for line in lines if re.match(r"Batch \d, loss", line)]
    assert len(batches) == len(losses) == 5
    assert float(lines[-3].removeprefix("Loss: ")) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(lines[-2].removeprefix("accuracy = ")) == pytest.approx(np.mean(batches), rel=1e-5)
    loss = np.mean(losses)
    assert re.fullmatch(r"loss = ([\d.]+) \(\* 1 = \1 loss\)", lines[-1])
    assert float(lines[-1].split()[2]) == pytest.approx(loss, rel=1e-5)


@pytest.mark.parametrize("phase", ["TRAIN", "TEST"])
def test_time_has_a_row_for_each_layer(breve, folder, phase):
    result = breve("time", "--model", "net.prototxt", "--iterations", 2, "--phase", phase)
    assert result.code == 0
    rows = {line.split()[0]: line.split() for line in result.out.splitlines() if line.strip()}
    assert rows["data"][1:3] == ["Data", "4x1x8x8"]
    assert rows["ip"][1:3] == ["InnerProduct", "4x10"]
    assert ("accuracy" in rows) == (phase == "TEST")
    forward, backward, both = (
        float(re.search(rf"^Average {name}: ([\d.]+) ms\.$", result.out, re.MULTILINE)[1])
        for name in ("Forward pass", "Backward pass", "Forward-Backward")
    )
    assert forward > 0
    assert both == pytest.approx(forward + backward, abs=0.002)


def test_time_names_the_algorithm_of_a_convolution(breve, folder):
    (folder / "conv.prototxt").write_text(
        'layer { name: "x" type: "Input" top: "x" input_param { shape { dim: [1, 3, 8, 8] } } }'
        'layer { name: "conv" type: "Convolution" bottom: "x" top: "y"'
        " convolution_param { num_output: 4 kernel_size: 3 engine: CAFFE } }"
    )
    result = breve("time", "--model", "conv.prototxt", "--iterations", 1)
    assert re.search(r"^  conv +Convolution +1x4x6x6 .* im2col *$", result.out, re.MULTILINE)


V1 = """layers { name: "ip" type: INNER_PRODUCT bottom: "x" top: "y" blobs_lr: 1 blobs_lr: 2
  inner_product_param { num_output: 3 } }  # a comment"""


def test_upgrade_of_a_net(breve, folder):
    (folder / "old.prototxt").write_text(V1)
    result = breve("upgrade", "old.prototxt", "new.prototxt")
    assert result.out == "old.prototxt was in an old form; wrote new.prototxt\n"
    (layer,) = parse((folder / "new.prototxt").read_text(), NetParameter).layer
    assert (layer.type, [p.lr_mult for p in layer.param]) == ("InnerProduct", [1, 2])
    result = breve("upgrade", "new.prototxt", "new.prototxt")
    assert result.out == "new.prototxt was in the current form already; wrote new.prototxt\n"


def test_upgrade_of_a_solver(breve, folder):
    (folder / "old.prototxt").write_text('net: "net.prototxt" solver_type: ADAGRAD base_lr: 0.1')
    assert "in an old form" in breve("upgrade", "old.prototxt", "new.prototxt").out
    solver = parse((folder / "new.prototxt").read_text(), SolverParameter)
    assert (solver.type, solver.HasField("solver_type"), solver.net) == ("AdaGrad", False, "net.prototxt")


def test_upgrade_of_weights(breve, trained):
    net = NetParameter.FromString((trained / "small_iter_8.caffemodel").read_bytes())
    old = NetParameter(name="old")
    layer = old.layers.add(name="ip", type=14)
    layer.blobs.extend(next(layer.blobs for layer in net.layer if layer.name == "ip"))
    (trained / "old.caffemodel").write_bytes(old.SerializeToString())
    assert "in an old form" in breve("upgrade", "old.caffemodel", "new.caffemodel").out
    (layer,) = NetParameter.FromString((trained / "new.caffemodel").read_bytes()).layer
    assert (layer.type, len(layer.blobs)) == ("InnerProduct", 2)
    result = breve("test", "--model", "net.prototxt", "--weights", "new.caffemodel", "--iterations", 1)
    assert result.code == 0


def write_idx(path, array):
    header = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
    path.write_bytes(gzip.compress(header + array.tobytes()))


def write_mnist(folder, split, count, seed):
    """Digits that are easy to tell apart: a white square whose place is the label."""
    labels = (np.arange(count) % 10).astype(np.uint8)
    images = np.random.default_rng(seed).integers(0, 40, (count, 28, 28)).astype(np.uint8)
    for image, label in zip(images, labels, strict=True):
        row, column = 2 + 14 * (label // 5), 1 + 5 * (label % 5)
        image[row : row + 8, column : column + 5] = 250
    write_idx(folder / f"{split}-images-idx3-ubyte.gz", images)
    write_idx(folder / f"{split}-labels-idx1-ubyte.gz", labels)


def test_convert_mnist(breve, folder):
    write_mnist(folder, "t10k", 12, 0)
    files = "t10k-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte.gz"
    result = breve("convert-mnist", *files, "database", "--pad", 32)
    assert result.out == "wrote 12 digits to database\n"
    with closing(LmdbReader("database")) as database:
        assert len(database) == 12
    again = breve("convert-mnist", *files, "database")
    assert (again.code, again.err.split(";")[0]) == (1, "error: database exists already")
    assert breve("convert-mnist", *files, "database", "--overwrite").code == 0


def test_convert_imageset_and_its_mean(breve, folder):
    for name, value in (("a", 10), ("b", 30)):
        Image.fromarray(np.full((6, 8, 3), [value, 0, 200], np.uint8)).save(folder / f"{name}.png")
    (folder / "list.txt").write_text("a.png 0\nb.png 1\n")
    result = breve("convert-imageset", "./", "list.txt", "pictures", "--resize_height", 4, "--resize_width", 5)
    assert (result.code, result.out) == (0, "wrote 2 images to pictures\n")
    result = breve("compute-mean", "pictures", "mean.binaryproto")
    assert result.out.splitlines() == [
        "wrote 3 x 4 x 5 to mean.binaryproto",
        "mean_value channel [0]: 200",
        "mean_value channel [1]: 0",
        "mean_value channel [2]: 20",
    ]
    np.testing.assert_array_equal(read_mean("mean.binaryproto")[0, :, 0, 0], [200, 0, 20])


def test_convert_imageset_stops_or_skips_at_a_bad_file(breve, folder):
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(folder / "a.png")
    (folder / "b.png").write_text("no picture")
    (folder / "list.txt").write_text("a.png 0\nb.png 1\n")
    before = sorted(folder.rglob("*"))
    result = breve("convert-imageset", "./", "list.txt", "pictures")
    assert (result.code, len(result.err.splitlines())) == (1, 1)
    assert result.err.startswith("error: ./b.png: ")
    assert sorted(folder.rglob("*")) == before
    result = breve("convert-imageset", "./", "list.txt", "pictures", "--skip")
    assert (result.code, result.out) == (0, "wrote 1 images to pictures\n")
    assert result.err.startswith("skipped: ./b.png: ")


def test_demo_trains_on_the_digits_of_a_folder(breve, folder):
    (folder / "idx").mkdir()
    write_mnist(folder / "idx", "train", 256, 1)
    write_mnist(folder / "idx", "t10k", 100, 2)
    result = breve("demo", "--data", "idx", "--iterations", 20, "--seed", 1, "--output", "out")
    assert result.code == 0
    last = result.out.splitlines()[-1]
    assert re.fullmatch(r"accuracy = \d\.\d{3}", last)
    assert float(last.split()[2]) > 0.5
    names = {path.name for path in (folder / "out").iterdir()}
    assert names == {
        "mnist_train_lmdb", "mnist_test_lmdb", "lenet_train_test.prototxt", "lenet_solver.prototxt",
        "lenet_iter_20.caffemodel", "lenet_iter_20.solverstate", "explain.html",
    }  # fmt: skip
    repeated = breve("demo", "--data", "idx", "--iterations", 20, "--seed", 1, "--output", "out")
    assert repeated.out.splitlines()[-1] == last
