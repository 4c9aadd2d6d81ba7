"""Layers of forks that pool regions, enlarge or normalise, against their formulas, written again with plain loops."""

import math
import re

import numpy as np
import pytest

from layer_run import LayerRun
from layers.table import CASES

CASE = {case.name: case for case in CASES}


def outputs_and_values(name):
    run = CASE[name].run()
    return run.forward()[0], run.values, run.layer


def bound(edge, size):
    return min(max(edge, 0), size)


def half_away(value):
    return math.floor(value + 0.5) if value >= 0 else math.ceil(value - 0.5)


def roi_maximum(x, regions, bins, scale):
    """As the Fast R-CNN fork's roi_pooling_layer.cpp has it."""
    height, width = x.shape[2:]
    y = np.zeros((len(regions), x.shape[1], *bins))
    for r, (image, *corners) in enumerate(regions):
        x1, y1, x2, y2 = (half_away(np.float32(c) * np.float32(scale)) for c in corners)
        bin_h, bin_w = max(y2 - y1 + 1, 1) / bins[0], max(x2 - x1 + 1, 1) / bins[1]
        for i, j in np.ndindex(*bins):
            top, bottom = (bound(y1 + e, height) for e in (math.floor(i * bin_h), math.ceil((i + 1) * bin_h)))
            left, right = (bound(x1 + e, width) for e in (math.floor(j * bin_w), math.ceil((j + 1) * bin_w)))
            if top < bottom and left < right:
                y[r, :, i, j] = x[int(image), :, top:bottom, left:right].max(axis=(1, 2))
    return y


def test_roi_pooling():
    y, (x, regions), _ = outputs_and_values("roi_pooling")
    np.testing.assert_allclose(y, roi_maximum(x, regions, (3, 2), 0.75))
    assert (y[-1] == 0).all()  # a region outside the image


def test_roi_pooling_of_random_regions():
    rng = np.random.default_rng(3)
    x = rng.standard_normal((2, 3, 9, 8))
    corners = rng.uniform(-20, 150, (40, 4))
    regions = np.concatenate([rng.integers(2, size=(40, 1)), corners], axis=1).astype(np.float32)
    run = LayerRun(
        'type: "ROIPooling" roi_pooling_param { pooled_h: 5 pooled_w: 4 spatial_scale: 0.0625 }', [x, regions]
    )
    np.testing.assert_allclose(run.forward()[0], roi_maximum(x, regions, (5, 4), 0.0625))


def test_psroi_pooling():
    """As the R-FCN fork's psroi_pooling_layer.cu has it."""
    y, (x, regions), _ = outputs_and_values("psroi_pooling")
    want = np.zeros_like(y)
    for r, (image, *corners) in enumerate(regions):
        x1, y1, x2, y2 = (half_away(c) for c in corners)
        for d, i, j in np.ndindex(*y.shape[1:]):
            rows, columns = (
                (
                    bound(math.floor(b * max((last + 1 - first) * 0.75, 0.1) / 2 + first * 0.75), size),
                    bound(math.ceil((b + 1) * max((last + 1 - first) * 0.75, 0.1) / 2 + first * 0.75), size),
                )
                for b, first, last, size in ((i, y1, y2, x.shape[2]), (j, x1, x2, x.shape[3]))
            )
            part = x[int(image), (d * 2 + i) * 2 + j, rows[0] : rows[1], columns[0] : columns[1]]
            want[r, d, i, j] = part.mean() if part.size else 0
    np.testing.assert_allclose(y, want)
    assert (want[-1] == 0).all()


@pytest.mark.parametrize("name", ["unpooling_mask", "upsample_mask", "upsample_mask_size"])
def test_a_mask_puts_values_back(name):
    case = CASE[name]
    values = case.values()
    if name == "upsample_mask_size":
        values[1] = np.minimum(values[1], 29)
    run = case.run(values)
    (y,) = run.forward()
    want = np.zeros_like(y)
    for n, c, i, j in np.ndindex(*values[0].shape):
        h, w = divmod(int(values[1][n, c, i, j]), y.shape[3])
        want[n, c, h, w] = values[0][n, c, i, j]
    np.testing.assert_array_equal(y, want)


