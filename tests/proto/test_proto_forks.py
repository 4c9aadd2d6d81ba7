"""Prototxts of forks: layers as people published them are read, and what breve does not honour can be told."""

import pytest

from breve.errors import ParseError
from breve.proto import NetParameter, SolverParameter
from breve.proto.forks import FIRST_NUMBER, HINTS, fork_fields
from breve.proto.schema import MESSAGES
from breve.proto.text import parse, to_text
from breve.proto.upgrade import upgrade_net

SSD = """
layer {
  name: "data" type: "AnnotatedData" top: "data" top: "label" include { phase: TRAIN }
  transform_param {
    mirror: true mean_value: 104 mean_value: 117 mean_value: 123
    resize_param { prob: 1 resize_mode: WARP height: 300 width: 300 interp_mode: LINEAR interp_mode: AREA }
    emit_constraint { emit_type: CENTER }
    distort_param { brightness_prob: 0.5 brightness_delta: 32 random_order_prob: 0 }
    expand_param { prob: 0.5 max_expand_ratio: 4 }
  }
  data_param { source: "lmdb" batch_size: 8 backend: LMDB }
  annotated_data_param {
    batch_sampler { max_sample: 1 max_trials: 1 }
    batch_sampler {
      sampler { min_scale: 0.3 max_scale: 1 min_aspect_ratio: 0.5 max_aspect_ratio: 2 }
      sample_constraint { min_jaccard_overlap: 0.1 } max_sample: 1 max_trials: 50
    }
    label_map_file: "labelmap_voc.prototxt"
  }
}
layer { name: "norm" type: "Normalize" bottom: "x" top: "n"
  norm_param { across_spatial: false scale_filler { type: "constant" value: 20 } channel_shared: false } }
layer { name: "perm" type: "Permute" bottom: "n" top: "p" permute_param { order: 0 order: 2 order: 3 order: 1 } }
layer { name: "prior" type: "PriorBox" bottom: "n" bottom: "data" top: "b"
  prior_box_param { min_size: 30 max_size: 60 aspect_ratio: 2 flip: true variance: 0.1 step: 8 offset: 0.5 } }
layer { name: "loss" type: "MultiBoxLoss" bottom: "l" bottom: "c" bottom: "b" bottom: "label" top: "loss"
  loss_param { normalization: VALID } propagate_down: true propagate_down: false
  multibox_loss_param { loc_loss_type: SMOOTH_L1 conf_loss_type: SOFTMAX num_classes: 21 share_location: true
    match_type: PER_PREDICTION overlap_threshold: 0.5 code_type: CENTER_SIZE mining_type: MAX_NEGATIVE } }
layer { name: "out" type: "DetectionOutput" bottom: "l" bottom: "c" bottom: "b" top: "d" include { phase: TEST }
  detection_output_param { num_classes: 21 nms_param { nms_threshold: 0.45 top_k: 400 } code_type: CENTER_SIZE
    save_output_param { output_format: "VOC" resize_param { height: 300 width: 300 } } keep_top_k: 200 } }
layer { name: "eval" type: "DetectionEvaluate" bottom: "d" bottom: "label" top: "e"
  detection_evaluate_param { num_classes: 21 overlap_threshold: 0.5 evaluate_difficult_gt: false } }
"""

REGIONS = """
layer { name: "rois" type: "Python" bottom: "s" bottom: "b" bottom: "im_info" top: "rois"
  python_param { module: "rpn.proposal_layer" layer: "ProposalLayer" param_str: "'feat_stride': 16" } }
layer { name: "proposal" type: "Proposal" bottom: "s" top: "r"
  proposal_param { ratio: [0.5, 1, 2] scale: [8, 16, 32] } }
layer { name: "pool5" type: "ROIPooling" bottom: "f" bottom: "rois" top: "pool5"
  roi_pooling_param { pooled_w: 7 pooled_h: 7 spatial_scale: 0.0625 } }
layer { name: "bbox" type: "SmoothL1Loss" bottom: "p" bottom: "t" top: "l" smooth_l1_loss_param { sigma: 3.0 } }
layer { name: "ps" type: "PSROIPooling" bottom: "f" bottom: "rois" top: "ps"
  psroi_pooling_param { spatial_scale: 0.0625 output_dim: 21 group_size: 7 } }
layer { name: "ohem" type: "BoxAnnotatorOHEM" bottom: "rois" top: "o" box_annotator_ohem_param { roi_per_img: 128 } }
"""

SIZES = """
layer { name: "up" type: "Upsample" bottom: "p" bottom: "m" top: "u"
  upsample_param { scale: 2 upsample_w: 60 upsample_h: 45 } }
layer { name: "in" type: "Interp" bottom: "x" top: "i" interp_param { zoom_factor: 8 pad_beg: 0 pad_end: -1 } }
layer { name: "re" type: "Resize" bottom: "x" top: "r" resize_param { is_pyramid_test: true out_height_scale: 2 } }
layer { name: "bn" type: "BN" bottom: "x" top: "x" bn_param { bn_mode: INFERENCE scale_filler { value: 1 } } }
layer { name: "bn2" type: "BN" bottom: "x" top: "x"
  bn_param { slope_filler { value: 1 } bias_filler { } frozen: true momentum: 0.95 } }
layer { name: "hole" type: "Convolution" bottom: "x" top: "h"
  convolution_param { num_output: 4 kernel_size: 3 hole: 12 } }
layer { name: "drop" type: "Dropout" bottom: "x" top: "x"
  dropout_param { dropout_ratio: 0.5 sample_weights_test: true } }
"""

