"""DataTransformer against a pixel-by-pixel statement of what it does."""

import numpy as np
import pytest

from breve.data.reader import empty
from breve.data.transform import DataTransformer
from breve.errors import BreveError, DataError, LayerError
from breve.proto import MESSAGES
from breve.proto.binary import write_mean

RNG_SEED = 3


def transformer(phase="TRAIN", **fields):
    return DataTransformer(MESSAGES["TransformationParameter"](**fields), phase)


def images(count=8, channels=3, height=9, width=11, dtype=np.uint8, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, channels, height, width)).astype(dtype)


def run(transform, batch, dtype=np.float32, seed=RNG_SEED):
    out = empty((len(batch), *transform.shape(batch[0].shape)), dtype)
    out[...] = np.nan
    transform(batch, out, np.random.default_rng(seed))
    return out


def expected(image, top, left, size, mirrored, mean=0.0, scale=1.0):
    """One image, pixel by pixel, in float64."""
    height, width = size
    mean = np.broadcast_to(mean, image.shape)
    result = np.zeros((len(image), height, width))
    for c in range(len(image)):
        for y in range(height):
            for x in range(width):
                target = width - 1 - x if mirrored else x
                result[c, y, target] = (float(image[c, top + y, left + x]) - float(mean[c, top + y, left + x])) * scale
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_middle_is_cut_out_when_testing(dtype, kind, channels):
    batch = images(channels=channels, dtype=kind)
    out = run(transformer("TEST", crop_size=4, scale=0.1, mean_value=[3]), batch, dtype)
    assert out.dtype == dtype
    for got, image in zip(out, batch, strict=True):
        want = expected(image, 2, 3, (4, 4), False, 3, float(np.float32(0.1)))
        np.testing.assert_allclose(got, want, rtol=1e-6 if dtype == np.float32 else 1e-12)


def test_nothing_is_done_without_parameters():
    np.testing.assert_array_equal(run(transformer(), images()), images())


def test_mean_per_channel():
    out = run(transformer(mean_value=[1, 2, 3]), images())
    np.testing.assert_array_equal(out, images() - np.float32([1, 2, 3]).reshape(1, 3, 1, 1))


def test_mean_file_is_cropped_like_the_image(tmp_path):
    mean = np.random.default_rng(1).uniform(0, 255, (3, 9, 11)).astype(np.float32)
    write_mean(mean, tmp_path / "mean.binaryproto")
    out = run(transformer("TRAIN", crop_size=4, mirror=True, mean_file=str(tmp_path / "mean.binaryproto")), images(50))
    for got, image in zip(out, images(50), strict=True):
        candidates = [
            expected(image, top, left, (4, 4), mirrored, mean)
            for top in range(6)
            for left in range(8)
            for mirrored in (False, True)
        ]
        assert sum(np.allclose(got, c, atol=1e-3) for c in candidates) == 1


def choices(count, phase="TRAIN", seed=RNG_SEED):
    """Which crop and which mirroring each of `count` equal images got: numbers of top, left, mirrored."""
    image = np.arange(7 * 6, dtype=np.float32).reshape(1, 1, 7, 6)
    out = run(transformer(phase, crop_size=4, mirror=True), np.repeat(image, count, 0), seed=seed)
    first, mirrored = out[:, 0, 0, :].min(axis=1).astype(int), out[:, 0, 0, 0] > out[:, 0, 0, 1]
    return first // 6, first % 6, mirrored


def test_random_crops_and_mirrors_are_uniform_and_independent():
    top, left, mirrored = choices(24_000)
    counts = np.zeros((4, 3, 2))
    np.add.at(counts, (top, left, mirrored.astype(int)), 1)
    assert counts.min() > 0
    chi_squared = ((counts - 1000) ** 2 / 1000).sum()
    assert chi_squared < 52.6  # 23 degrees of freedom: exceeded once in 2,500 by a fair draw; the seed is fixed


def test_mirroring_is_random_when_testing_too_and_cropping_is_not():
    top, left, mirrored = choices(1000, "TEST")
    assert (set(top), set(left)) == ({1}, {1})
    assert 400 < mirrored.sum() < 600


def test_same_seed_gives_the_same_and_another_seed_does_not():
    for a, b in zip(choices(100), choices(100), strict=True):
        np.testing.assert_array_equal(a, b)
    assert (choices(100)[0] != choices(100, seed=4)[0]).any()


def test_images_of_several_sizes_are_cropped_to_one():
    mixed = [images(1, 3, 5, 9)[0], images(1, 3, 12, 6)[0], images(1, 3, 5, 9, seed=1)[0]]
    out = run(transformer("TEST", crop_size=4), mixed)
    for got, image, (top, left) in zip(out, mixed, [(0, 2), (4, 1), (0, 2)], strict=True):
        np.testing.assert_array_equal(got, expected(image, top, left, (4, 4), False))


def test_images_that_are_not_contiguous():
    batch = images(4, 3, 18, 22)[:, :, ::2, ::2]
    np.testing.assert_array_equal(run(transformer("TEST", crop_size=4), batch), batch[:, :, 2:6, 3:7])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"crop_size": 10}, "smaller than crop_size; expected at least 10, found 9 x 11"),
        ({"mean_value": [1, 2]}, "mean_value does not fit the channels; expected 1 or 3, found 2"),
        ({"force_gray": True}, "force_gray cannot be honoured; expected 1 channels, found 3"),
    ],
)
def test_image_that_does_not_fit_is_refused(fields, message):
    with pytest.raises(DataError, match=message):
        transformer(**fields).shape((3, 9, 11))


def test_mean_file_of_another_size_is_refused(tmp_path):
    write_mean(np.zeros((3, 4, 4), np.float32), tmp_path / "mean")
    with pytest.raises(DataError, match="the mean file does not fit the images"):
        transformer(mean_file=str(tmp_path / "mean")).shape((3, 9, 11))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"mean_file": "m", "mean_value": [1]}, "both mean_file and mean_value"),
        ({"force_color": True, "force_gray": True}, "both force_color and force_gray"),
    ],
)
def test_contradictions_are_refused(fields, message):
    with pytest.raises(LayerError, match=message):
        transformer(**fields)


def test_missing_mean_file_is_named(tmp_path):
    with pytest.raises(BreveError, match="nowhere"):
        transformer(mean_file=str(tmp_path / "nowhere"))


def test_batch_of_another_shape_than_its_place_is_refused():
    with pytest.raises(DataError, match="differ in size or channels"):
        transformer()(images(2), empty((2, 3, 9, 12), np.float32), np.random.default_rng(0))
