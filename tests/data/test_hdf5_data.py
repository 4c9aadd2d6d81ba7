"""HDF5Data and HDF5Output: files of any size, several tops, shuffled, resumed; rows appended."""

import gc
import json
import resource

import h5py
import numpy as np
import pytest
from google.protobuf import text_format

from breve.data import hdf5
from breve.errors import DataError, LayerError
from breve.net import Net
from breve.proto import NetParameter
from data.data_layers import batches, equal, net_of

COUNTS = (7, 1, 12)


@pytest.fixture
def files(tmp_path):
    start = 0
    for k, count in enumerate(COUNTS):
        rows = np.arange(start, start + count)
        with h5py.File(tmp_path / f"{k}.h5", "w") as file:
            file["label"] = rows.astype(np.int16)
            file["data"] = rows[:, None, None, None] + np.arange(24).reshape(2, 3, 4) / 100
            file["one"] = rows[:, None].astype(np.float32)
        start += count
    (tmp_path / "list.txt").write_text("".join(f"{tmp_path}/{k}.h5\n" for k in range(len(COUNTS))))
    return tmp_path


def rows(folder, batch_size=4, shuffle=False, tops=("data", "label", "one"), extra="", **options):
    return net_of(
        f'type: "HDF5Data" hdf5_data_param {{ source: "{folder}/list.txt" batch_size: {batch_size}'
        f" shuffle: {str(shuffle).lower()} }} {extra}",
        tops=tops,
        **options,
    )


def labels(net, count):
    taken = batches(net, count)
    for batch in taken:
        label = batch["label"]
        np.testing.assert_array_equal(batch["one"][:, 0], label)
        want = label[:, None, None, None] + np.arange(24).reshape(2, 3, 4) / 100
        np.testing.assert_allclose(batch["data"], want, rtol=1e-6)
    return np.concatenate([batch["label"] for batch in taken]).astype(int)


@pytest.fixture(params=[64 << 20, 200], ids=["whole files", "slabs"])
def _slab_size(request, monkeypatch):
    monkeypatch.setattr(hdf5, "SLAB_BYTES", request.param)


@pytest.mark.usefixtures("_slab_size")
@pytest.mark.parametrize("batch_size", [1, 4, 20, 50])
def test_rows_come_in_order_round_and_round(files, batch_size):
    count = 100 // batch_size + 1
    np.testing.assert_array_equal(labels(rows(files, batch_size), count), np.arange(count * batch_size) % 20)


@pytest.mark.usefixtures("_slab_size")
def test_shuffled_epochs_hold_every_row_once_file_by_file(files):
    seen = labels(rows(files, 20, True, seed=1), 30).reshape(30, 20)
    np.testing.assert_array_equal(np.sort(seen), np.tile(np.arange(20), (30, 1)))
    assert len({tuple(epoch) for epoch in seen}) == 30
    of_file = np.repeat([0, 1, 2], COUNTS)[seen]
    assert ((np.diff(of_file) != 0).sum(axis=1) == 2).all()
    assert len({tuple(dict.fromkeys(epoch)) for epoch in of_file.tolist()}) == 6


def test_one_file_is_shuffled_anew_in_every_epoch(files):
    (files / "list.txt").write_text(f"{files}/2.h5")
    seen = labels(rows(files, 12, True, seed=1), 10).reshape(10, 12)
    assert len({tuple(epoch) for epoch in seen}) == 10
    np.testing.assert_array_equal(np.sort(seen), np.tile(np.arange(8, 20), (10, 1)))


@pytest.mark.usefixtures("_slab_size")
@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("taken", [0, 1, 2, 5, 11])
def test_resumed_run_is_the_interrupted_one(files, shuffle, taken):
    net = rows(files, 4, shuffle, seed=1)
    batches(net, taken)
    state = json.loads(json.dumps(net.layers[0].state()))
    rest = batches(net, 12)
    resumed = rows(files, 4, shuffle, seed=7)
    batches(resumed, 3)
    resumed.layers[0].set_state(state)
    assert equal(batches(resumed, 12), rest)


