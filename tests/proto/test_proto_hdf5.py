"""Weights as HDF5, in Caffe's layout."""

import h5py
import numpy as np
import pytest

from breve.errors import FileFormatError
from breve.proto.binary import array_to_blob, blob_to_array, read_weights, write_net
from breve.proto.schema import WIRE_MESSAGES

WEIGHT, BIAS = np.arange(6, dtype=np.float32).reshape(2, 3), np.float64([0.5, 0.25])


@pytest.fixture
def net():
    message = WIRE_MESSAGES["NetParameter"]()
    layer = message.layer.add(name="ip")
    array_to_blob(WEIGHT, layer.blobs.add(), -WEIGHT)
    array_to_blob(BIAS, layer.blobs.add())
    message.layer.add(name="relu")
    array_to_blob(WEIGHT, message.layer.add(name="inception/1x1").blobs.add())
    array_to_blob(BIAS, message.layer.add(name="inception").blobs.add())
    return message


def test_layout_is_that_of_caffe(tmp_path, net):
    write_net(net, tmp_path / "n.caffemodel.h5")
    with h5py.File(tmp_path / "n.caffemodel.h5") as file:
        assert set(file["data"]) == {"ip", "relu", "inception"}
        np.testing.assert_array_equal(file["data/ip/0"], WEIGHT)
        np.testing.assert_array_equal(file["data/ip/1"], BIAS)
        assert file["data/ip/1"].dtype == np.float64
        assert len(file["data/relu"]) == 0
        assert list(file["diff"]) == ["ip"]
        np.testing.assert_array_equal(file["diff/ip/0"], -WEIGHT)


def test_round_trip_also_of_names_with_slashes(tmp_path, net):
    write_net(net, tmp_path / "n.caffemodel.h5")
    layers = {
        layer.name: [blob_to_array(b) for b in layer.blobs]
        for layer in read_weights(tmp_path / "n.caffemodel.h5").layer
    }
    assert layers.keys() == {"ip", "relu", "inception", "inception/1x1"}
    assert layers["relu"] == []
    np.testing.assert_array_equal(layers["ip"][0], WEIGHT)
    np.testing.assert_array_equal(layers["inception/1x1"][0], WEIGHT)
    np.testing.assert_array_equal(layers["inception"][0], BIAS)


def test_a_shared_parameter_that_caffe_leaves_out_is_none(tmp_path):
    with h5py.File(tmp_path / "n.h5", "w") as file:
        file["data/ip/1"] = BIAS
    (layer,) = read_weights(tmp_path / "n.h5").layer
    assert layer.blobs[0] is None
    np.testing.assert_array_equal(blob_to_array(layer.blobs[1]), BIAS)


def test_other_hdf5_and_damaged_files_are_errors(tmp_path, net):
    path = tmp_path / "n.caffemodel.h5"
    with h5py.File(path, "w") as file:
        file["label"] = BIAS
    with pytest.raises(FileFormatError, match=r"HDF5, but not weights; expected a group 'data' .* found label"):
        read_weights(path)
    write_net(net, path)
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(FileFormatError, match="truncated or damaged HDF5"):
        read_weights(path)


def test_what_old_caffe_wrote(models):
    path = models / "old_snapshots" / "cifar10_quick_iter_5000.caffemodel.h5"
    shapes = {layer.name: [blob_to_array(blob).shape for blob in layer.blobs] for layer in read_weights(path).layer}
    assert shapes["conv1"] == [(32, 3, 5, 5), (32,)]
    assert shapes["ip2"] == [(10, 64), (10,)]
    assert shapes["pool1"] == []
