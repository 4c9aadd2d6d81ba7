"""Layers that multiply by a matrix."""

from layers.cases import Case, labels

FILLERS = 'weight_filler { type: "gaussian" } bias_filler { type: "gaussian" }'


def ip(name: str, shape: tuple[int, ...], fields: str, **more) -> Case:
    return Case(name, f'type: "InnerProduct" inner_product_param {{ {fields} {FILLERS} }}', [shape], **more)


CASES: list[Case] = [
    ip("ip", (4, 3, 2, 5), "num_output: 6", golden=["ip"]),
    ip("ip_axis_transpose", (3, 4, 5), "num_output: 3 axis: 2 transpose: true", golden=["ip_axis_transpose"]),
    ip("ip_transpose", (3, 2, 2, 2), "num_output: 4 transpose: true bias_term: false"),
    ip("ip_four_axes", (2, 3, 4, 5), "num_output: 3 axis: -1"),
    ip("ip_axis0", (4, 3), "num_output: 2 axis: 0", batch_axis=None),
    Case(
        "embed",
        f'type: "Embed" embed_param {{ num_output: 4 input_dim: 6 {FILLERS} }}',
        [labels(6, 5, 3)],
        gradient=[],
        golden=["embed"],
    ),
    Case(
        "embed_nobias",
        f'type: "Embed" embed_param {{ num_output: 2 input_dim: 4 bias_term: false {FILLERS} }}',
        [labels(4, 7)],
        gradient=[],
    ),
]
