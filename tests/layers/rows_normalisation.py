"""Normalisation, and layers with a coefficient for each channel."""

from layers.cases import Case

RANDOM = 'filler { type: "gaussian" mean: 0.5 }'

CASES: list[Case] = [
    Case("batchnorm_train", 'type: "BatchNorm"', [(4, 3, 4, 5)], param_gradient=(), golden=["batchnorm_train"]),
    Case("lrn_across", 'type: "LRN" lrn_param { alpha: 0.5 }', [(2, 7, 3, 4)], golden=["lrn_across"]),
    Case("lrn_k_beta", 'type: "LRN" lrn_param { local_size: 3 alpha: 2 beta: 0.6 k: 2 }', [(2, 2, 3, 4)]),
    Case(
        "lrn_within",
        'type: "LRN" lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }',
        [(2, 3, 5, 4)],
        golden=["lrn_within"],
    ),
    Case(
        "lrn_within_beta",
        'type: "LRN" lrn_param { alpha: 2 beta: 1.5 k: 3 norm_region: WITHIN_CHANNEL }',
        [(1, 2, 3, 3)],
    ),
    Case(
        "batchnorm_global",
        'type: "BatchNorm" batch_norm_param { use_global_stats: true eps: 0.001 }',
        [(4, 3, 4, 5)],
        phase="TEST",
        param_gradient=(),
        golden=["batchnorm_global"],
    ),
    Case("batchnorm_two_axes", 'type: "BatchNorm" batch_norm_param { eps: 0.1 }', [(6, 5)], param_gradient=()),
    Case(
        "batchnorm_nvidia",
        'type: "BatchNorm" batch_norm_param { scale_bias: true scale_filler { type: "gaussian" } }',
        [(4, 3, 2, 5)],
        param_gradient=(3, 4),
    ),
    Case(
        "batchnorm_nvidia_test",
        'type: "BatchNorm" batch_norm_param { bias_filler { value: 0.5 } }',
        [(4, 3, 2, 5)],
        phase="TEST",
        param_gradient=(3, 4),
    ),
    Case("batchnorm_five_axes", 'type: "BatchNorm"', [(3, 2, 2, 3, 2)], param_gradient=()),
    Case("mvn", 'type: "MVN"', [(2, 3, 4, 5)], golden=["mvn"]),
    Case("mvn_across", 'type: "MVN" mvn_param { across_channels: true }', [(2, 3, 4, 5)], golden=["mvn_across"]),
    Case("mvn_mean", 'type: "MVN" mvn_param { normalize_variance: false }', [(2, 3, 4)], in_place=False),
    Case(
        "mvn_mean_across",
        'type: "MVN" mvn_param { normalize_variance: false across_channels: true }',
        [(2, 3, 2, 2, 2)],
    ),
    Case(
        "scale",
        f'type: "Scale" scale_param {{ bias_term: true {RANDOM} bias_{RANDOM} }}',
        [(2, 3, 4, 5)],
        golden=["scale"],
    ),
    Case(
        "scale_two",
        'type: "Scale" scale_param { axis: 1 }',
        [(2, 3, 4, 5), (3, 4)],
        golden=["scale_two"],
        batch_axis=None,
    ),
    Case("scale_two_by_image", 'type: "Scale" scale_param { axis: 0 }', [(3, 4, 2, 5), (3, 4)]),
    Case(
        "scale_two_by_batch",
        'type: "Scale" scale_param { axis: 0 bias_term: true }',
        [(3, 4, 2), (3,)],
        batch_axis=None,
    ),
    Case("scale_two_alike", 'type: "Scale" scale_param { axis: 0 }', [(2, 3, 4, 2), (2, 3, 4, 2)]),
    Case("scale_two_scalar", 'type: "Scale"', [(2, 3, 4), ()], batch_axis=None),
    Case("scale_to_the_last", f'type: "Scale" scale_param {{ num_axes: -1 {RANDOM} }}', [(2, 3, 2, 4)]),
    Case("scale_scalar", f'type: "Scale" scale_param {{ num_axes: 0 bias_term: true {RANDOM} }}', [(2, 3, 2)]),
    Case("scale_last_axis", f'type: "Scale" scale_param {{ axis: -1 {RANDOM} }}', [(2, 3, 4, 5)]),
    Case("scale_vector", f'type: "Scale" scale_param {{ axis: 0 {RANDOM} }}', [(5,)], batch_axis=None),
    Case("scale_middle_axes", f'type: "Scale" scale_param {{ axis: 2 num_axes: 2 {RANDOM} }}', [(2, 3, 2, 4, 2)]),
    Case("bias", f'type: "Bias" bias_param {{ {RANDOM} }}', [(2, 3, 4, 5)], golden=["bias"]),
    Case("bias_two", 'type: "Bias" bias_param { axis: 0 }', [(2, 3, 4, 5), (2, 3)]),
    Case("bias_scalar", 'type: "Bias" bias_param { num_axes: 0 }', [(2, 3)]),
    Case("bias_vector", f'type: "Bias" bias_param {{ axis: 0 {RANDOM} }}', [(5,)], batch_axis=None),
    Case("prelu", 'type: "PReLU"', [(2, 3, 4, 5)], kinks=(0,), golden=["prelu"]),
    Case(
        "prelu_shared",
        'type: "PReLU" prelu_param { channel_shared: true }',
        [(2, 3, 4, 5)],
        kinks=(0,),
        golden=["prelu_shared"],
    ),
    Case("prelu_two_axes", f'type: "PReLU" prelu_param {{ {RANDOM} }}', [(4, 7)], kinks=(0,)),
]
