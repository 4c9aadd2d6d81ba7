"""Data: batches of a database, round and round; resumed exactly; wrong sources and images refused."""

import gc
import io
import json
import threading
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from breve.data.datum import pack, pack_encoded
from breve.data.lmdb_reader import LmdbReader
from breve.data.lmdb_writer import write_lmdb
from breve.errors import DataError, LayerError, UnsupportedError
from breve.proto import Datum
from data.data_layers import batches, equal, net_of

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (23, 1, 8, 9), np.uint8)


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def database(tmp_path):
    path = tmp_path / "db"
    write_lmdb(path, [(b"%08d" % i, pack(image, i)) for i, image in enumerate(IMAGES)])
    return path


def data(source, batch_size=5, param="", transform="", **options):
    return net_of(
        f'type: "Data" data_param {{ source: "{source}" backend: LMDB batch_size: {batch_size} {param} }}'
        f" transform_param {{ {transform} }}",
        **options,
    )


RANDOM = "crop_size: 5 mirror: true scale: 0.5"


@pytest.mark.parametrize("prefetch", [1, 4, 30])
def test_records_come_in_order_round_and_round(database, prefetch):
    net = data(database, 5, f"prefetch: {prefetch}")
    taken = batches(net, 12)
    labels = np.concatenate([batch["label"] for batch in taken])
    np.testing.assert_array_equal(labels, np.arange(60) % 23)
    np.testing.assert_array_equal(np.concatenate([batch["data"] for batch in taken]), IMAGES[labels.astype(int)])


def test_batch_larger_than_the_database(database):
    (batch,) = batches(data(database, 50), 1)
    np.testing.assert_array_equal(batch["label"], np.arange(50) % 23)


def test_large_database_is_not_loaded_whole(tmp_path):
    image = np.zeros((3, 128, 128), np.uint8)
    write_lmdb(tmp_path / "db", ((b"%08d" % i, pack(image, i)) for i in range(1500)))
    size_bytes = (tmp_path / "db" / "data.mdb").stat().st_size
    tracemalloc.start()
    try:
        net = data(tmp_path / "db", 5, "prefetch: 2")
        for i in range(12):
            net.forward()
            assert net.blobs["label"].data[0] == 5 * i
        peak_bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    net.close()
    assert peak_bytes < size_bytes / 4  # four batches of floats and one of bytes are 4 MB


def test_label_may_be_left_out(database):
    (batch,) = batches(data(database, tops=["data"]), 1)
    np.testing.assert_array_equal(batch["data"], IMAGES[:5])


def test_float64_net(database):
    (batch,) = batches(data(database, dtype=np.float64), 1)
    assert batch["data"].dtype == np.float64
    np.testing.assert_array_equal(batch["data"], IMAGES[:5])


def test_seed_decides_what_is_drawn(database):
    one, same, other = (batches(data(database, transform=RANDOM, seed=seed), 6) for seed in (1, 1, 2))
    assert equal(one, same)
    assert not equal(one, other)


@pytest.mark.parametrize("taken", [0, 1, 4, 5, 13])
def test_resumed_run_is_the_interrupted_one(database, taken):
    net = data(database, transform=RANDOM, seed=1)
    batches(net, taken)
    state = json.loads(json.dumps(net.layers[0].state()))
    rest = batches(net, 9)
    resumed = data(database, transform=RANDOM, seed=99)
    batches(resumed, 3)
    resumed.layers[0].set_state(state)
    assert equal(batches(resumed, 9), rest)


def test_closed_net_goes_on_where_it_was(database):
    net, wanted = data(database, transform=RANDOM, seed=1), batches(data(database, transform=RANDOM, seed=1), 6)
    first = batches(net, 3)
    net.close()
    assert equal(first + batches(net, 3), wanted)


def test_rand_skip_begins_anywhere_below_it_and_repeats_with_the_seed(database):
    starts = [batches(data(database, 1, "rand_skip: 30", seed=seed), 1)[0]["label"][0] for seed in range(150)]
    assert set(starts) == set(range(23))
    again = [batches(data(database, 1, "rand_skip: 30", seed=seed), 1)[0]["label"][0] for seed in range(20)]
    assert again == starts[:20]
    assert np.bincount(np.int64(starts))[:7].sum() > np.bincount(np.int64(starts))[7:14].sum()  # 23 to 29 wrap round


def test_no_thread_is_left_of_a_deleted_net(database):
    net = data(database)
    assert [thread for thread in threading.enumerate() if thread.name == "breve-reader"] == []
    batches(net, 2)
    assert len([thread for thread in threading.enumerate() if thread.name == "breve-reader"]) == 1
    del net
    gc.collect()
    assert [thread for thread in threading.enumerate() if thread.name == "breve-reader"] == []


