"""Binary files: blobs to arrays and back in every encoding, damaged and foreign files, and what Caffe itself wrote."""

import re
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from breve.errors import FileFormatError
from breve.proto import binary
from breve.proto.binary import (
    array_to_blob,
    blob_shape,
    blob_to_array,
    read_mean,
    read_message,
    read_net_binary,
    read_weights,
    write_binary,
    write_mean,
    write_net,
)
from breve.proto.schema import MESSAGES, WEIGHT_MESSAGES, WIRE_MESSAGES
from breve.proto.text import parse, to_text

CLASSES = [classes["BlobProto"] for classes in (MESSAGES, WIRE_MESSAGES, WEIGHT_MESSAGES)]
EACH_CLASS = pytest.mark.parametrize("blob_class", CLASSES, ids=["text", "wire", "weights"])
ARRAYS = npst.arrays(
    st.sampled_from([np.float32, np.float64]),
    npst.array_shapes(min_dims=0, max_dims=5, min_side=0, max_side=4),
)


@EACH_CLASS
@settings(max_examples=50, deadline=None)
@given(array=ARRAYS)
def test_array_round_trip(blob_class, array):
    blob = array_to_blob(array, blob_class(), array[::-1] if array.ndim else array)
    again = blob_class.FromString(blob.SerializeToString())
    for field, expected in (("data", array), ("diff", array[::-1] if array.ndim else array)):
        values = blob_to_array(again, field)
        assert values.dtype == array.dtype or array.size == 0
        np.testing.assert_array_equal(values, expected)
    assert blob_shape(again) == array.shape


def test_all_classes_write_the_same_bytes():
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    assert len({array_to_blob(array, blob_class(), array).SerializeToString() for blob_class in CLASSES}) == 1


@EACH_CLASS
def test_what_is_not_float_becomes_float32(blob_class):
    values = blob_to_array(array_to_blob(np.array([[1, 2]], np.int64).T, blob_class()))
    assert values.dtype == np.float32
    np.testing.assert_array_equal(values, [[1], [2]])


@EACH_CLASS
def test_a_blob_is_overwritten_as_a_whole(blob_class):
    blob = blob_class(num=1, channels=1, height=1, width=9)
    array_to_blob(np.zeros((2, 2), np.float32), blob)
    assert blob_to_array(blob).shape == (2, 2)


@EACH_CLASS
def test_old_shapes_have_four_axes(blob_class):
    old = MESSAGES["BlobProto"](num=1, channels=2, height=1, width=3, data=range(6))
    blob = blob_class.FromString(old.SerializeToString())
    np.testing.assert_array_equal(blob_to_array(blob), np.arange(6).reshape(1, 2, 1, 3))


def floats(*values):
    return struct.pack(f"<{len(values)}f", *values)


SHAPE = MESSAGES["BlobProto"](shape={"dim": [4]}).SerializeToString()
ENCODINGS = {
    "packed": b"\x2a\x10" + floats(1, 2, 3, 4),
    "in two packs": b"\x2a\x04" + floats(1) + b"\x2a\x0c" + floats(2, 3, 4),
    "one by one": b"".join(b"\x2d" + floats(value) for value in (1, 2, 3, 4)),
    "doubles": b"\x42\x20" + struct.pack("<4d", 1, 2, 3, 4),
    "doubles one by one": b"".join(b"\x41" + struct.pack("<d", value) for value in (1, 2, 3, 4)),
    "raw halves": b"\x50\x02\x62\x08" + struct.pack("<4e", 1, 2, 3, 4),
    "raw floats": b"\x50\x01\x62\x10" + floats(1, 2, 3, 4),
}


@EACH_CLASS
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_every_encoding_of_values_is_read(blob_class, encoding):
    values = blob_to_array(blob_class.FromString(SHAPE + ENCODINGS[encoding]))
    np.testing.assert_array_equal(values, [1, 2, 3, 4])
    assert values.dtype == (np.float64 if "doubles" in encoding else np.float32)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (SHAPE, "expected shape [4], found 0 values of data"),
        (SHAPE + b"\x2a\x08" + floats(1, 2), "expected shape [4], found 2 values of data"),
        (SHAPE + b"\x2a\x05abcde", "a blob's values break off; expected a multiple of 4 bytes, found 5"),
        (MESSAGES["BlobProto"](shape={"dim": [-2, -2]}, data=range(4)).SerializeToString(), "expected shape [-2, -2]"),
        (SHAPE + b"\x50\x03\x62\x04abcd", "unknown type"),
        (SHAPE + b"\x50\x01\x62\x05abcde", "break off"),
    ],
)
def test_values_that_do_not_fill_the_shape_are_an_error(content, message):
    with pytest.raises(FileFormatError) as caught:
        blob_to_array(WIRE_MESSAGES["BlobProto"].FromString(content))
    assert message in str(caught.value)