def test_pooling_and_upsample_by_its_mask_keep_the_maxima():
    x = np.random.default_rng(0).standard_normal((2, 3, 6, 8))
    pool = LayerRun('type: "Pooling" pooling_param { kernel_size: 2 stride: 2 }', [x], tops=2)
    largest, mask = pool.forward()
    (y,) = LayerRun('type: "Upsample"', [largest, mask]).forward()
    np.testing.assert_array_equal(y[y != 0], x[y != 0])
    np.testing.assert_array_equal(y.reshape(2, 3, 3, 2, 4, 2).sum(axis=(3, 5)), largest)


def test_unpooling_without_a_mask_fills_the_first_pixel():
    y, (x,), _ = outputs_and_values("unpooling")
    assert y.shape[2:] == (7, 5)
    want = np.zeros_like(y)
    want[:, :, 0:6:2, 0:4:2] = x
    np.testing.assert_array_equal(y, want)


@pytest.mark.parametrize(("name", "kernel", "stride"), [("unpooling_ave", (3, 3), 2), ("unpooling_tile", (2, 3), 1)])
def test_unpooling_spreads(name, kernel, stride):
    y, (x,), _ = outputs_and_values(name)
    want = np.zeros_like(y)
    for i, j in np.ndindex(*x.shape[2:]):
        part = want[:, :, i * stride : i * stride + kernel[0], j * stride : j * stride + kernel[1]]
        part += x[:, :, i, j, None, None] / (part[0, 0].size if name == "unpooling_ave" else 1)
    np.testing.assert_allclose(y, want)


def test_upsample_without_a_mask_repeats():
    y, (x,), _ = outputs_and_values("upsample_repeat")
    np.testing.assert_array_equal(y, x.repeat(2, axis=2).repeat(3, axis=3))


def bilinear(x, places_h, places_w, clamp):
    def pixel(h, w):
        inside = h < x.shape[2] and w < x.shape[3]
        return x[:, :, min(h, x.shape[2] - 1), min(w, x.shape[3] - 1)] if clamp or inside else 0

    y = np.zeros((*x.shape[:2], len(places_h), len(places_w)))
    for i, j in np.ndindex(*y.shape[2:]):
        h, w = int(places_h[i]), int(places_w[j])
        a, b = places_h[i] - h, places_w[j] - w
        near = (1 - a) * (1 - b) * pixel(h, w) + (1 - a) * b * pixel(h, w + 1)
        y[:, :, i, j] = near + a * (1 - b) * pixel(h + 1, w) + a * b * pixel(h + 1, w + 1)
    return y


@pytest.mark.parametrize(
    ("name", "crop", "out"),
    [
        ("interp_zoom", 0, (7, 10)),
        ("interp_shrink_zoom", 0, (10, 13)),
        ("interp_size", 1, (3, 7)),
        ("interp_one", 0, (1, 1)),
        ("interp_like", 0, (5, 6)),
    ],
)
def test_interp_goes_corner_to_corner(name, crop, out):
    """As caffe_cpu_interp2 of the DeepLab fork has it."""
    y, (x, *_), _ = outputs_and_values(name)
    assert y.shape[2:] == out
    x = x[:, :, crop : x.shape[2] - crop, crop : x.shape[3] - crop]
    places = [[k * (n - 1) / max(1, m - 1) for k in range(m)] for n, m in zip(x.shape[2:], out, strict=True)]
    np.testing.assert_allclose(y, bilinear(x, *places, clamp=True), atol=1e-12)


@pytest.mark.parametrize(("name", "out"), [("resize", (7, 3)), ("resize_scale", (6, 2))])
def test_resize_begins_at_the_first_pixel(name, out):
    """As BiLinearResizeMat_cpu of caffe-windows has it: beyond the last pixel there is nothing."""
    y, (x,), _ = outputs_and_values(name)
    places = [[k * n / m for k in range(m)] for n, m in zip(x.shape[2:], out, strict=True)]
    np.testing.assert_allclose(y, bilinear(x, *places, clamp=False), atol=1e-12)


def test_normalize():
    y, (x,), _ = outputs_and_values("normalize")
    norms = np.sqrt((x.reshape(2, -1) ** 2).sum(axis=1) + 1e-10)
    np.testing.assert_allclose(y, x / norms[:, None, None, None])
    y, (x,), layer = outputs_and_values("normalize_channels")
    want = x / np.sqrt((x**2).sum(axis=1, keepdims=True) + 1e-10)
    np.testing.assert_allclose(y, want * layer.blobs[0].data.reshape(3, 1, 1))


def test_axpy():
    y, (a, x, b), _ = outputs_and_values("axpy")
    np.testing.assert_allclose(y, a[:, :, None, None] * x + b)


