"""What convolutions, pooling, products, normalisation and enlarging refuse, and in which words."""

import re

import numpy as np
import pytest

from breve.errors import DataError, LayerError, UnsupportedError
from layer_run import LayerRun

IMAGE = (2, 4, 6, 5)


def conv(fields, shape=IMAGE, **more):
    return f'type: "Convolution" convolution_param {{ {fields} }}', [shape], more


def pool(fields, shape=IMAGE, **more):
    return f'type: "Pooling" pooling_param {{ {fields} }}', [shape], more


def layer(text, *shapes, **more):
    return f'type: "{text.partition(" ")[0]}" {text.partition(" ")[2]}', list(shapes), more


@pytest.mark.parametrize(
    ("case", "message"),
    [
        (conv("kernel_size: 3"), "num_output is missing or zero"),
        (conv("num_output: 2"), "kernel_size does not fit; expected 1 or 2 values, found 0"),
        (conv("num_output: 2 kernel_size: [1, 2, 3]"), "kernel_size does not fit; expected 1 or 2 values, found 3"),
        (conv("num_output: 2 kernel_size: 3 kernel_h: 3 kernel_w: 3"), "kernel_size and kernel_h, kernel_w are given"),
        (conv("num_output: 2 kernel_h: 3"), "kernel is zero"),
        (conv("num_output: 2 kernel_size: 3 stride: 0"), "stride is zero"),
        (conv("num_output: 2 kernel_size: 3 dilation: 0"), "dilation is zero"),
        (conv("num_output: 2 kernel_h: 3 kernel_w: 3", (2, 4, 6)), "kernel_h and kernel_w are for two spatial axes"),
        (conv("num_output: 2 kernel_size: 3 hole: 2 dilation: 2"), "dilation and hole are given together"),
        (conv("num_output: 2 kernel_size: 3 hole_h: 2", (2, 4, 6)), "hole_h and hole_w are for two spatial axes"),
        (conv("num_output: 2 kernel_size: 7"), "nothing is left of the input"),
        (conv("num_output: 2 kernel_size: 3 dilation: 3"), "nothing is left of the input"),
        (
            conv("num_output: 3 kernel_size: 3 group: 2"),
            "num_output do not divide into groups; expected a multiple of 2",
        ),
        (conv("num_output: 6 kernel_size: 3 group: 3"), "channels do not divide into groups; expected a multiple of 3"),
        (conv("num_output: 6 kernel_size: 3 axis: 4"), "axis out of range"),
        (
            layer("Convolution convolution_param { num_output: 2 kernel_size: 1 }", IMAGE, (2, 4, 6, 4), tops=2),
            "differ in",
        ),
        (layer("Deconvolution convolution_param { num_output: 2 kernel_size: 1 pad: 5 }", IMAGE), "nothing is left"),
        (layer("Im2col convolution_param { kernel_size: 9 }", IMAGE), "larger than the padded input"),
        (pool(""), "kernel_size is missing"),
        (pool("kernel_size: 2 kernel_h: 2 kernel_w: 2"), "kernel_size and kernel_h, kernel_w do not fit"),
        (pool("kernel_h: 2"), "expected kernel_size, or both kernel_h and kernel_w"),
        (pool("kernel_size: 2 stride_h: 2"), "expected stride, or both stride_h and stride_w"),
        (pool("kernel_size: 0"), "kernel or stride is zero"),
        (pool("kernel_size: 2 stride: 0"), "kernel or stride is zero"),
        (pool("kernel_size: 2 pad: 2"), "pad is not smaller than the kernel"),
        (pool("global_pooling: true kernel_size: 2"), "global_pooling takes the kernel's size from the bottom"),
        (pool("global_pooling: true pad: 1"), "global_pooling needs pad 0 and stride 1"),
        (pool("pool: STOCHASTIC kernel_size: 2 pad: 1"), "stochastic pooling takes no pad"),
        (pool("pool: AVE kernel_size: 2", tops=2), "the mask, is for MAX pooling only"),
        (pool("kernel_size: 9 stride: 2"), "the pooling window is larger than the image"),
        (pool("kernel_size: 2", (2, 3, 4)), "four axes"),
        (layer("SPP", IMAGE), "pyramid_height is missing"),
        (layer("SPP spp_param { pyramid_height: 5 }", IMAGE), "too small for its pyramid"),
        (layer("InnerProduct", (2, 3)), "num_output is missing"),
        (layer("InnerProduct inner_product_param { num_output: 2 axis: 2 }", (2, 3)), "axis out of range"),
        (layer("Embed embed_param { num_output: 2 }", (2,)), "input_dim is missing or zero"),
        (layer("LRN lrn_param { local_size: 4 }", IMAGE), "local_size is not odd"),
        (layer("LRN", (2, 3)), "LRN needs four axes"),
        (layer("BatchNorm", (3,)), "needs an axis of channels"),
        (layer("BatchNorm param { lr_mult: 1 }", IMAGE), "the statistics of BatchNorm do not learn"),
        (layer("Scale scale_param { axis: 2 num_axes: 3 }", IMAGE), "num_axes reaches past the bottom's axes"),
        (layer("Scale scale_param { num_axes: -2 }", IMAGE), "num_axes is below -1"),
        (layer("Scale", IMAGE, (3,)), "the coefficients do not fit the bottom; expected (3,) from axis 1 on"),
        (layer("Bias", IMAGE, (4, 5)), "the coefficients do not fit the bottom"),
        (layer("PReLU", (3,)), "PReLU needs an axis of channels"),
        (layer("MVN", ()), "MVN needs a batch"),
        (layer("Normalize", (3,)), "Normalize needs an axis of channels"),
        (layer("Axpy", (2, 3), IMAGE, IMAGE), "the factors do not fit"),
        (layer("Axpy", (2, 4), IMAGE, (2, 4, 6, 4)), "the images differ in shape"),
        (layer("ROIPooling", IMAGE, (3, 5)), "pooled_h or pooled_w is missing"),
        (layer("ROIPooling roi_pooling_param { pooled_h: 1 pooled_w: 1 }", IMAGE, (3, 4)), "a region is five numbers"),
        (layer("PSROIPooling", IMAGE, (3, 5)), "spatial_scale, output_dim or group_size is missing"),
        (
            layer("PSROIPooling psroi_pooling_param { spatial_scale: 1 output_dim: 2 group_size: 2 }", IMAGE, (3, 5)),
            "channels are not output_dim * group_size^2; expected 8, found 4",
        ),
        (layer("Unpooling", IMAGE), "kernel_size is missing"),
        (layer("Unpooling unpooling_param { kernel_size: 2 pad: 1 }", IMAGE), "Unpooling takes no pad"),
        (
            layer("Unpooling unpooling_param { kernel_size: 2 unpool: AVE }", IMAGE, IMAGE),
            "a mask is for MAX unpooling",
        ),
        (layer("Upsample upsample_param { scale: 1 }", IMAGE, IMAGE), "the scale or the size is too small"),
        (layer("Upsample upsample_param { pad_out_h: true }", IMAGE), "without a mask only scale is known"),
        (layer("Upsample upsample_param { upsample_h: 5 }", IMAGE, IMAGE), "upsample_h and upsample_w go together"),
        (layer("Upsample", IMAGE, (2, 4, 5, 5)), "the mask differs in shape"),
        (layer("Interp", IMAGE), "Interp needs its size once"),
        (layer("Interp interp_param { height: 3 width: 3 zoom_factor: 2 }", IMAGE), "Interp needs its size once"),
        (layer("Interp interp_param { zoom_factor: 2 pad_beg: 1 }", IMAGE), "Interp only crops"),
        (layer("Interp interp_param { zoom_factor: 2 pad_end: -6 }", IMAGE), "nothing to interpolate"),
        (layer("Resize resize_param { height: 3 }", IMAGE), "width is missing or zero"),
    ],
)
def test_layer_refuses(case, message):
    prototxt, shapes, more = case
    with pytest.raises(LayerError, match=re.escape(message)):
        LayerRun(prototxt, [np.zeros(shape) for shape in shapes], **more)