NET = 'name: "n" layer { name: "ip" type: "InnerProduct" inner_product_param { num_output: 2 } } layer { name: "relu" }'


@pytest.fixture
def net():
    """A net of one layer with a parameter (2, 3) and its gradient, and one without."""
    message = WIRE_MESSAGES["NetParameter"].FromString(parse(NET, MESSAGES["NetParameter"]).SerializeToString())
    array_to_blob(np.arange(6, dtype=np.float32).reshape(2, 3), message.layer[0].blobs.add(), np.ones((2, 3)))
    return message


def test_net_round_trip(tmp_path, net):
    write_net(net, tmp_path / "n.caffemodel")
    assert read_net_binary(tmp_path / "n.caffemodel") == net
    weights = read_weights(tmp_path / "n.caffemodel")
    assert [(layer.name, layer.type, len(layer.blobs)) for layer in weights.layer] == [
        ("ip", "InnerProduct", 1),
        ("relu", "", 0),
    ]
    np.testing.assert_array_equal(blob_to_array(weights.layer[0].blobs[0]), [[0, 1, 2], [3, 4, 5]])
    assert list(tmp_path.iterdir()) == [tmp_path / "n.caffemodel"]


def test_net_with_its_weights_as_text(net):
    text = to_text(net)
    assert 'name: "ip"' in text
    assert text.count("data: ") == 6
    assert parse(text, MESSAGES["NetParameter"]).layer[0].blobs[0].data[5] == 5


def test_weights_of_old_forms_keep_their_names(tmp_path):
    blobs = [{"num": 1, "channels": 1, "height": 1, "width": 2, "data": [1, 2]}]
    v1 = MESSAGES["NetParameter"](layers=[{"name": "one", "type": "INNER_PRODUCT", "blobs": blobs}])
    v0 = MESSAGES["NetParameter"](layers=[{"layer": {"name": "nought", "type": "innerproduct", "blobs": blobs}}])
    for message, name, kind in ((v1, "one", "InnerProduct"), (v0, "nought", "innerproduct")):
        write_binary(message, tmp_path / "old.caffemodel")
        (layer,) = read_weights(tmp_path / "old.caffemodel").layer
        assert (layer.name, layer.type) == (name, kind)
        np.testing.assert_array_equal(blob_to_array(layer.blobs[0]), [[[[1, 2]]]])


def test_weights_are_read_whatever_a_fork_put_into_its_own_fields(tmp_path):
    """Field 106 of a layer is convolution_param in Caffe; here it holds what no ConvolutionParameter could."""
    layer = MESSAGES["LayerParameter"](name="x", blobs=[{"shape": {"dim": [1]}, "data": [7]}]).SerializeToString()
    layer += b"\xd2\x06\x03\xff\xff\xff"
    path = tmp_path / "fork.caffemodel"
    path.write_bytes(b"\xa2\x06" + bytes([len(layer)]) + layer)
    assert blob_to_array(read_weights(path).layer[0].blobs[0]) == 7
    with pytest.raises(FileFormatError):
        read_net_binary(path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "the file is empty; it was cut off"),
        (NET.encode(), "not a binary file; expected trained weights (.caffemodel), found text; is this the .prototxt?"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 1\n",
            "a git-LFS pointer; the file itself is",
        ),
        (b"PK\x03\x04rest", "found a zip archive; unpack it first"),
        (b"\x1f\x8brest", "found a gzip archive"),
        (b"<!DOCTYPE html>", "found a web page"),
        (b"\x08\x05", "truncated or damaged; expected trained weights (.caffemodel), found 2 bytes"),
        (
            b"\x08\x05\x12\x01x\x1a\x00",
            "another kind of file; expected trained weights (.caffemodel), found a solver state",
        ),
        (b"\x08\x01\x10\x03\x18\x01\x20\x01\x2a\x00", "found a mean file (.binaryproto)"),
    ],
)
def test_a_foreign_file_is_named(tmp_path, content, message):
    path = tmp_path / "some.caffemodel"
    path.write_bytes(content)
    with pytest.raises(FileFormatError, match=re.escape(str(path))) as caught:
        read_weights(path)
    assert message in str(caught.value)


