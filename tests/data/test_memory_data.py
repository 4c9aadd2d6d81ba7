"""MemoryData: batches of the user's arrays."""

import numpy as np
import pytest

from breve import pycaffe
from breve.errors import DataError, LayerError, NetError
from data.data_layers import batches, net_of

DATA = np.random.default_rng(0).standard_normal((6, 2, 3, 4)).astype(np.float32)
LABELS = np.arange(6)


def memory(extra="", **options):
    layer = f'type: "MemoryData" memory_data_param {{ batch_size: 2 channels: 2 height: 3 width: 4 }} {extra}'
    return net_of(layer, **options)


@pytest.mark.parametrize("labels", [LABELS, LABELS.astype(np.float32), LABELS.reshape(6, 1, 1, 1)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_batches_come_round_and_round(labels, dtype):
    net = memory(dtype=dtype)
    net.layers[0].set_arrays(DATA, labels)
    for i, batch in enumerate(batches(net, 7)):
        part = slice(i % 3 * 2, i % 3 * 2 + 2)
        np.testing.assert_array_equal(batch["data"], DATA[part])
        np.testing.assert_array_equal(batch["label"], LABELS[part])


def test_new_arrays_begin_at_their_first_row():
    net = memory()
    net.layers[0].set_arrays(DATA, LABELS)
    batches(net, 2)
    net.layers[0].set_arrays(DATA[::-1], LABELS[::-1])
    np.testing.assert_array_equal(batches(net, 1)[0]["label"], [5, 4])


def test_state_is_the_next_row():
    net = memory()
    net.layers[0].set_arrays(DATA, LABELS)
    batches(net, 1)
    state = net.layers[0].state()
    batches(net, 1)
    net.layers[0].set_state(state)
    np.testing.assert_array_equal(batches(net, 1)[0]["label"], [2, 3])


def test_labels_may_be_left_out():
    net = memory()
    net.layers[0].set_arrays(DATA)
    np.testing.assert_array_equal(batches(net, 1)[0]["label"], [0, 0])


def test_forward_without_arrays_says_what_to_do():
    with pytest.raises(DataError, match=r"has no arrays yet; call net.set_input_arrays"):
        memory().forward()


@pytest.mark.parametrize(
    ("data", "labels", "message"),
    [
        (DATA[:5], LABELS[:5], r"expected \(a multiple of 2, 2, 3, 4\), found \(5, 2, 3, 4\)"),
        (DATA[:0], LABELS[:0], "does not fit memory_data_param"),
        (DATA[:, :1], LABELS, "does not fit memory_data_param"),
        (DATA[0], LABELS, "does not fit memory_data_param"),
        (DATA, LABELS[:4], "one label for each image"),
        (DATA, LABELS.reshape(1, 6), "one label for each image"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(data, labels, message):
    with pytest.raises(DataError, match=message):
        memory().layers[0].set_arrays(data, labels)


def test_transform_and_missing_sizes_are_refused():
    with pytest.raises(LayerError, match="MemoryData does not transform its data"):
        memory("transform_param { scale: 0.1 }")
    with pytest.raises(LayerError, match="channels must be positive"):
        net_of('type: "MemoryData" memory_data_param { batch_size: 2 height: 3 width: 4 }')


def test_pycaffe_gives_arrays_to_the_layer(tmp_path):
    (tmp_path / "net.prototxt").write_text(
        'layer { name: "d" type: "MemoryData" top: "data" top: "label"'
        " memory_data_param { batch_size: 2 channels: 2 height: 3 width: 4 } }"
    )
    net = pycaffe.Net(str(tmp_path / "net.prototxt"), pycaffe.TEST)
    net.set_input_arrays(DATA, LABELS.astype(np.float32))
    np.testing.assert_array_equal(net.forward()["label"], [0, 1])
    (tmp_path / "empty.prototxt").write_text('layer { name: "x" type: "Input" top: "x" }')
    with pytest.raises(NetError, match="has no MemoryData layer"):
        pycaffe.Net(str(tmp_path / "empty.prototxt"), pycaffe.TEST).set_input_arrays(DATA, LABELS)
