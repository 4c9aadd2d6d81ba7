"""Layers without bottoms."""

from layers.cases import Case

SHAPE = "shape { dim: 2 dim: 3 dim: 4 dim: 5 }"

CASES = [
    Case("input", f'type: "Input" input_param {{ {SHAPE} }}', tops=2),
    Case("input_unshaped", 'type: "Input"'),
    Case("dummy_data", f'type: "DummyData" dummy_data_param {{ {SHAPE} data_filler {{ type: "gaussian" }} }}', tops=2),
    Case(
        "dummy_data_legacy",
        'type: "DummyData" dummy_data_param { num: 2 channels: 3 height: 1 width: 1 width: 4 }',
        tops=2,
    ),
    Case("parameter", f'type: "Parameter" parameter_param {{ {SHAPE} }}', param_gradient=[0], golden=["parameter"]),
]
