"""Losses, and what is counted beside them."""

from layers.cases import Case, fixed, labels

SOFTMAX_LOSS = 'type: "SoftmaxWithLoss" '

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
    Case("accuracy", 'type: "Accuracy"', [(6, 5), labels(5, 6)], gradient=[]),
    Case(
        "accuracy_top2",
        'type: "Accuracy" accuracy_param { top_k: 2 ignore_label: 1 }',
        [(2, 5, 2, 2), labels(5, 2, 2, 2)],
        tops=2,
        gradient=[],
        golden=["accuracy_top2"],
    ),
]
