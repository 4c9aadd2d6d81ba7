"""Losses, and what is counted beside them."""

from layers.cases import Case, fixed, labels, uniform

SOFTMAX_LOSS = 'type: "SoftmaxWithLoss" '
SIGMOID_LOSS = 'type: "SigmoidCrossEntropyLoss" '
INFOGAIN = uniform(0, 1, 1, 1, 5, 5)

CASES = [
    Case("softmax", 'type: "Softmax"', [(4, 5)], golden=["softmax"]),
    Case("softmax_4d", 'type: "Softmax"', [(2, 3, 4, 5)]),
    Case("softmax_axis", 'type: "Softmax" softmax_param { axis: -1 }', [(2, 3, 4, 5)]),
    Case("softmax_loss", SOFTMAX_LOSS, [(4, 5), labels(5, 4)], gradient=[0], golden=["softmax_loss"]),
    Case("softmax_loss_prob", SOFTMAX_LOSS, [(4, 5), labels(5, 4)], tops=2, gradient=[0], gradient_tops=[0]),
    Case(
        "softmax_loss_ignore",
        SOFTMAX_LOSS + "loss_param { ignore_label: 255 }",
        [(2, 3, 2, 2), fixed([[[[0, 255], [2, 1]]], [[[255, 255], [1, 0]]]])],
        gradient=[0],
        golden=["softmax_loss_ignore"],
    ),
    *(
        Case(
            f"softmax_loss_{mode.lower()}",
            SOFTMAX_LOSS + f"loss_param {{ ignore_label: 0 normalization: {mode} }} softmax_param {{ axis: 2 }}",
            [(2, 3, 4, 2), labels(4, 2, 3, 2)],
            gradient=[0],
        )
        for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE")
    ),
    Case(
        "softmax_loss_normalize",
        SOFTMAX_LOSS + "loss_param { normalize: false }",
        [(2, 3, 4), labels(3, 2, 4)],
        gradient=[0],
    ),
    Case(
        "softmax_loss_weighted",
        SOFTMAX_LOSS + "loss_param { ignore_label: 1 weight_by_label_freqs: true class_weighting: [0.5, 1, 2] }",
        [(2, 3, 4, 2), labels(3, 2, 4, 2)],
        gradient=[0],
    ),
    Case(
        "softmax_loss_pre_fixed",
        SOFTMAX_LOSS + "loss_param { normalization: PRE_FIXED pre_fixed_normalizer: 2.5 }",
        [(4, 5), labels(5, 4)],
        gradient=[0],
    ),
    Case("accuracy", 'type: "Accuracy"', [(6, 5), labels(5, 6)], gradient=[]),
    Case(
        "accuracy_top2",
        'type: "Accuracy" accuracy_param { top_k: 2 ignore_label: 1 }',
        [(2, 5, 2, 2), labels(5, 2, 2, 2)],
        tops=2,
        gradient=[],
        golden=["accuracy_top2"],
    ),
    Case(
        "argmax", 'type: "ArgMax" argmax_param { top_k: 2 out_max_val: true }', [(3, 7)], gradient=[], golden=["argmax"]
    ),
    Case("argmax_4d", 'type: "ArgMax" argmax_param { top_k: 3 }', [(3, 2, 2, 5)], gradient=[]),
    Case("argmax_axis", 'type: "ArgMax" argmax_param { axis: 1 }', [(3, 5, 2, 2)], gradient=[]),
    Case("argmax_axis_values", 'type: "ArgMax" argmax_param { axis: -1 out_max_val: true }', [(3, 5)], gradient=[]),
    Case("euclidean_loss", 'type: "EuclideanLoss"', [(4, 3, 2, 2), (4, 3, 2, 2)], golden=["euclidean_loss"]),
    Case("euclidean_loss_shapes", 'type: "EuclideanLoss"', [(4, 3, 2, 1), (4, 6)]),
    Case("hinge", 'type: "HingeLoss"', [(6, 5), labels(5, 6)], kinks=(-1, 1), gradient=[0], golden=["hinge_l1"]),
    Case("hinge_l2", 'type: "HingeLoss" hinge_loss_param { norm: L2 }', [(6, 5, 1, 1), labels(5, 6)], gradient=[0]),
    Case(
        "contrastive",
        'type: "ContrastiveLoss" contrastive_loss_param { margin: 3 }',
        [(6, 4), (6, 4), labels(2, 6)],
        gradient=[0, 1],
        golden=["contrastive"],
        tolerance=1e-4,  # Caffe adds 1e-4 to the distance that it divides by
    ),
    Case(
        "contrastive_legacy",
        'type: "ContrastiveLoss" contrastive_loss_param { margin: 9 legacy_version: true }',
        [(6, 4, 1, 1), (6, 4, 1, 1), labels(2, 6)],
        gradient=[0, 1],
    ),
    Case(
        "multinomial_logistic",
        'type: "MultinomialLogisticLoss"',
        [uniform(0.1, 1, 6, 5), labels(5, 6)],
        gradient=[0],
        golden=["multinomial_logistic"],
    ),
    Case("infogain", 'type: "InfogainLoss"', [(6, 5), labels(5, 6), INFOGAIN], gradient=[0], batch_axis=(0, 0, None)),
    Case(
        "infogain_prob",
        'type: "InfogainLoss" loss_param { ignore_label: 2 }',
        [(3, 4, 2, 3), labels(4, 3, 2, 3), uniform(0, 1, 1, 1, 4, 4)],
        tops=2,
        gradient=[0],
        gradient_tops=[0],
        batch_axis=(0, 0, None),
        golden=["infogain"],
    ),
    Case(
        "infogain_axis",
        'type: "InfogainLoss" infogain_loss_param { axis: 2 } loss_param { ignore_label: 1 }',
        [(2, 3, 5, 2), labels(5, 2, 3, 2), INFOGAIN],
        tops=2,
        gradient=[0],
        gradient_tops=[0],
        batch_axis=(0, 0, None),
    ),
    Case("sigmoid_ce", SIGMOID_LOSS, [(4, 3, 2, 2), uniform(0, 1, 4, 3, 2, 2)], gradient=[0], golden=["sigmoid_ce"]),
    *(
        Case(
            f"sigmoid_ce_{mode.lower()}",
            SIGMOID_LOSS + f"loss_param {{ ignore_label: -1 normalization: {mode} }}",
            [(4, 5), lambda rng: rng.integers(-1, 2, (4, 5)).astype(float)],
            gradient=[0],
        )
        for mode in ("FULL", "VALID", "BATCH_SIZE", "NONE")
    ),
]
