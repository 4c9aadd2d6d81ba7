"""Layers that move, join, cut and combine blobs."""

from layers.cases import Case, distinct

CASES = [
    Case("split", 'type: "Split"', [(2, 3, 4, 5)], tops=2, golden=["split"]),
    Case("split_three", 'type: "Split"', [(2, 3)], tops=3),
    Case("split_one", 'type: "Split"', [(2, 3)]),
    Case("silence", 'type: "Silence"', [(2, 3), (2,)], tops=0),
    Case("concat", 'type: "Concat"', [(2, 3, 4, 5), (2, 1, 4, 5), (2, 2, 4, 5)], golden=["concat"]),
    Case("concat_last", 'type: "Concat" concat_param { axis: -1 }', [(2, 3, 4), (2, 3, 1)]),
    Case("concat_batch", 'type: "Concat" concat_param { concat_dim: 0 }', [(2, 3), (1, 3)], batch_axis=None),
    Case("concat_one", 'type: "Concat"', [(2, 3)]),
    Case(
        "slice", 'type: "Slice" slice_param { slice_point: 1 slice_point: 3 }', [(2, 5, 4, 3)], tops=3, golden=["slice"]
    ),
    Case("slice_even", 'type: "Slice" slice_param { axis: 2 }', [(2, 3, 4)], tops=2),
    Case("slice_one", 'type: "Slice"', [(2, 3)]),
    Case("eltwise_sum", 'type: "Eltwise"', [(2, 3, 4, 5)] * 2),
    Case(
        "eltwise_coeff",
        'type: "Eltwise" eltwise_param { coeff: 1 coeff: -0.5 coeff: 2 }',
        [(2, 3, 4, 5)] * 3,
        golden=["eltwise_sum"],
    ),
    Case(
        "eltwise_prod", 'type: "Eltwise" eltwise_param { operation: PROD }', [(2, 3, 4, 5)] * 3, golden=["eltwise_prod"]
    ),
    Case(
        "eltwise_prod_unstable",
        'type: "Eltwise" eltwise_param { operation: PROD stable_prod_grad: false }',
        [(2, 3)] * 2,
        kinks=(0,),
    ),
    Case(
        "eltwise_max",
        'type: "Eltwise" eltwise_param { operation: MAX }',
        [
            distinct(2, 3, 4, 5),
            lambda rng: distinct(2, 3, 4, 5)(rng) + 0.03,
            lambda rng: distinct(2, 3, 4, 5)(rng) + 0.06,
        ],
        golden=["eltwise_max"],
    ),
    Case("flatten", 'type: "Flatten"', [(2, 3, 4, 5)], golden=["flatten"]),
    Case("flatten_middle", 'type: "Flatten" flatten_param { axis: -3 end_axis: 2 }', [(2, 3, 4, 5)]),
    Case("flatten_to_4d", 'type: "Flatten" flatten_param { axis: 3 }', [(2, 3, 4, 2, 2)]),
    Case(
        "reshape",
        'type: "Reshape" reshape_param { shape { dim: 0 dim: -1 dim: 4 } }',
        [(2, 6, 4, 2)],
        golden=["reshape"],
    ),
    Case("reshape_4d", 'type: "Reshape" reshape_param { shape { dim: 0 dim: 4 dim: 2 dim: 6 } }', [(2, 6, 4, 2)]),
    Case("reshape_part", 'type: "Reshape" reshape_param { shape { dim: 2 dim: -1 } axis: 1 num_axes: 1 }', [(2, 6, 5)]),
    Case("reshape_insert", 'type: "Reshape" reshape_param { shape { dim: 1 } axis: -1 num_axes: 0 }', [(2, 6)]),
]