@pytest.mark.parametrize(
    "text", ["Interp interp_param { zoom_factor: 2 interp_type: 'cubic' }", "Resize resize_param { resize_ratio: 2 }"]
)
def test_layer_does_not_support(text):
    prototxt, shapes, _ = layer(text, IMAGE)
    with pytest.raises(UnsupportedError):
        LayerRun(prototxt, [np.zeros(shape) for shape in shapes])


@pytest.mark.parametrize(
    ("prototxt", "values", "message"),
    [
        ('type: "Embed" embed_param { num_output: 2 input_dim: 3 }', [[0, 2, 3]], "expected 0 to 2, found 3 at (2,)"),
        ('type: "Embed" embed_param { num_output: 2 input_dim: 3 }', [[-1, 2]], "found -1 at (0,)"),
        ('type: "Embed" embed_param { num_output: 2 input_dim: 3 }', [[np.nan]], "found nan"),
        ('type: "Upsample"', [np.zeros((1, 1, 1, 1)), np.full((1, 1, 1, 1), 4)], "expected 0 to 3, found 4"),
        ('type: "Upsample"', [np.zeros((1, 1, 1, 1)), np.full((1, 1, 1, 1), np.nan)], "found nan"),
        (
            'type: "ROIPooling" roi_pooling_param { pooled_h: 1 pooled_w: 1 }',
            [np.zeros((1, 1, 2, 2)), [[0, 0, 0, 1, 1], [1, 0, 0, 1, 1]]],
            "found [1.0, 0.0, 0.0, 1.0, 1.0] as region 1",
        ),
        (
            'type: "PSROIPooling" psroi_pooling_param { spatial_scale: 1 output_dim: 1 group_size: 1 }',
            [np.zeros((1, 1, 2, 2)), [[0, 0, np.inf, 1, 1]]],
            "finite corners",
        ),
    ],
)
def test_values_out_of_range_are_named(prototxt, values, message):
    run = LayerRun(prototxt, [np.array(v, np.float64) for v in values])
    with pytest.raises(DataError, match=re.escape(message)):
        run.forward()