@pytest.mark.parametrize(("name", "pad"), [("convolution_depthwise", 1), ("depthwise_convolution", 0)])
def test_depthwise_convolution_is_a_convolution_or_more_of_each_channel(name, pad):
    y, (x,), layer = outputs_and_values(name)
    weight, bias = (blob.data for blob in layer.blobs)
    padded = np.pad(x, [(0, 0), (0, 0), (pad, pad), (pad, pad)])
    want = np.zeros_like(y)
    for k, r, s in np.ndindex(len(weight), 3, 3):
        channel = k * 6 // len(weight)
        want[:, k] += weight[k, 0, r, s] * padded[:, channel, r : r + y.shape[2], s : s + y.shape[3]]
    np.testing.assert_allclose(y, want + bias.reshape(-1, 1, 1))


def test_batch_norm_of_nvidia_moves_averages():
    """As the NVIDIA fork's batch_norm_layer.cpp has it: two batches replace the averages, then they move."""
    rng = np.random.default_rng(5)
    batches = [rng.standard_normal((4, 3, 2, 2)) + k for k in range(4)]
    text = 'type: "BatchNorm" batch_norm_param { scale_bias: true moving_average_fraction: 0.75 eps: 0.01 }'
    run = LayerRun(text, batches[:1])
    layer = run.layer
    layer.blobs[3].data[...], layer.blobs[4].data[...] = [1, 2, 3], [0.5, 0, -1]
    mean = variance = None
    for k, x in enumerate(batches):
        run.values = [x]
        (y,) = run.forward()
        new_mean, new_variance = x.mean(axis=(0, 2, 3)), x.var(axis=(0, 2, 3)) + 0.01
        normal = (x - new_mean.reshape(3, 1, 1)) / np.sqrt(new_variance.reshape(3, 1, 1))
        want = normal * np.reshape([1, 2, 3], (3, 1, 1)) + np.reshape([0.5, 0, -1], (3, 1, 1))
        np.testing.assert_allclose(y, want, atol=1e-12)
        mean = new_mean if k < 2 else 0.75 * mean + 0.25 * new_mean
        variance = new_variance if k < 2 else 0.75 * variance + 0.25 * new_variance
        np.testing.assert_allclose(layer.blobs[0].data, mean)
        np.testing.assert_allclose(layer.blobs[1].data, variance)
        assert layer.blobs[2].data == 1
    assert [p.lr_mult for p in layer.param.param] == [0, 0, 0]


def test_batch_norm_of_nvidia_reads_averages_in_test():
    x = np.random.default_rng(6).standard_normal((2, 3, 2, 2))
    run = LayerRun('type: "BatchNorm" batch_norm_param { scale_bias: true }', [x], phase="TEST")
    for blob, values in zip(run.layer.blobs, ([1, 2, 3], [4, 5, 6], 1, [2, 2, 2], [0, 0, 1]), strict=True):
        blob.data[...] = values
    mean, variance, shift = (np.reshape(v, (3, 1, 1)) for v in ([1, 2, 3], [4, 5, 6], [0, 0, 1]))
    np.testing.assert_allclose(run.forward()[0], 2 * (x - mean) / np.sqrt(variance + 1e-5) + shift, rtol=1e-6)


@pytest.mark.parametrize(("name", "dilation"), [("conv_hole", "dilation: 2"), ("conv_holes", "dilation: [2, 3]")])
def test_holes_are_dilation(name, dilation):
    case = CASE[name]
    text = re.sub("hole.*? weight", f"{dilation} weight", case.prototxt)
    assert dilation in text
    np.testing.assert_array_equal(case.run().forward()[0], LayerRun(text, case.values()).forward()[0])


def test_average_pooling_that_does_not_count_the_pad():
    """As pooling_avg_exclude_padding of Intel's fork has it."""
    y, (x,), _ = outputs_and_values("pool_ave_inside")
    for i, j in np.ndindex(*y.shape[2:]):
        top, left = 2 * i - 1, 2 * j - 3
        inside = x[:, :, max(top, 0) : top + 3, max(left, 0) : left + 4]
        np.testing.assert_allclose(y[:, :, i, j], inside.mean(axis=(2, 3)))


@pytest.mark.parametrize("name", ["pool_max_torch", "pool_ave_down"])
def test_forks_round_pooling_down(name):
    assert outputs_and_values(name)[0].shape == (1, 2, 2, 2)