def test_two_nets_read_one_database(database):
    train, test = data(database, 5), data(database, 7)
    np.testing.assert_array_equal(batches(train, 1)[0]["label"], np.arange(5))
    np.testing.assert_array_equal(batches(test, 1)[0]["label"], np.arange(7))


def test_blobs_and_buffers_are_the_same_arrays_forward_after_forward(database):
    net = data(database, transform=RANDOM)
    net.forward()
    view = net.blobs["data"].data
    arrays = set()
    for _ in range(20):
        batch = net.layers[0].reader.take()
        arrays.add(id(batch.arrays[0]))
        net.layers[0].reader.give_back(batch)
    assert len(arrays) == 4
    net.forward()
    assert net.blobs["data"].data is view


def test_floats_and_labels_of_any_size(tmp_path):
    images = RNG.standard_normal((4, 2, 3, 3)).astype(np.float32)
    labels = [0, -1, 100_000, 2**31 - 1]
    write_lmdb(tmp_path / "db", [(b"%d" % i, pack(image, labels[i])) for i, image in enumerate(images)])
    (batch,) = batches(data(tmp_path / "db", 4, dtype=np.float64), 1)
    np.testing.assert_array_equal(batch["data"], images)
    np.testing.assert_array_equal(batch["label"], labels)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_records_that_are_serialised_in_several_ways_mix(tmp_path, order):
    plain = [pack(image, i) for i, image in enumerate(IMAGES[:6])]
    late = Datum(data=IMAGES[1].tobytes(), label=1).SerializeToString()
    late += Datum(channels=1, height=8, width=9).SerializeToString()  # fields in another order
    values = [plain[0], late, *plain[2:5], plain[5] + Datum(encoded=False).SerializeToString()]
    if order == (1, 0):
        values = values[::-1]
    write_lmdb(tmp_path / "db", [(b"%d" % i, value) for i, value in enumerate(values)])
    (batch,) = batches(data(tmp_path / "db", 6), 1)
    labels = np.arange(6) if order == (0, 1) else np.arange(6)[::-1]
    np.testing.assert_array_equal(batch["label"], labels)
    np.testing.assert_array_equal(batch["data"], IMAGES[labels])


def test_encoded_pictures(tmp_path):
    colour = RNG.integers(0, 256, (3, 6, 7, 3), np.uint8)
    write_lmdb(tmp_path / "db", [(b"%d" % i, pack_encoded(png(c), i)) for i, c in enumerate(colour)])
    (batch,) = batches(data(tmp_path / "db", 3), 1)
    np.testing.assert_array_equal(batch["data"], colour.transpose(0, 3, 1, 2)[:, ::-1])
    np.testing.assert_array_equal(batch["label"], [0, 1, 2])
    (gray,) = batches(data(tmp_path / "db", 3, transform="force_gray: true"), 1)
    want = colour @ np.array([0.299, 0.587, 0.114])
    np.testing.assert_allclose(gray["data"][:, 0], want, atol=0.51)


def test_force_encoded_color_gives_three_channels(tmp_path):
    gray = RNG.integers(0, 256, (6, 7), np.uint8)
    write_lmdb(tmp_path / "db", [(b"0", pack_encoded(png(gray), 1))])
    assert data(tmp_path / "db", 1).blobs["data"].shape == (1, 1, 6, 7)
    assert data(tmp_path / "db", 1, "force_encoded_color: true").blobs["data"].shape == (1, 3, 6, 7)


def test_sizes_may_differ_in_batches_of_one_and_with_a_crop(tmp_path):
    sizes = [(6, 7), (9, 5), (8, 8)]
    images = [RNG.integers(0, 256, (1, *size), np.uint8) for size in sizes]
    write_lmdb(tmp_path / "db", [(b"%d" % i, pack(image, i)) for i, image in enumerate(images)])
    net = data(tmp_path / "db", 1)
    for batch, image in zip(batches(net, 6), images * 2, strict=True):
        np.testing.assert_array_equal(batch["data"][0], image)
    (batch,) = batches(data(tmp_path / "db", 3, transform="crop_size: 5", phase="TEST"), 1)
    np.testing.assert_array_equal(batch["data"][1], images[1][:, 2:7])


