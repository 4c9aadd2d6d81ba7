"""Layers that treat each element alike."""

from layers.cases import Case

CASES: list[Case] = [
    Case("relu", 'type: "ReLU"', [(2, 3, 4, 5)], kinks=(0,), golden=["relu"]),
    Case("relu_leaky", 'type: "ReLU" relu_param { negative_slope: 0.1 }', [(3, 7)], kinks=(0,), golden=["relu_leaky"]),
    Case("sigmoid", 'type: "Sigmoid"', [(2, 3, 4, 5)], golden=["sigmoid"]),
    Case("tanh", 'type: "TanH"', [(2, 3, 4, 5)], golden=["tanh"]),
    Case("dropout", 'type: "Dropout" dropout_param { dropout_ratio: 0.3 }', [(2, 3, 4, 5)], memory_orders=False),
    Case("dropout_test", 'type: "Dropout"', [(3, 4)], phase="TEST", golden=["dropout_test"]),
]
