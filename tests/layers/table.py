"""The table of layers: every shared test runs over every row. To add a layer is to add a row."""

from layers import (
    rows_activations,
    rows_convolution,
    rows_data,
    rows_forks,
    rows_inputs,
    rows_losses,
    rows_normalisation,
    rows_pooling,
    rows_products,
    rows_recurrent,
    rows_shape,
    rows_sizes,
)

CASES = [
    *rows_activations.CASES,
    *rows_convolution.CASES,
    *rows_data.CASES,
    *rows_forks.CASES,
    *rows_inputs.CASES,
    *rows_losses.CASES,
    *rows_normalisation.CASES,
    *rows_pooling.CASES,
    *rows_products.CASES,
    *rows_recurrent.CASES,
    *rows_shape.CASES,
    *rows_sizes.CASES,
]
