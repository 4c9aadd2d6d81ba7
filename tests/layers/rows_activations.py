"""Layers that treat each element alike."""

from layers.cases import Case, uniform

CASES: list[Case] = [
    Case("relu", 'type: "ReLU"', [(2, 3, 4, 5)], kinks=(0,), golden=["relu"]),
    Case("relu_leaky", 'type: "ReLU" relu_param { negative_slope: 0.1 }', [(3, 7)], kinks=(0,), golden=["relu_leaky"]),
    Case("sigmoid", 'type: "Sigmoid"', [(2, 3, 4, 5)], golden=["sigmoid"]),
    Case("tanh", 'type: "TanH"', [(2, 3, 4, 5)], golden=["tanh"]),
    Case("elu", 'type: "ELU" elu_param { alpha: 0.7 }', [(2, 3, 4, 5)], kinks=(0,), golden=["elu"]),
    Case("selu", 'type: "ELU" elu_param { alpha: 1.6733 lambda: 1.0507 }', [(2, 3, 4, 5)], kinks=(0,)),
    Case("swish", 'type: "Swish" swish_param { beta: 1.5 }', [(2, 3, 4, 5)], golden=["swish"]),
    Case("bnll", 'type: "BNLL"', [(2, 3, 4, 5)], golden=["bnll"]),
    Case("absval", 'type: "AbsVal"', [(2, 3, 4, 5)], kinks=(0,), golden=["absval"]),
    Case("exp", 'type: "Exp" exp_param { base: 2 scale: 0.5 shift: 0.3 }', [(2, 3, 4, 5)], golden=["exp"]),
    Case("exp_e", 'type: "Exp"', [(3, 4)]),
    Case("log", 'type: "Log" log_param { base: 10 scale: 2 shift: 3 }', [uniform(-1, 1, 2, 3, 4, 5)], golden=["log"]),
    Case("log_e", 'type: "Log"', [uniform(0.5, 3, 3, 4)]),
    Case("power", 'type: "Power" power_param { power: 3 scale: 0.5 shift: 1 }', [(2, 3, 4, 5)], golden=["power"]),
    Case("power_root", 'type: "Power" power_param { power: 0.5 shift: 2 }', [uniform(-1, 1, 3, 4)]),
    Case("power_linear", 'type: "Power" power_param { scale: -2 shift: 1 }', [(3, 4)]),
    Case("power_zero", 'type: "Power" power_param { power: 0 }', [(3, 4)]),
    Case("clip", 'type: "Clip" clip_param { min: -0.5 max: 1 }', [(2, 3, 4, 5)], kinks=(-0.5, 1), golden=["clip"]),
    Case(
        "threshold",
        'type: "Threshold" threshold_param { threshold: 0.2 }',
        [(2, 3, 4, 5)],
        kinks=(0.2,),
        gradient=[],
        golden=["threshold"],
    ),
    Case("dropout", 'type: "Dropout" dropout_param { dropout_ratio: 0.3 }', [(2, 3, 4, 5)], memory_orders=False),
    Case("dropout_unscaled", 'type: "Dropout" dropout_param { scale_train: false }', [(3, 4)]),
    Case("dropout_unscaled_test", 'type: "Dropout" dropout_param { scale_train: false }', [(3, 4)], phase="TEST"),
    Case("dropout_sampled", 'type: "Dropout" dropout_param { sample_weights_test: true }', [(3, 4)], phase="TEST"),
    Case("dropout_test", 'type: "Dropout"', [(3, 4)], phase="TEST", golden=["dropout_test"]),
]
