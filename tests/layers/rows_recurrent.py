"""LSTM and RNN, with and without static input and exposed state."""

from layers.cases import Case, fixed

CONT = fixed([[1, 1], [1, 0], [1, 1]])
FRESH = fixed([[0, 0], [1, 0], [1, 1]])  # so that what an earlier forward pass carried over does not count
X, STATIC, STATE = (3, 2, 5), (2, 3), (1, 2, 4)


def recurrent(kind: str, exposed: bool = False) -> str:
    fields = "num_output: 4 weight_filler { type: 'uniform' min: -0.5 max: 0.5 }"
    return f'type: "{kind}" recurrent_param {{ {fields} expose_hidden: {str(exposed).lower()} }}'


CASES = [
    case
    for kind, states in (("LSTM", 2), ("RNN", 1))
    for case in (
        Case(kind.lower(), recurrent(kind), [X, FRESH], gradient=[0], batch_axis=1, golden=[kind.lower()]),
        Case(
            f"{kind.lower()}_exposed",
            recurrent(kind, exposed=True),
            [X, CONT, STATIC, *[STATE] * states],
            tops=1 + states,
            gradient=[0, 2],
            gradient_tops=[0],
            batch_axis=(1, 1, 0, *[1] * states),
        ),
    )
]
