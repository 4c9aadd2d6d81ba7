"""Convolution and Deconvolution: terms, derivations, engine and numeric derivative meet in one number."""

import math

import numpy as np
import pytest

from breve.explain.unfold import Pass
from explain.nets import net_of

ELEMENTS, PER_LAYER = 1000, 20


def random_layer(rng, kind):
    """A prototxt and bottom shape of a random geometry that has an output."""
    while True:
        axes = int(rng.choice([1, 2, 2, 2, 2, 3]))
        kernel, stride, dilation = (rng.integers(1, high, axes) for high in (4, 4, 3))
        pad, group = rng.integers(0, 3, axes), int(rng.choice([1, 1, 2, 3]))
        channels, num_output, batch = (
            group * int(rng.integers(1, 3)),
            group * int(rng.integers(1, 4)),
            int(rng.integers(1, 3)),
        )
        space = rng.integers(1, 8, axes)
        extent = dilation * (kernel - 1) + 1
        out = space + 2 * pad - extent if kind == "Convolution" else stride * (space - 1) + extent - 2 * pad - 1
        if (out >= 0).all():
            break
    sizes = " ".join(
        f"{name}: {value}"
        for name, values in (("kernel_size", kernel), ("stride", stride), ("pad", pad), ("dilation", dilation))
        for value in values
    )
    text = f"""layer {{ name: "conv" type: "{kind}" bottom: "x" top: "y"
        convolution_param {{ num_output: {num_output} group: {group} {sizes} }} }}"""
    return text, (batch, channels, *map(int, space))


def random_elements(rng, run, count):
    record = run.records[1]
    arrays = {"data": record.bottom_data[0], "weights": record.param_data[0], "bias": record.param_data[1]}
    for _ in range(count):
        wrt = str(rng.choice(["data", "data", "weights", "weights", "bias"]))
        yield wrt, tuple(int(rng.integers(d)) for d in arrays[wrt].shape)


@pytest.mark.parametrize("part", range(10))
def test_three_derivations_engine_and_numeric_value_agree(part):
    rng = np.random.default_rng(part)
    for _ in range(ELEMENTS // PER_LAYER // 10):
        kind = str(rng.choice(["Convolution", "Convolution", "Convolution", "Deconvolution"]))
        text, shape = random_layer(rng, kind)
        net = net_of(text, shape, seed=int(rng.integers(1000)))
        run = Pass(net)
        for wrt, at in random_elements(rng, run, PER_LAYER):
            e = run.explain("conv", wrt, at)
            scale = np.abs(e.terms.product).sum() + 1e-30
            values = [e.derivations[name].value for name in ("chain_rule", "rotated_kernel", "gemm_col2im")]
            where = f"{text} of {shape}, {wrt} at {at}"
            assert max(values) - min(values) <= 1e-14 * scale, where
            assert abs(e.value - e.sum) <= 4e-7 * scale, where
            assert abs(e.numeric.value - e.sum) <= 1e-7 * max(scale, 1e-3), where
            assert e.numeric.verdict.startswith("agrees"), (where, e.numeric)
            assert e.sum == math.fsum(
                float(d) * float(f) for d, f in zip(e.terms.top_diff, e.terms.factor, strict=True)
            )


CONV = """layer { name: "conv" type: "Convolution" bottom: "x" top: "y"
    convolution_param { num_output: 1 kernel_size: 3 bias_term: false %s } }"""


@pytest.mark.parametrize(
    ("fields", "at", "wrt", "terms", "reasons"),
    [
        ("", (0, 0, 0, 0), "data", 1, {"beyond the output": 8}),
        ("", (0, 0, 3, 3), "data", 9, {}),
        ("stride: 2", (0, 0, 4, 4), "data", 4, {"stride hole": 5}),
        ("stride: 2", (0, 0, 3, 4), "data", 2, {"stride hole": 7}),
        ("dilation: 2", (0, 0, 3, 3), "data", 1, {"beyond the output": 8, "dilation hole": 8}),
        ("pad: 1", (0, 0, 0, 0), "weights", 36, {"padding": 13}),
        ("pad: 1", (0, 0, 1, 1), "weights", 49, {}),
    ],
)
def test_terms_lost_are_named(fields, at, wrt, terms, reasons):
    net = net_of(CONV % fields, (1, 1, 7, 7))
    e = Pass(net).explain("conv", wrt, at)
    counted = {}
    for lost in e.lost:
        counted[lost.reason] = counted.get(lost.reason, 0) + 1
    assert len(e.terms) == terms
    assert counted == reasons


def test_index_equation_holds_for_every_term():
    net = net_of(CONV % "stride: 2 pad: 1 dilation: 2", (2, 3, 8, 9))
    e = Pass(net).explain("conv", "data", (1, 2, 5, 4))
    assert e.index_equations == ["y * 2 - 1 + r * 2 = h=5", "x * 2 - 1 + s * 2 = w=4"]
    for t in range(len(e.terms)):
        n, _, y, x = e.terms.top_index(t)
        _, c, r, s = e.terms.factor_index(t)
        assert (n, c, y * 2 - 1 + r * 2, x * 2 - 1 + s * 2) == (1, 2, 5, 4)


def test_group_is_a_block_of_its_own():
    net = net_of(CONV.replace("num_output: 1", "num_output: 4") % "group: 2", (1, 4, 5, 5))
    e = Pass(net).explain("conv", "data", (0, 3, 2, 2))
    assert {e.terms.top_index(t)[1] for t in range(len(e.terms))} == {2, 3}
    assert any(remark.startswith("group 1 of 2") for remark in e.remarks)


def test_1x1_shortcut_is_told():
    net = net_of(CONV.replace("kernel_size: 3", "kernel_size: 1") % "", (1, 4, 5, 5))
    assert any(
        "the column matrix is the input itself" in r for r in Pass(net).explain("conv", "data", (0, 3, 2, 2)).remarks
    )