CHANNELS = """
layer { name: "sh" type: "ShuffleChannel" bottom: "x" top: "s" shuffle_channel_param { group: 3 } }
layer { name: "dw" type: "ConvolutionDepthwise" bottom: "s" top: "d"
  convolution_param { num_output: 8 kernel_size: 3 } }
layer { name: "axpy" type: "Axpy" bottom: "a" bottom: "x" bottom: "y" top: "z" }
layer { name: "r6" type: "ReLU6" bottom: "x" top: "x" relu6_param { negative_slope: 0.1 } }
layer { name: "hs" type: "HardSigmoid" bottom: "x" top: "x" hardsigmoid_param { alpha: 0.1666667 beta: 0.5 } }
layer { name: "mish" type: "Mish" bottom: "x" top: "x" mish_param { engine: CAFFE } }
layer { name: "bn" type: "BatchNorm" bottom: "x" top: "x" forward_type: FLOAT16
  batch_norm_param { moving_average_fraction: 0.9 eps: 0.0001 scale_bias: true engine: CUDNN } }
layer { name: "reorg" type: "Reorg" bottom: "x" top: "y" reorg_param { stride: 2 } }
layer { name: "region" type: "Region" bottom: "y" top: "z"
  region_param { classes: 20 coords: 4 boxes_of_each_grid: 5 softmax: true } }
layer { name: "loss" type: "RegionLoss" bottom: "y" bottom: "l" top: "loss"
  region_loss_param { side: 13 num_class: 20 biases: [1.08, 1.19] thresh: 0.6 class_map: "labels.txt" } }
layer { name: "yolo" type: "Yolov3DetectionOutput" bottom: "y" top: "o"
  yolov3_detection_output_param { num_classes: 20 biases: [10, 14] mask: [0, 1, 2] anchors_scale: 32 } }
"""


@pytest.mark.parametrize("text", [SSD, REGIONS, SIZES, CHANNELS], ids=["ssd", "regions", "sizes", "channels"])
def test_layers_of_forks_are_read(text):
    net = parse(text, NetParameter)
    assert len(net.layer) == text.count('name: "')
    assert parse(to_text(net), NetParameter) == net
    assert NetParameter.FromString(net.SerializeToString()) == net


def test_v1_layers_of_deconvnet_are_upgraded():
    net = parse(
        "layers { type: UNPOOLING unpooling_param { unpool: MAX kernel_size: 2 stride: 2 unpool_size: 28 } }"
        "layers { type: BN bn_param { bn_mode: INFERENCE } } layers { type: CROP crop_param { offset: 5 } }",
        NetParameter,
    )
    upgrade_net(net)
    assert [layer.type for layer in net.layer] == ["Unpooling", "BN", "Crop"]
    assert net.layer[0].unpooling_param.unpool_size == 28
    assert net.layer[2].crop_param.offset == [5]


def test_solver_and_label_map_of_ssd():
    assert parse('eval_type: "detection" ap_version: "11point"', SolverParameter).ap_version == "11point"
    assert parse('item { name: "cat" label: 8 display_name: "cat" }', MESSAGES["LabelMap"]).item[0].label == 8


def test_what_would_be_passed_over_is_an_error():
    with pytest.raises(ParseError, match="unknown field 'warmup_iter'"):
        parse("warmup_iter: 100", SolverParameter)


def test_fields_of_forks_are_named():
    assert fork_fields(parse(SSD, NetParameter)) == [
        "layer.transform_param.resize_param",
        "layer.transform_param.distort_param",
        "layer.transform_param.expand_param",
        "layer.transform_param.emit_constraint",
    ]
    layers = {layer.name: fork_fields(layer) for layer in parse(SIZES + CHANNELS, NetParameter).layer}
    assert {name: fields for name, fields in layers.items() if fields} == {
        "hole": ["convolution_param.hole"],
        "drop": ["dropout_param.sample_weights_test"],
        "bn": ["batch_norm_param.scale_bias"],
    }
    assert fork_fields(parse(REGIONS, NetParameter)) == []
    assert fork_fields(parse('eval_type: "detection" base_lr: 1', SolverParameter)) == ["eval_type"]


def test_hints_are_fields_of_forks():
    numbers = {
        field.name: field.number for cls in MESSAGES.values() for field in cls.DESCRIPTOR.fields if field.name in HINTS
    }
    assert numbers.keys() == HINTS
    assert (
        min(field.number for field in MESSAGES["NetParameter"].DESCRIPTOR.fields if field.name in HINTS) > FIRST_NUMBER
    )
