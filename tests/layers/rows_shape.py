"""Layers that move, join, cut and combine blobs."""

from layers.cases import Case, distinct, fixed

CASES = [
    Case("split", 'type: "Split"', [(2, 3, 4, 5)], tops=2, golden=["split"]),
    Case("split_three", 'type: "Split"', [(2, 3)], tops=3),
    Case("split_one", 'type: "Split"', [(2, 3)]),
    Case("silence", 'type: "Silence"', [(2, 3), (2,)], tops=0),
    Case("concat", 'type: "Concat"', [(2, 3, 4, 5), (2, 1, 4, 5), (2, 2, 4, 5)], golden=["concat"]),
    Case("concat_last", 'type: "Concat" concat_param { axis: -1 }', [(2, 3, 4), (2, 3, 1)]),
    Case("concat_batch", 'type: "Concat" concat_param { concat_dim: 0 }', [(2, 3), (1, 3)]),
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
    Case(
        "crop",
        'type: "Crop" crop_param { axis: 2 offset: 1 offset: 2 }',
        [(2, 3, 8, 9), (2, 5, 5, 4)],
        gradient=[0],
        golden=["crop"],
    ),
    Case(
        "crop_one_offset",
        'type: "Crop" crop_param { axis: -3 offset: 1 }',
        [(2, 3, 4), (1, 2, 2)],
        gradient=[0],
        batch_axis=None,
    ),
    Case("crop_no_offset", 'type: "Crop"', [(2, 3, 4, 4), (2, 1, 3, 2)], gradient=[0]),
    Case("tile", 'type: "Tile" tile_param { axis: 1 tiles: 3 }', [(2, 3, 4, 5)], golden=["tile"]),
    Case("tile_last", 'type: "Tile" tile_param { axis: -1 tiles: 2 }', [(2, 3)]),
    *(
        Case(
            f"reduction_{operation.lower()}",
            f'type: "Reduction" reduction_param {{ operation: {operation} axis: {axis} coeff: 2.5 }}',
            [(2, 3, 4, 5)],
            kinks=(0,) if operation == "ASUM" else (),
            golden=golden,
        )
        for operation, axis, golden in (
            ("SUM", 1, ["reduction_sum"]),
            ("MEAN", 2, ["reduction_mean"]),
            ("SUMSQ", -1, ["reduction_sumsq"]),
            ("ASUM", 1, []),
        )
    ),
    Case("reduction_to_scalar", 'type: "Reduction"', [(2, 3)]),
    Case(
        "batch_reindex",
        'type: "BatchReindex"',
        [(4, 3, 2), fixed([0, 2, 2, 3, 0, 1])],
        gradient=[0],
        golden=["batch_reindex"],
    ),
    Case("batch_reindex_4d", 'type: "BatchReindex"', [(4, 3, 2, 2), fixed([3, 3])], gradient=[0]),
    Case(
        "filter",
        'type: "Filter"',
        [(5, 3, 2, 2), (5, 4), fixed([0, 1, 1, 0, 1])],
        tops=2,
        gradient=[0, 1],
        golden=["filter"],
    ),
    Case("filter_none", 'type: "Filter"', [(3, 2), fixed([0, 0, 0])], gradient=[0]),
]
