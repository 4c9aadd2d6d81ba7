"""Databases of pictures, and their mean."""

import numpy as np
import pytest
from PIL import Image

from breve.data.datum import pack, parse, pixels
from breve.data.images import compute_mean, write_imageset
from breve.data.lmdb_reader import LmdbReader
from breve.data.lmdb_writer import write_lmdb
from breve.data.picture import decode_picture, read_picture, resize
from breve.errors import DataError

NAMES = ["b.png", "a.jpg", "sub/c.png", "gray.png"]
PIXELS = np.random.default_rng(0).integers(0, 256, (4, 6, 8, 3), np.uint8)


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "sub").mkdir()
    for name, image in zip(NAMES, PIXELS, strict=True):
        Image.fromarray(image if name != "gray.png" else image[..., 0]).save(tmp_path / name)
    (tmp_path / "list.txt").write_text("".join(f"{name} {i * 300}\n" for i, name in enumerate(NAMES)))
    return tmp_path


def convert(folder, **options):
    assert write_imageset(folder / "list.txt", f"{folder}/", folder / "db", **options) == 4
    return {key.decode(): parse(value) for key, value in LmdbReader(folder / "db").items()}


def test_keys_labels_and_pixels_are_those_of_convert_imageset(folder):
    data = convert(folder)
    assert list(data) == ["00000000_b.png", "00000001_a.jpg", "00000002_sub/c.png", "00000003_gray.png"]
    for i, (name, datum) in enumerate(zip(NAMES, data.values(), strict=True)):
        assert (datum.label, datum.encoded) == (i * 300, False)
        np.testing.assert_array_equal(pixels(datum), read_picture(folder / name))


def test_resized_and_grey(folder):
    for name, datum in zip(NAMES, convert(folder, size=(4, 5), gray=True).values(), strict=True):
        np.testing.assert_array_equal(pixels(datum), resize(read_picture(folder / name, 1), 4, 5))


def test_encoded_keeps_the_files_that_need_no_change(folder):
    data = convert(folder, encoded=True)
    for name, datum in zip(NAMES, data.values(), strict=True):
        assert datum.encoded
        assert (datum.data == (folder / name).read_bytes()) == (name != "gray.png")
    assert decode_picture(data["00000003_gray.png"].data, None).shape == (3, 6, 8)


def test_encoded_anew_where_another_kind_or_size_is_asked_for(folder):
    for name, datum in zip(NAMES, convert(folder, encode_type="png", size=(3, 3)).values(), strict=True):
        assert datum.data.startswith(b"\x89PNG")
        np.testing.assert_array_equal(decode_picture(datum.data, None), resize(read_picture(folder / name), 3, 3))


def test_shuffle_is_the_same_every_time(folder):
    first = convert(folder, shuffle=True)
    assert [key[:8] for key in first] == ["00000000", "00000001", "00000002", "00000003"]
    assert sorted(key[9:] for key in first) == sorted(NAMES)
    assert list(convert(folder, shuffle=True, overwrite=True)) == list(first)
    assert {key[9:]: datum.label for key, datum in first.items()} == {n: i * 300 for i, n in enumerate(NAMES)}


def test_progress_is_told(folder):
    seen = []
    convert(folder, progress=lambda *args: seen.append(args))
    assert seen == [(0, 4), (1, 4), (2, 4), (3, 4)]


def test_damaged_picture_stops_everything_unless_skipped(folder):
    (folder / "a.jpg").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"a.jpg: a picture cannot be decoded"):
        convert(folder)
    assert not (folder / "db").exists()
    skipped = []
    count = write_imageset(folder / "list.txt", f"{folder}/", folder / "db", skip=skipped.append)
    assert (count, len(skipped)) == (3, 1)
    assert [key[:8] for key, _ in LmdbReader(folder / "db").items()] == [b"00000000", b"00000002", b"00000003"]


def test_check_size(folder):
    Image.fromarray(PIXELS[0, :4]).save(folder / "sub/c.png")
    convert(folder)
    with pytest.raises(DataError, match=r"c.png is of another size; expected 144 values, found 96"):
        convert(folder, check_size=True, overwrite=True)


def test_existing_database_and_missing_list(folder):
    convert(folder)
    with pytest.raises(DataError, match="exists already"):
        convert(folder)
    with pytest.raises(DataError, match=r"nowhere.txt cannot be read"):
        write_imageset(folder / "nowhere.txt", "", folder / "new")


@pytest.mark.parametrize("encoded", [False, True])
def test_mean_is_that_of_all_pixels(folder, encoded):
    convert(folder, encoded=encoded, encode_type="png" if encoded else "")
    want = np.mean([read_picture(folder / name) for name in NAMES], axis=0)
    mean = compute_mean(folder / "db")
    assert mean.dtype == np.float32
    np.testing.assert_allclose(mean, want, rtol=1e-6)


def test_mean_of_floats(tmp_path):
    images = np.random.default_rng(0).standard_normal((5, 2, 3, 4)).astype(np.float32)
    write_lmdb(tmp_path / "db", [(b"%d" % i, pack(image, i)) for i, image in enumerate(images)])
    np.testing.assert_allclose(compute_mean(tmp_path / "db"), images.mean(0), atol=1e-7)


def test_mean_of_images_of_several_sizes_is_refused(tmp_path):
    images = [np.zeros((1, 3, 3), np.uint8), np.zeros((1, 3, 4), np.uint8)]
    write_lmdb(tmp_path / "db", [(b"%d" % i, pack(image)) for i, image in enumerate(images)])
    with pytest.raises(DataError, match=r"record '1': an image has another shape than the first; expected \(1, 3, 3\)"):
        compute_mean(tmp_path / "db")