def test_every_truncation_is_an_error_or_leaves_whole_layers(tmp_path, net):
    content, path = net.SerializeToString(), tmp_path / "cut.caffemodel"
    whole = 0
    for length in range(len(content)):
        path.write_bytes(content[:length])
        try:
            layers = read_weights(path).layer
        except FileFormatError:
            continue
        whole += 1
        assert [layer.name for layer in layers] == ["ip"]
    assert whole == 1


def test_missing_files_name_their_neighbours(tmp_path, net):
    write_net(net, tmp_path / "lenet.caffemodel")
    with pytest.raises(FileFormatError, match=r"did you mean 'lenet.caffemodel'\?"):
        read_weights(tmp_path / "lenet.caffemodle")
    with pytest.raises(FileFormatError, match="make the folder"):
        write_net(net, tmp_path / "missing" / "n.caffemodel")


def test_the_limit_of_a_message(tmp_path, net, monkeypatch):
    write_net(net, tmp_path / "n.caffemodel")
    monkeypatch.setattr(binary, "LIMIT_BYTES", 50)
    with pytest.raises(FileFormatError, match="expected at most 50 bytes"):
        read_weights(tmp_path / "n.caffemodel")
    with pytest.raises(FileFormatError, match="HDF5"):
        write_net(net, tmp_path / "big.caffemodel")
    assert not (tmp_path / "big.caffemodel").exists()


def test_nothing_half_written(tmp_path, net, monkeypatch):
    path = tmp_path / "n.caffemodel"
    path.write_bytes(b"old")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", full)
    with pytest.raises(FileFormatError, match="cannot be written: No space left on device"):
        write_net(net, path)
    assert list(tmp_path.iterdir()) == [path]
    assert path.read_bytes() == b"old"


@pytest.mark.parametrize("shape", [(3, 4, 5), (1, 3, 4, 5)])
def test_mean_file_round_trip(tmp_path, shape):
    mean = np.random.default_rng(0).random(shape)
    write_mean(mean, tmp_path / "mean.binaryproto")
    np.testing.assert_array_equal(read_mean(tmp_path / "mean.binaryproto"), mean.reshape(1, 3, 4, 5).astype(np.float32))


def test_a_mean_file_that_is_none(tmp_path, net):
    write_net(net, tmp_path / "n.caffemodel")
    with pytest.raises(FileFormatError, match=r"n\.caffemodel"):
        read_mean(tmp_path / "n.caffemodel")
    (tmp_path / "mean.binaryproto").write_bytes(SHAPE)
    with pytest.raises(FileFormatError, match=r"mean\.binaryproto: a blob's values do not fill its shape"):
        read_mean(tmp_path / "mean.binaryproto")


def test_any_message_can_be_read(tmp_path):
    write_binary(MESSAGES["Datum"](label=3), tmp_path / "datum")
    assert read_message(tmp_path / "datum", MESSAGES["Datum"], "a Datum").label == 3


LARGE = """
import resource, sys, tracemalloc
import numpy as np
from breve.proto.binary import array_to_blob, blob_to_array, read_weights, write_net
from breve.proto.schema import WIRE_MESSAGES

def peak_mb():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

if sys.argv[1] == "write":
    net = WIRE_MESSAGES["NetParameter"]()
    array_to_blob(np.arange(50e6, dtype=np.float32), net.layer.add(name="big").blobs.add())
    write_net(net, sys.argv[2])
else:
    before = peak_mb()
    tracemalloc.start()
    values = blob_to_array(read_weights(sys.argv[2]).layer[0].blobs[0])
    assert values[-1] == np.float32(50e6 - 1) and values.nbytes == 200e6
    objects = sum(trace.count for trace in tracemalloc.take_snapshot().statistics("filename"))
    print(peak_mb() - before, objects)
"""


def test_200_mb_are_read_without_a_float_object_each(tmp_path):
    """At most the file and the message at once; as Python floats they would be 50 million objects and 1.6 GB."""
    run = [sys.executable, "-c", LARGE]
    subprocess.run([*run, "write", tmp_path / "n.caffemodel"], check=True)
    done = subprocess.run([*run, "read", tmp_path / "n.caffemodel"], check=True, capture_output=True, text=True)
    grown_mb, objects = map(float, done.stdout.split())
    assert grown_mb < 600
    assert objects < 10_000


def test_published_weights_are_read(models):
    for path in models.glob("*/*.caffemodel"):
        layers = {layer.name: [blob_to_array(blob) for blob in layer.blobs] for layer in read_weights(path).layer}
        count = sum(array.size for arrays in layers.values() for array in arrays)
        assert count * 4 < path.stat().st_size < count * 4 + 60_000
        assert all(np.isfinite(array).all() for arrays in layers.values() for array in arrays)