def test_file_larger_than_the_memory_allowed_is_read_in_little(tmp_path):
    with h5py.File(tmp_path / "big.h5", "w") as file:
        data = file.create_dataset("data", (3000, 100_000), np.float32, chunks=(10, 100_000), fillvalue=1)
        for i in range(6):
            data[i * 500] = i
    (tmp_path / "list.txt").write_text(f"{tmp_path}/big.h5")
    net = rows(tmp_path, 100, tops=["data"])
    batches(net, 1)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for i in range(29):
        net.forward()
        if (i + 1) % 5 == 0:
            assert net.blobs["data"].data[0, 0] == (i + 1) // 5
    grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kb < 700_000  # of 1.2 GB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda folder: (folder / "list.txt").unlink(), "list.txt cannot be read"),
        (lambda folder: (folder / "list.txt").write_text(" \n"), "list.txt is empty"),
        (lambda folder: (folder / "0.h5").unlink(), "0.h5 cannot be read as HDF5"),
        (lambda folder: (folder / "0.h5").write_bytes(b"hello"), "0.h5 cannot be read as HDF5"),
        (
            lambda folder: (folder / "0.h5").write_bytes((folder / "0.h5").read_bytes()[:3000]),
            "0.h5 cannot be read as HDF5",
        ),
        (lambda folder: replace(folder, "one", None), "0.h5 has no dataset 'one'; found data, label"),
        (
            lambda folder: replace(folder, "one", np.zeros((6, 1))),
            "different numbers of rows, or none; found .*'one': 6",
        ),
        (lambda folder: replace(folder, "one", np.array([b"a"] * 7)), "dataset 'one' is of the wrong kind"),
        (lambda folder: replace(folder, "one", np.float32(3)), "dataset 'one' is of the wrong kind"),
    ],
)
def test_wrong_files_are_refused(files, change, message):
    change(files)
    with pytest.raises(DataError, match=message) as caught:
        rows(files)
    assert "layer 'd' (HDF5Data)" in str(caught.value)


def replace(folder, name, value, number=0):
    with h5py.File(folder / f"{number}.h5", "a") as file:
        del file[name]
        if value is not None:
            file[name] = value


def test_later_file_with_other_rows_is_refused_when_it_comes(files):
    replace(files, "one", np.zeros((12, 2)), number=2)
    net = rows(files, 4)
    net.forward()
    with pytest.raises(DataError, match=r"2.h5: rows have another shape than the first file's.*'one': \(2,\)"):
        batches(net, 3)


def test_transform_is_refused(files):
    with pytest.raises(LayerError, match="HDF5Data does not transform its data; remove transform_param"):
        rows(files, extra="transform_param { scale: 0.5 }")


def output(path, batch=3):
    shapes = f"shape {{ dim: [{batch}, 2, 3, 4] }} shape {{ dim: {batch} }}"
    text = f"""
        layer {{ name: "in" type: "Input" top: "x" top: "y" input_param {{ {shapes} }} }}
        layer {{ name: "out" type: "HDF5Output" bottom: "x" bottom: "y" hdf5_output_param {{ file_name: "{path}" }} }}
    """
    return Net(text_format.Parse(text, NetParameter()), "TEST")


@pytest.mark.parametrize("end", ["close", "delete"])
def test_output_appends_rows_and_names_the_file_at_the_end(tmp_path, end):
    net = output(tmp_path / "out.h5")
    values = np.random.default_rng(0).standard_normal((4, 3, 2, 3, 4)).astype(np.float32)
    for i, value in enumerate(values):
        net.blobs["x"].data[...] = value
        net.blobs["y"].data[...] = i
        net.forward()
    assert not (tmp_path / "out.h5").exists()
    if end == "close":
        net.close()
    del net
    gc.collect()
    assert [path.name for path in tmp_path.iterdir()] == ["out.h5"]
    with h5py.File(tmp_path / "out.h5") as file:
        np.testing.assert_array_equal(file["data"], values.reshape(12, 2, 3, 4))
        np.testing.assert_array_equal(file["label"], np.repeat(np.arange(4), 3))


def test_output_of_a_net_that_never_ran_makes_no_file(tmp_path):
    output(tmp_path / "out.h5").close()
    assert list(tmp_path.iterdir()) == []


def test_output_refuses_what_does_not_fit(tmp_path):
    with pytest.raises(LayerError, match="has no file_name"):
        output("")
    with pytest.raises(DataError, match="cannot be written"):
        output(tmp_path / "nowhere" / "out.h5").forward()
    net = output(tmp_path / "out.h5")
    net.forward()
    net.blobs["x"].reshape(3, 2, 3, 5)
    with pytest.raises(DataError, match="rows of 'data' have changed their shape"):
        net.forward()
    net.blobs["x"].reshape(2, 2, 3, 4)
    with pytest.raises(LayerError, match="data and label have different numbers of rows"):
        net.forward()
