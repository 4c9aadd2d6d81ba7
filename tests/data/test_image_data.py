"""ImageData: pictures of a list, in order or shuffled, resized and transformed; resumed exactly."""

import json

import numpy as np
import pytest
from PIL import Image

from breve.data.imagelist import read_list
from breve.data.picture import resize
from breve.errors import DataError, LayerError
from data.data_layers import batches, equal, net_of

PIXELS = np.random.default_rng(0).integers(0, 256, (11, 6, 8, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    names = [f"a picture {i}.png" for i in range(11)]
    for name, pixels in zip(names, PIXELS, strict=True):
        Image.fromarray(pixels).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("".join(f"{name} {i}\n" for i, name in enumerate(names)))
    return tmp_path


def images(folder, batch_size=4, param="", transform="", **options):
    return net_of(
        f'type: "ImageData" image_data_param {{ source: "{folder}/list.txt" root_folder: "{folder}/"'
        f" batch_size: {batch_size} {param} }} transform_param {{ {transform} }}",
        **options,
    )


def labels(net, count):
    return np.concatenate([batch["label"] for batch in batches(net, count)]).astype(int)


def test_pictures_come_in_order_round_and_round(folder):
    taken = batches(images(folder), 6)
    order = np.arange(24) % 11
    np.testing.assert_array_equal(np.concatenate([batch["label"] for batch in taken]), order)
    want = PIXELS.transpose(0, 3, 1, 2)[:, ::-1]
    np.testing.assert_array_equal(np.concatenate([batch["data"] for batch in taken]), want[order])


def test_shuffled_epochs_hold_every_picture_once_in_different_orders(folder):
    seen = labels(images(folder, 11, "shuffle: true", seed=1), 20).reshape(20, 11)
    np.testing.assert_array_equal(np.sort(seen), np.tile(np.arange(11), (20, 1)))
    assert len({tuple(epoch) for epoch in seen}) == 20


def test_order_depends_on_the_seed_alone_and_not_on_the_batch_size(folder):
    order = labels(images(folder, 4, "shuffle: true", seed=1), 11)
    np.testing.assert_array_equal(labels(images(folder, 11, "shuffle: true", seed=1), 4), order)
    assert (labels(images(folder, 4, "shuffle: true", seed=2), 11) != order).any()


@pytest.mark.parametrize("taken", [0, 2, 3, 11])
def test_resumed_run_is_the_interrupted_one(folder, taken):
    options = {"param": "shuffle: true", "transform": "crop_size: 4 mirror: true"}
    net = images(folder, seed=1, **options)
    batches(net, taken)
    state = json.loads(json.dumps(net.layers[0].state()))
    rest = batches(net, 7)
    resumed = images(folder, seed=5, **options)
    batches(resumed, 2)
    resumed.layers[0].set_state(state)
    assert equal(batches(resumed, 7), rest)


def test_pictures_are_resized_and_grey(folder):
    net = images(folder, 2, "new_height: 5 new_width: 9 is_color: false", phase="TEST")
    (batch,) = batches(net, 1)
    grey = np.rint(PIXELS @ np.array([0.299, 0.587, 0.114])).astype(np.uint8)
    want = np.stack([resize(picture[None], 5, 9) for picture in grey[:2]])
    np.testing.assert_allclose(batch["data"], want, atol=1)


def test_rand_skip_begins_below_it(folder):
    starts = {int(labels(images(folder, 1, "rand_skip: 4", seed=seed), 1)[0]) for seed in range(60)}
    assert starts == {0, 1, 2, 3}


def test_sizes_may_differ_in_batches_of_one(folder):
    Image.fromarray(PIXELS[0, :3]).save(folder / "a picture 1.png")
    shapes = [batch["data"].shape for batch in batches(images(folder, 1), 3)]
    assert shapes == [(1, 3, 6, 8), (1, 3, 3, 8), (1, 3, 6, 8)]
    with pytest.raises(DataError, match=r"layer 'd' \(ImageData\): .*a picture 1.png: an image has another shape"):
        images(folder, 4).forward()


@pytest.mark.parametrize(
    ("param", "transform", "kind", "message"),
    [
        ("new_height: 5", "", LayerError, "new_height and new_width go together; found 5 and 0"),
        ("crop_size: 5", "", LayerError, "crop_size has no effect here"),
        ("", "crop_size: 7", DataError, "smaller than crop_size"),
        ("", "force_gray: true", DataError, "force_gray cannot be honoured"),
    ],
)
def test_wrong_parameters_are_refused(folder, param, transform, kind, message):
    with pytest.raises(kind, match=message) as caught:
        images(folder, 4, param, transform)
    assert "layer 'd' (ImageData)" in str(caught.value)


def test_missing_and_damaged_pictures_are_named(folder):
    (folder / "a picture 5.png").write_bytes((folder / "a picture 5.png").read_bytes()[:60])
    (folder / "a picture 9.png").unlink()
    net = images(folder, 4)
    net.forward()
    with pytest.raises(DataError, match=r"a picture 5.png: a picture cannot be decoded"):
        net.forward()
    net = images(folder, 1)
    net.layers[0].set_state({**net.layers[0].state(), "order": {"seed": 0, "epoch": 0, "position": 9}})
    with pytest.raises(DataError, match=r"a picture 9.png cannot be read; found No such file"):
        net.forward()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        ("\n\n", "is empty"),
        ("a.png 1\nb.png\n", r"list.txt:2: .*'b.png'"),
        ("a.png one\n", r"list.txt:1: .*an integer label"),
        ("a.png 1.5\n", r"list.txt:1"),
        ("17\n", r"list.txt:1"),
    ],
)
def test_wrong_list_is_refused(tmp_path, text, message):
    (tmp_path / "list.txt").write_text(text)
    with pytest.raises(DataError, match=message):
        read_list(tmp_path / "list.txt")


def test_list_with_windows_line_ends_tabs_and_negative_labels(tmp_path):
    (tmp_path / "list.txt").write_bytes(b"a b.png -1\r\n\r\n c.png  +2 \r\n")
    assert read_list(tmp_path / "list.txt") == [("a b.png", -1), ("c.png", 2)]
