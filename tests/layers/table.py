"""The table of layers: every shared test runs over every row. To add a layer is to add a row."""

from layers import rows_activations

CASES = [*rows_activations.CASES]
