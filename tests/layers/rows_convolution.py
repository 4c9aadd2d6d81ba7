"""Convolutions and their kin."""

from layers.cases import Case


def conv(
    name: str, shape: tuple[int, ...], fields: str, *, type: str = "Convolution", bottoms: int = 1, **more
) -> Case:
    fillers = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'
    prototxt = f'type: "{type}" convolution_param {{ {fields} {fillers} }}'
    return Case(name, prototxt, [shape] * bottoms, tops=bottoms, **more)


CASES: list[Case] = [
    conv("conv_1x1", (3, 5, 4, 5), "num_output: 6 kernel_size: 1", golden=["conv_1x1"]),
    conv("conv_1x1_stride2", (3, 5, 7, 6), "num_output: 6 kernel_size: 1 stride: 2", golden=["conv_1x1_stride2"]),
    conv("conv_3x3", (2, 3, 7, 6), "num_output: 4 kernel_size: 3", golden=["conv_3x3"]),
    conv(
        "conv_3x3_pad",
        (2, 5, 6, 6),
        "num_output: 7 kernel_size: 3 pad: 1",
        golden=["conv_3x3_pad", "conv_3x3_wide"],
    ),
    conv(
        "conv_5x5_stride2", (2, 3, 11, 13), "num_output: 5 kernel_size: 5 stride: 2 pad: 2", golden=["conv_5x5_stride2"]
    ),
    conv("conv_depthwise", (2, 8, 9, 9), "num_output: 8 kernel_size: 3 group: 8 pad: 1", golden=["conv_depthwise"]),
    conv("conv_dilated", (2, 3, 9, 8), "num_output: 4 kernel_size: 3 dilation: 2 pad: 2", golden=["conv_dilated"]),
    conv("conv_hole", (2, 3, 9, 8), "num_output: 4 kernel_size: 3 hole: 2"),
    conv("conv_holes", (2, 3, 9, 8), "num_output: 4 kernel_size: 3 hole_h: 2 hole_w: 3"),
    conv("conv_group2", (2, 4, 6, 5), "num_output: 6 kernel_size: 3 group: 2 pad: 1", golden=["conv_group2"]),
    conv("conv_nobias", (1, 2, 5, 5), "num_output: 4 kernel_size: 3 bias_term: false", golden=["conv_nobias"]),
    conv(
        "conv_rect",
        (2, 3, 8, 9),
        "num_output: 4 kernel_h: 3 kernel_w: 5 pad_h: 1 pad_w: 2 stride_h: 2 stride_w: 1",
        golden=["conv_rect"],
    ),
    conv("conv_two_bottoms", (2, 3, 6, 6), "num_output: 3 kernel_size: 3", bottoms=2, golden=["conv_two_bottoms"]),
    conv(
        "conv_sizes_per_axis",
        (2, 3, 8, 9),
        "num_output: 4 kernel_size: [3, 2] stride: [1, 2] pad: [0, 1] dilation: [2, 1]",
    ),
    conv("conv_engine_caffe", (2, 3, 6, 6), "num_output: 4 kernel_size: 3 engine: CAFFE"),
    conv("conv_0d", (4, 5), "num_output: 3"),
    conv("conv_1d", (2, 3, 9), "num_output: 4 kernel_size: 3 stride: 2 pad: 1"),
    conv("conv_3d", (2, 2, 4, 5, 3), "num_output: 3 kernel_size: [3, 3, 2] pad: [1, 0, 1]"),
    conv("conv_axis2", (2, 3, 4, 7), "num_output: 5 kernel_size: 3 axis: 2"),
    conv("conv_axis_negative", (2, 3, 4, 5, 6), "num_output: 5 kernel_size: 3 axis: -3"),
    conv(
        "deconv_4x4_s2",
        (2, 3, 5, 4),
        "num_output: 4 kernel_size: 4 stride: 2 pad: 1",
        type="Deconvolution",
        golden=["deconv_4x4_s2"],
    ),
    conv(
        "deconv_group",
        (2, 4, 4, 5),
        "num_output: 6 kernel_size: 3 group: 2",
        type="Deconvolution",
        golden=["deconv_group"],
    ),
    conv(
        "deconv_dilated_two",
        (1, 3, 4, 5),
        "num_output: 2 kernel_size: 3 stride: 2 dilation: 2",
        type="Deconvolution",
        bottoms=2,
    ),
    conv(
        "deconv_1d_nobias", (2, 3, 5), "num_output: 2 kernel_size: 3 stride: 2 bias_term: false", type="Deconvolution"
    ),
    conv("deconv_3d", (1, 2, 3, 4, 2), "num_output: 2 kernel_size: 2 stride: 2", type="Deconvolution"),
    conv("depthwise_convolution", (2, 6, 5, 5), "num_output: 12 kernel_size: 3 group: 6", type="DepthwiseConvolution"),
    conv("convolution_depthwise", (2, 6, 5, 5), "num_output: 6 kernel_size: 3 pad: 1", type="ConvolutionDepthwise"),
    Case(
        "im2col",
        'type: "Im2col" convolution_param { kernel_size: 3 stride: 2 pad: 1 }',
        [(2, 3, 6, 7)],
        golden=["im2col"],
    ),
    Case("im2col_1d", 'type: "Im2col" convolution_param { kernel_size: 2 dilation: 2 }', [(2, 3, 6)]),
    Case("im2col_axis2", 'type: "Im2col" convolution_param { kernel_size: 2 axis: 2 }', [(2, 2, 3, 6)]),
]
