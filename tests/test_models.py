"""Published Caffe models with what Caffe 1.0 computes for them, where `../shared/models` is at hand; else skipped."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import breve
from breve.data import mnist

SHARED = Path(__file__).parents[2] / "shared"
MODELS, DIGITS = SHARED / "models", SHARED / "data" / "mnist"
TOLERANCE = 2e-4  # of an array's largest value

pytestmark = pytest.mark.skipif(not MODELS.is_dir(), reason="the published models are not at hand (../shared/models)")

CASES = {
    "lenet": ("lenet/deploy.prototxt", "lenet/lenet_iter_10000.caffemodel", "lenet/expected_t10k_first100.npz"),
    "squeezenet": (
        "squeezenet/deploy.prototxt",
        "squeezenet/squeezenet_v1.0.caffemodel",
        "squeezenet/expected_cat.npz",
    ),
    "ultraface": ("ultraface/RFB-320.prototxt", "ultraface/RFB-320.caffemodel", "ultraface/expected.npz"),
    "mtcnn_det1": ("mtcnn/det1.prototxt", "mtcnn/det1.caffemodel", "mtcnn/expected_det1.npz"),
    "mtcnn_det3": ("mtcnn/det3.prototxt", "mtcnn/det3.caffemodel", "mtcnn/expected_det3.npz"),
}


def assert_close(got, want, what):
    assert got.shape == want.shape, what
    assert np.abs(got.astype("d") - want).max() <= TOLERANCE * np.abs(want).max(), what


@pytest.mark.parametrize("name", CASES)
def test_published_model_gives_the_outputs_that_caffe_gives(name):
    prototxt, weights, expected = (MODELS / file for file in CASES[name])
    recording = np.load(expected)
    net = breve.Net(prototxt, "TEST", weights=weights)
    net.blobs[net.inputs[0]].reshape(*recording["input"].shape)
    net.blobs[net.inputs[0]].data[...] = recording["input"]
    net.forward()
    for blob in set(recording.files) - {"input"}:
        assert_close(net.blobs[blob].data, recording[blob], f"{name}: {blob}")


def test_feature_extractor_gives_the_published_feature():
    folder = MODELS / "cnn_3dobj"
    net = breve.Net(folder / "3d_triplet_testIMG.prototxt", "TEST", weights=folder / "3d_triplet_iter_30000.caffemodel")
    net.blobs["data"].data[...] = np.asarray(Image.open(folder / "4_78.png").convert("L"), np.float32)
    net.forward()
    assert_close(net.blobs["feat"].data.ravel(), np.array([-312.4805, 8.476894, -224.98955]), "feature")


@pytest.mark.skipif(not DIGITS.is_dir(), reason="MNIST's files are not at hand (../shared/data/mnist)")
def test_published_lenet_reads_the_test_digits_as_well_as_in_caffe():
    prototxt, weights, _ = (MODELS / file for file in CASES["lenet"])
    net = breve.Net(prototxt, "TEST", weights=weights)
    net.blobs["data"].reshape(500, 1, 28, 28)
    digits = mnist.load_folder(DIGITS)[1]
    right = 0
    for i in range(0, len(digits.labels), 500):
        net.blobs["data"].data[:, 0] = digits.images[i : i + 500] / np.float32(256)
        net.forward()
        right += int((net.blobs["prob"].data.argmax(axis=1) == digits.labels[i : i + 500]).sum())
    assert right == 9914
