"""Layers that forks of Caffe added."""

import numpy as np

from layers.cases import Case, Values, away_from, fixed, labels

MULTIBOX = 'type: "MultiBoxLoss" multibox_loss_param { num_classes: 3 '
REGION_LOSS = 'type: "RegionLoss" region_loss_param { num: 2 num_class: 3 biases: [1, 2, 2.5, 1.5] rescore: 0 '
GROUPED = 'type: "ShuffleChannel" shuffle_channel_param { group: 3 }'
PRIOR_BOX = "prior_box_param { min_size: 20 max_size: 40 aspect_ratio: 2 clip: true variance: [0.1, 0.1, 0.2, 0.2] }"
OBJECTS = fixed([[[[0, 1, 0, 0.1, 0.1, 0.4, 0.5, 0], [1, 2, 0, 0.3, 0.2, 0.9, 0.8, 0], [1, 1, 1, 0, 0, 0.3, 0.3, 1]]]])
YOLO_OBJECTS = fixed([[[0, 0.3, 0.6, 0.4, 0.5], [2, 0.8, 0.2, 0.2, 0.3]], [[1, 0.5, 0.5, 0.9, 0.8], [0, 0, 0, 0, 0]]])
IMAGE_SIZES = fixed([[64, 80, 1], [60, 64, 2]])


def wide(*kinks: float) -> Values:
    """Values from -8 to 8, away from kinks."""
    return lambda rng: away_from(kinks, rng.uniform(-8, 8, (2, 3, 4, 5)))


def priors(rng: np.random.Generator) -> np.ndarray:
    """Twelve boxes about the image, and their variances."""
    center, extent = rng.uniform(0.1, 0.9, (12, 2)), rng.uniform(0.2, 0.5, (12, 2))
    boxes = np.concatenate([center - extent / 2, center + extent / 2], axis=1)
    return np.stack([boxes.ravel(), np.tile([0.1, 0.1, 0.2, 0.2], 12)])[None]


def multibox(name: str, fields: str = "", loc_classes: int = 1) -> Case:
    """A loss of two images and twelve priors."""
    return Case(
        name,
        MULTIBOX + fields,
        [(2, 48 * loc_classes), (2, 36), priors, OBJECTS],
        gradient=[0, 1],
        batch_axis=(0, 0, None, 2),
    )


CASES = [
    Case("relu6", 'type: "ReLU6"', [wide(0, 6)]),
    Case("relu6_leaky", 'type: "ReLU6" relu6_param { negative_slope: 0.1 }', [wide(0, 6)]),
    Case("crelu", 'type: "CReLU" crelu_param { negative_slope: 0.1 }', [(2, 3, 4, 5)], kinks=(0,)),
    Case("crelu_axis", 'type: "CReLU" crelu_param { concat_axis: -1 }', [(2, 3, 4)], kinks=(0,)),
    Case("hard_sigmoid", 'type: "HardSigmoid"', [wide(-2.5, 2.5)]),
    Case("hard_swish", 'type: "HardSwish"', [wide(-3, 3)]),
    Case("mish", 'type: "Mish"', [wide()]),
    Case("permute", 'type: "Permute" permute_param { order: 0 order: 2 order: 3 order: 1 }', [(2, 3, 4, 5)]),
    Case("permute_part", 'type: "Permute" permute_param { order: 2 }', [(2, 3, 4)], batch_axis=1),
    Case("shuffle_channel", GROUPED, [(2, 6, 4, 5)]),
    Case("reorg", 'type: "Reorg" reorg_param { stride: 2 }', [(2, 8, 4, 6)]),
    Case("reorg_reverse", 'type: "Reorg" reorg_param { stride: 2 reverse: true }', [(2, 8, 3, 2)]),
    Case("smooth_l1", 'type: "SmoothL1Loss"', [(4, 6), (4, 6)]),
    Case(
        "smooth_l1_weighted",
        'type: "SmoothL1Loss" smooth_l1_loss_param { sigma: 2 }',
        [(4, 3, 2, 2)] * 3 + [lambda rng: rng.uniform(0, 1, (4, 3, 2, 2))],
        gradient=[0, 1],
    ),
    Case("smooth_l1_inside", 'type: "SmoothL1Loss"', [(4, 6), (4, 6), labels(2, 4, 6)], gradient=[0, 1]),
    Case("prior_box", f'type: "PriorBox" {PRIOR_BOX}', [(2, 4, 3, 2), (2, 3, 60, 80)]),
    Case(
        "prior_box_steps",
        'type: "PriorBox" prior_box_param { min_size: [10, 20] img_size: 60 step: 8 offset: 0 }',
        [(2, 4, 3, 2), (2, 3, 60, 80)],
    ),
    Case(
        "detection_output",
        'type: "DetectionOutput" detection_output_param { num_classes: 3 code_type: CENTER_SIZE keep_top_k: 5'
        " confidence_threshold: 0.3 nms_param { nms_threshold: 0.4 top_k: 10 } }",
        [(2, 48), lambda rng: rng.uniform(0, 1, (2, 36)), priors],
        gradient=[],
        batch_axis=(0, 0, None),
    ),
    multibox("multibox_loss", "code_type: CENTER_SIZE }"),
    multibox(
        "multibox_loss_l2_logistic", "loc_loss_type: L2 conf_loss_type: LOGISTIC loc_weight: 0.5 bp_inside: true }"
    ),
    multibox(
        "multibox_loss_unshared", "share_location: false mining_type: NONE match_type: BIPARTITE }", loc_classes=3
    ),
    multibox("multibox_loss_unmined", "mining_type: NONE conf_loss_type: LOGISTIC use_difficult_gt: false }"),
    multibox(
        "multibox_loss_hard",
        "mining_type: HARD_EXAMPLE sample_size: 6 nms_param { nms_threshold: 0.7 } use_prior_for_nms: true "
        "code_type: CORNER_SIZE encode_variance_in_target: true ignore_cross_boundary_bbox: true } "
        "loss_param { normalization: FULL }",
    ),
    Case(
        "proposal",
        'type: "Proposal" proposal_param { ratio: 1 scale: [1, 2] min_size: 4 nms_thresh: 0.5 }',
        [lambda rng: rng.uniform(0, 1, (2, 4, 4, 5)), lambda rng: 0.3 * rng.standard_normal((2, 8, 4, 5)), IMAGE_SIZES],
        tops=2,
        gradient=[],
    ),
    Case(
        "python_proposal",
        'type: "Python" python_param { module: "rpn.proposal_layer" layer: "ProposalLayer"'
        ' param_str: "feat_stride: 8" }',
        [lambda rng: rng.uniform(0, 1, (1, 18, 3, 4)), (1, 36, 3, 4), fixed([[60, 90, 1]])],
        gradient=[],
        in_place=False,
    ),
    Case("region", 'type: "Region" region_param { boxes_of_each_grid: 2 classes: 3 softmax: true }', [(2, 16, 3, 4)]),
    Case("region_sigmoid", 'type: "Region" region_param { boxes_of_each_grid: 2 classes: 3 }', [(2, 16, 3, 4)]),
    Case("region_loss", REGION_LOSS + "}", [(2, 16, 3, 4), YOLO_OBJECTS], gradient=[0]),
    Case(
        "region_loss_boxes",
        REGION_LOSS + "bias_match: 0 thresh: 0.6 }",
        [(2, 16, 3, 4), OBJECTS],
        gradient=[0],
        batch_axis=(0, 2),
    ),
]