def refused(layer_or_error, match, run):
    with pytest.raises(layer_or_error, match=match) as caught:
        run()
    assert "layer 'd' (Data)" in str(caught.value)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (pack(np.zeros((1, 8, 8), np.uint8), 1), "another shape than the first; expected 1 x 8 x 9, found 1 x 8 x 8"),
        (pack(np.zeros((3, 8, 9), np.uint8), 1), "another shape than the first; expected 1 x 8 x 9, found 3 x 8 x 9"),
        (b"\xff\xff\xff", "is no Datum"),
        (b"", "dimensions do not fit its data"),
        (Datum(channels=1, height=8, width=9, data=bytes(71)).SerializeToString(), "do not fit its data"),
        (Datum(channels=1, height=8, width=9, float_data=[1.0] * 5).SerializeToString(), "found 5 floats"),
        (Datum(channels=-1, height=8, width=9, data=bytes(72)).SerializeToString(), "do not fit its data"),
        (pack_encoded(b"\x89PNG\r\n\x1a\n broken", 1), "a picture cannot be decoded"),
        (pack_encoded(b"", 1), "a picture cannot be decoded"),
    ],
)
@pytest.mark.parametrize("place", [0, 7])
def test_wrong_record_is_named(tmp_path, value, message, place):
    records = [(b"%02d" % i, pack(image, i)) for i, image in enumerate(IMAGES[:10])]
    records[place] = (b"%02d" % place, value)
    write_lmdb(tmp_path / "db", records)
    if place:
        net = data(tmp_path / "db", 5)
        net.forward()
        refused(DataError, f"record '07': .*{message}", net.forward)
        refused(DataError, f"record '07': .*{message}", net.forward)
    elif "another shape" in message:
        net = data(tmp_path / "db", 5)
        refused(DataError, "record '01': .*another shape", net.forward)
    else:
        refused(DataError, f"record '00': .*{message}", lambda: data(tmp_path / "db", 5))


@pytest.mark.parametrize(
    ("param", "transform", "kind", "message"),
    [
        ("prefetch: 0", "", LayerError, "prefetch must be positive"),
        ("crop_size: 3", "", LayerError, "crop_size has no effect here; move it to transform_param"),
        ("mirror: true", "", LayerError, "mirror has no effect here"),
        ("", "crop_size: 10", DataError, "smaller than crop_size"),
        ("", "force_color: true", DataError, "force_color cannot be honoured; expected 3 channels, found 1"),
        ("", 'mean_file: "x" mean_value: 1', LayerError, "both mean_file and mean_value"),
        ("", 'mean_file: "nowhere.binaryproto"', LayerError, "mean_file: nowhere.binaryproto: cannot be read"),
    ],
)
def test_wrong_parameters_are_refused(database, param, transform, kind, message):
    refused(kind, message, lambda: data(database, 5, param, transform))


def test_batch_size_must_be_positive(database):
    refused(LayerError, "batch_size must be positive; found 0", lambda: data(database, 0))


def test_backend_is_leveldb_unless_said(database):
    layer = f'type: "Data" data_param {{ source: "{database}" batch_size: 2 }}'
    refused(DataError, "expected LEVELDB, found LMDB; say `backend: LMDB`", lambda: net_of(layer))


def test_missing_source_and_database(tmp_path):
    refused(LayerError, "data_param has no source", lambda: data("", 5))
    refused(DataError, "there is no database .*nowhere.*convert", lambda: data(tmp_path / "nowhere", 5))
    (tmp_path / "empty").mkdir()
    refused(DataError, "is no LMDB database", lambda: data(tmp_path / "empty", 5))


def test_leveldb_without_plyvel_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "plyvel", None)
    (tmp_path / "db").mkdir()
    (tmp_path / "db" / "CURRENT").write_text("MANIFEST-000001\n")
    layer = f'type: "Data" data_param {{ source: "{tmp_path}/db" batch_size: 2 }}'
    refused(UnsupportedError, "needs the package plyvel; pip install plyvel", lambda: net_of(layer))
    refused(DataError, "expected LMDB, found LEVELDB; say `backend: LEVELDB`", lambda: data(tmp_path / "db", 2))


def test_database_damaged_far_behind_is_reported_when_it_is_met(tmp_path):
    write_lmdb(tmp_path / "db", [(b"%08d" % i, pack(IMAGES[0], i)) for i in range(2000)])
    file = tmp_path / "db" / "data.mdb"
    content = bytearray(file.read_bytes())
    reader = LmdbReader(file)
    leaves = list(reader._leaves(reader._meta.root, reader._meta.depth, None))
    middle = leaves[len(leaves) // 2] * 4096
    content[middle : middle + 4096] = bytes(4096)
    file.write_bytes(content)
    net = data(tmp_path / "db", 10)
    refused(DataError, r"db is damaged: page \d+", lambda: batches(net, 250))
