"""Pooling of images."""

from layers.cases import Case, distinct, uniform


def pool(name: str, shape: tuple[int, ...], fields: str, **more) -> Case:
    return Case(name, f'type: "Pooling" pooling_param {{ {fields} }}', [distinct(*shape)], **more)


CASES: list[Case] = [
    pool("pool_max", (2, 3, 7, 6), "kernel_size: 3 stride: 2", golden=["pool_max"]),
    pool("pool_max_pad", (2, 3, 7, 9), "kernel_size: 3 stride: 2 pad: 1", golden=["pool_max_pad"]),
    pool(
        "pool_max_mask",
        (2, 3, 6, 6),
        "kernel_size: 2 stride: 2",
        tops=2,
        gradient_tops=[0],
        golden=["pool_max_mask"],
    ),
    pool("pool_max_clipped", (1, 2, 2, 5), "kernel_size: 3 stride: 2"),
    pool("pool_max_overlapping", (2, 20, 6, 5), "kernel_h: 3 kernel_w: 2 stride_h: 1 stride_w: 1 pad_h: 1 pad_w: 0"),
    pool("pool_max_floor", (1, 2, 6, 6), "kernel_size: 3 stride: 2 round_mode: FLOOR"),
    pool("pool_max_torch", (1, 2, 6, 6), "kernel_size: 3 stride: 2 torch_pooling: true"),
    pool("pool_ave_down", (1, 2, 6, 6), "pool: AVE kernel_size: 3 stride: 2 ceil_mode: false"),
    pool("pool_max_global", (2, 3, 4, 5), "global_pooling: true"),
    pool("pool_max_gaps", (2, 3, 8, 8), "kernel_size: 1 stride: 3"),
    pool("pool_ave", (2, 3, 7, 6), "pool: AVE kernel_size: 3 stride: 2", golden=["pool_ave"]),
    pool("pool_ave_pad", (2, 3, 7, 6), "pool: AVE kernel_size: 3 stride: 2 pad: 1", golden=["pool_ave_pad"]),
    pool("pool_ave_rect", (2, 9, 5, 8), "pool: AVE kernel_h: 2 kernel_w: 5 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 2"),
    pool(
        "pool_ave_inside",
        (2, 3, 7, 6),
        "pool: AVE kernel_h: 3 kernel_w: 4 stride: 2 pad_h: 1 pad_w: 3 avg_include_pad: false",
    ),
    pool("pool_global", (2, 3, 5, 4), "pool: AVE global_pooling: true", golden=["pool_global"]),
    Case(
        "pool_stochastic",
        'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }',
        [uniform(0.5, 1.5, 2, 3, 6, 7)],
        batch_axis=None,
    ),
    Case(
        "pool_stochastic_test",
        'type: "Pooling" pooling_param { pool: STOCHASTIC kernel_size: 3 stride: 2 }',
        [uniform(0.5, 1.5, 2, 3, 6, 7)],
        phase="TEST",
    ),
    Case("spp", 'type: "SPP" spp_param { pyramid_height: 3 }', [distinct(2, 3, 11, 9)], golden=["spp"]),
    Case("spp_ave", 'type: "SPP" spp_param { pyramid_height: 2 pool: AVE }', [distinct(2, 3, 5, 7)]),
    Case("spp_one", 'type: "SPP" spp_param { pyramid_height: 1 }', [distinct(2, 3, 4, 5)]),
]