@pytest.mark.parametrize("wrong", [(2, 5, 6, 5), (2, 4, 6), (2, 4, 2, 2)])
@pytest.mark.parametrize("text", ["num_output: 2 kernel_size: 3", "num_output: 2 kernel_size: 3 engine: CAFFE"])
def test_convolution_refuses_bottoms_that_no_longer_fit(text, wrong):
    prototxt, shapes, _ = conv(text)
    run = LayerRun(prototxt, [np.zeros(shapes[0])])
    with pytest.raises(LayerError):
        run.reshape([np.zeros(wrong)])


@pytest.mark.parametrize(
    ("text", "gradient"),
    [
        ("Embed embed_param { num_output: 2 input_dim: 3 }", [True]),
        ("Upsample", [True, True]),
        ("ROIPooling roi_pooling_param { pooled_h: 1 pooled_w: 1 }", [True, True]),
        ("Interp", [True, True]),
    ],
)
def test_indices_get_no_gradient(text, gradient):
    shapes = {"Embed": [(2,)], "ROIPooling": [(1, 1, 2, 2), (1, 5)]}.get(text.split()[0], [(1, 1, 2, 2)] * 2)
    prototxt, _, _ = layer(text)
    run = LayerRun(prototxt, [np.zeros(shape) for shape in shapes])
    (y,) = run.forward()
    with pytest.raises(LayerError, match="propagate_down: false"):
        run.backward([y], gradient)
