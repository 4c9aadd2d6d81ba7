"""The page in a headless Chromium: clicks, keys, numbers equal to the engine's, no word on the console."""

import itertools
import re
from collections import Counter

import numpy as np
import pytest

from breve.explain.page import render, write_demo_page, write_page
from breve.explain.page.arrays import block_around, encoded
from breve.explain.unfold import Pass
from explain.browser import chromium
from explain.nets import net_of

MANY = """
layer { name: "conv" type: "Convolution" bottom: "x" top: "conv"
    convolution_param { num_output: 6 kernel_size: 3 stride: 2 pad: 1 group: 2 } }
layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" }
layer { name: "scale" type: "Scale" bottom: "conv" top: "conv" scale_param { bias_term: true } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "dw" type: "ConvolutionDepthwise" bottom: "conv" top: "dw"
    convolution_param { num_output: 6 kernel_size: 3 pad: 2 dilation: 2 } }
layer { name: "add" type: "Eltwise" bottom: "conv" bottom: "dw" top: "add" }
layer { name: "lrn" type: "LRN" bottom: "add" top: "lrn" lrn_param { local_size: 3 alpha: 2 } }
layer { name: "up" type: "Deconvolution" bottom: "lrn" top: "up"
    convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 } }
layer { name: "pool" type: "Pooling" bottom: "up" top: "pool" pooling_param { kernel_size: 3 stride: 2 } }
layer { name: "mean" type: "Pooling" bottom: "up" top: "mean"
    pooling_param { pool: AVE kernel_size: 3 stride: 2 } }
layer { name: "cat" type: "Concat" bottom: "pool" bottom: "mean" top: "cat" }
layer { name: "drop" type: "Dropout" bottom: "cat" top: "drop" }
layer { name: "ip" type: "InnerProduct" bottom: "drop" top: "ip" inner_product_param { num_output: 5 } }
layer { name: "loss" type: "SoftmaxWithLoss" bottom: "ip" bottom: "label" top: "loss" }
layer { name: "accuracy" type: "Accuracy" bottom: "ip" bottom: "label" top: "accuracy" }
"""
LABELS = """layer { name: "l" type: "DummyData" top: "label"
    dummy_data_param { data_filler { value: 2 } shape { dim: 3 } } }"""

CONV = 'layer { name: "%s" type: "Convolution" bottom: "x" top: "y" convolution_param { %s } }'


@pytest.fixture(scope="module")
def run():
    net = net_of(LABELS + MANY, (3, 4, 9, 8), seed=4)
    net.forward()
    return Pass(net)


@pytest.fixture(scope="module")
def page(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "page.html"
    write_page(run, path, layer="conv", wrt="data", at=(0, 1, 4, 3))
    return path


@pytest.fixture(scope="module")
def browser(page):
    with chromium() as browser:
        browser.open(page)
        yield browser


def targets(run):
    rng = np.random.default_rng(0)
    for number, record in run.records.items():
        e = run.explainer(number)
        if not e.gradient:
            continue
        names = [f"data{i or ''}" for i, flows in enumerate(record.propagate_down) if flows]
        names += [n for i, n in enumerate(["weights", "bias"][: len(record.param_data)]) if e.learns(i)]
        for name in names:
            diff = (
                record.param_diff[name == "bias"]
                if name in ("weights", "bias")
                else record.bottom_diff[int(name[4:] or 0)]
            )
            for _ in range(3):
                yield record.layer.name, name, tuple(int(rng.integers(d)) for d in diff.shape)


def test_numbers_on_the_page_are_the_engines_for_every_layer(run, browser):
    for layer, wrt, index in targets(run):
        browser.go(layer, wrt, index)
        e = run.explain(layer, wrt, index)
        where = f"{layer} {wrt} {index}"
        assert np.float32(browser.text("#value")) == np.float32(e.value), where
        assert float(browser.text("#sum-value")) == e.sum, where
        assert browser.text("#sum-title") == f"The sum: {len(e.terms)} {'term' if len(e.terms) == 1 else 'terms'}", (
            where
        )
        assert browser.text("#cell-name").startswith({"data": "dX", "weights": "dW", "bias": "db"}.get(wrt, "d ")), (
            where
        )
        shown = browser.run(
            "return Object.fromEntries([...document.querySelectorAll('[data-derivation]')]"
            ".map((d) => [d.dataset.derivation, d.querySelector('.number').textContent]))"
        )
        for name, value in shown.items():
            assert float(value) == pytest.approx(e.derivations[name].value, rel=1e-12, abs=1e-15), f"{where} {name}"
        if e.type in ("Convolution", "ConvolutionDepthwise", "Deconvolution") and wrt != "bias":
            assert set(shown) == {"chain_rule", "rotated_kernel", "gemm_col2im"}, where
        lost = [text.split(":")[0] for text in browser.texts("#sum .remarks li") if " lost to " in text]
        assert sorted(lost) == sorted(f"{n} lost to {why}" for why, n in Counter(x.reason for x in e.lost).items())
    assert browser.errors() == []


def test_terms_in_the_table_are_those_of_the_explanation(run, browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    e = run.explain("conv", "data", (0, 1, 4, 3))
    rows = browser.run(
        "return [...document.querySelectorAll('.terms tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    assert len(rows) == len(e.terms)
    for t, row in enumerate(rows):
        assert row[1] == f"[{', '.join(map(str, e.terms.top_index(t)))}]"
        assert np.float32(row[2]) == e.terms.top_diff[t]
        assert row[3] == f"[{', '.join(map(str, e.terms.factor_index(t)))}]"
        assert np.float32(row[4]) == e.terms.factor[t]


def test_click_on_a_cell_chooses_it_and_lights_its_terms(run, browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    browser.click_cell("bottom", 6, 2)
    assert browser.text("#cell-name").startswith("dX[0, 1, 6, 2] of conv")
    assert np.float32(browser.text("#value")) == run.records[run.number("conv")].bottom_diff[0][0, 1, 6, 2]
    marks = browser.run("return document.querySelector('[data-side=top] .heatmap').dataset.marks")
    e = run.explain("conv", "data", (0, 1, 6, 2))
    assert int(marks) == len({e.terms.top_index(t)[2:] for t in range(len(e.terms))})


def test_click_on_weight_and_bias_and_on_the_layer_above(run, browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    browser.click_cell("param", 2, 1)
    title = browser.text("#cell-name")
    assert re.match(r"dW\[\d, \d, 2, 1\] of conv", title), title
    browser.run(
        "[...document.querySelectorAll('[data-side=param] .names button')]"
        ".find((b) => b.textContent === 'bias').click()"
    )
    browser.click_cell("param", 0, 1)
    assert browser.text("#cell-name").startswith("db[1] of conv")
    browser.go("conv", "data", (0, 1, 4, 3))
    browser.click_cell("top", 1, 1)
    assert re.match(r"dX\[0, \d, 1, 1\] of bn", browser.text("#cell-name"))


def test_layer_is_chosen_in_the_picture_by_click_and_key(browser):
    browser.run("document.querySelector('[data-layer=pool]').dispatchEvent(new MouseEvent('click'))")
    assert "of pool (Pooling)" in browser.text("#cell-name")
    browser.press(
        "[data-layer=pool]",
        "ARROW_RIGHT",
    )
    assert browser.run("return document.activeElement.dataset.layer") == "mean"
    browser.press("[data-layer=ip]", "ENTER")
    assert "of ip (InnerProduct)" in browser.text("#cell-name")
    browser.press("[data-layer=accuracy]", "ENTER")
    assert "does not change with small changes" in browser.text("#notice")


def test_heat_map_by_keyboard(browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    browser.press("[data-side=bottom] .heatmap", "ARROW_DOWN", "ARROW_RIGHT", "ENTER")
    assert browser.text("#cell-name").startswith("dX[0, 1, 5, 4]")
    assert browser.run("return document.activeElement.className") == "heatmap"
    browser.press("[data-side=bottom] .heatmap", "PAGE_DOWN", "ENTER")
    assert browser.text("#cell-name").startswith("dX[0, 2, ")
    assert "dX[0, 2" in browser.text("#live")


def test_channel_is_found_by_its_number(browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    browser.run(
        "const input = document.querySelector('[data-side=top] .selectors label:nth-child(2) input');"
        "input.value = 2; input.dispatchEvent(new Event('change'))"
    )
    assert browser.text("[data-side=top] .readout").startswith("dY[0, 2, ")


def test_the_way_leads_to_the_loss(browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    stations = browser.texts("#way .station")
    assert stations[0].startswith("x[0, 1, 4, 3] diff")
    assert stations[-1] == "loss[] diff 1 → the objective"
    browser.run("document.querySelectorAll('#way button')[3].click()")
    assert "of relu (ReLU)" in browser.text("#cell-name")


def test_formula_is_text_and_the_numeric_derivative_is_told(browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    alternative = browser.run("return document.querySelector('#sum math').getAttribute('alttext')")
    assert alternative.startswith("dX[n, c, h, w] = sum over")
    assert "agrees (to" in browser.text("#numeric")
    assert "was taken for" not in browser.text("#proof")
    assert browser.errors() == []


def test_another_cell_says_where_the_numeric_derivative_was_taken(browser):
    browser.go("conv", "data", (0, 2, 4, 3))
    assert "was taken for the cell that this page was written for, dX[0, 1, 4, 3] of conv" in browser.text("#proof")
    browser.run("document.querySelector('#proof button').click()")
    assert browser.text("#cell-name").startswith("dX[0, 1, 4, 3] of conv")


def test_groups_are_shown_as_blocks_of_the_weight_matrix(browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    blocks = "[...document.querySelectorAll('[data-derivation=gemm_col2im] table')].at(-1)"
    rows = f"return [...{blocks}.querySelectorAll('tbody tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    assert browser.run(rows) == [["k 0–2", "54", "0"], ["k 3–5", "0", "54"]]
    assert browser.run(f"return {blocks}.querySelector('.marked').textContent") == "54"


def test_exponents_of_symbols_are_raised(browser):
    browser.go("conv", "data", (0, 1, 4, 3))
    assert browser.run("return document.querySelector('#texts th[scope=row]').innerHTML") == "a<sup>l−1</sup>, x"


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [360, 768, 1280])
def test_page_fits_every_width_in_light_and_dark(page, width, dark):
    with chromium(width, 900, dark) as browser:
        browser.open(page)
        assert browser.run("return document.documentElement.scrollWidth") <= width
        paper = browser.run("return getComputedStyle(document.documentElement).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 200) == dark
        assert browser.errors() == []


def test_page_of_a_large_layer_holds_the_cells_around_the_chosen_one(tmp_path):
    run = Pass(net_of(CONV % ("big", "num_output: 300 kernel_size: 3 pad: 1"), (1, 200, 40, 40)))
    path = tmp_path / "big.html"
    write_page(run, path, layer="big", wrt="data", at=(0, 150, 20, 21), cells=200_000)
    assert path.stat().st_size < 4_000_000
    e = run.explain("big", "data", (0, 150, 20, 21))
    with chromium() as browser:
        browser.open(path)
        assert float(browser.text("#sum-value")) == e.sum
        assert browser.text("#sum-title") == "The sum: 2,700 terms"
        browser.go("big", "data", (0, 3, 0, 0))
        assert "is not on this page: breve explain" in browser.text("#notice") or "Not all terms" in browser.text(
            "#sum"
        )
        assert browser.errors() == []


def test_other_images_of_a_batch_are_added_in_one_number(tmp_path):
    run = Pass(net_of(CONV % ("c", "num_output: 3 kernel_size: 3"), (9, 2, 6, 6)))
    write_page(run, tmp_path / "p.html", layer="c", wrt="weights", at=(1, 1, 2, 0))
    e = run.explain("c", "weights", (1, 1, 2, 0))
    with chromium() as browser:
        browser.open(tmp_path / "p.html")
        assert np.float32(browser.text("#value")) == np.float32(e.value)
        assert float(browser.text("#sum-value")) == pytest.approx(e.sum, rel=1e-12)
        assert "The other 5 images of the batch" in browser.text("#sum .notice")
        derived = browser.texts("#derivations .value")
        assert len(derived) == 3
        assert [float(value) for value in derived] == pytest.approx([e.sum] * 3, rel=1e-12)


def test_other_images_of_a_batch_that_is_normalised_together_are_added(tmp_path):
    run = Pass(net_of('layer { name: "bn" type: "BatchNorm" bottom: "x" top: "y" }', (9, 2, 3, 3)))
    write_page(run, tmp_path / "p.html", layer="bn", wrt="data", at=(7, 1, 2, 0))
    e = run.explain("bn", "data", (7, 1, 2, 0))
    with chromium() as browser:
        browser.open(tmp_path / "p.html")
        assert float(browser.text("#sum-value")) == pytest.approx(e.sum, rel=1e-12)
        assert browser.text("#sum-title") == "The sum: 36 terms"
        assert "The other 5 images of the batch" in browser.text("#sum .notice")
        assert browser.errors() == []


def test_page_written_for_a_layer_without_a_gradient_says_why_and_shows_another(run, tmp_path):
    write_page(run, tmp_path / "p.html", layer="accuracy", wrt="data", at=(0, 0))
    with chromium() as browser:
        browser.open(tmp_path / "p.html")
        assert "does not change with small changes" in browser.text("#notice")
        assert "of conv (Convolution)" in browser.text("#cell-name")
        assert browser.errors() == []


def test_demo_page_opens_at_a_convolution(tmp_path):
    net = net_of(LABELS + MANY, (3, 4, 9, 8), seed=4)
    net.forward()
    write_demo_page(net, tmp_path / "demo.html")
    text = (tmp_path / "demo.html").read_text()
    assert '"layer":"conv"' in text
    assert list(tmp_path.iterdir()) == [tmp_path / "demo.html"]


def test_names_from_the_prototxt_cannot_become_markup():
    hostile = "</script><script>alert(1)</script>/*{data}*/"
    document = render({"net": {"name": hostile}})
    assert "<script>alert" not in document
    assert document.count("</script>") == 2


def test_page_asks_for_nothing_from_outside(page):
    text = page.read_text()
    assert "default-src 'none'" in text
    assert not re.search(r"(src|href)\s*=\s*[\"'](?!data:)", text.split('<script type="application/json"')[0])
    assert not re.search(r"fetch\(|XMLHttpRequest|import\(|https?://(?!www\.w3\.org)", text)


@pytest.mark.parametrize(
    ("shape", "centre", "limit"), [((5, 7, 9), (4, 0, 8), 50), ((300, 200, 3, 3), (10, 199, 1, 1), 9000)]
)
def test_blocks_hold_their_centre_and_keep_to_the_limit(shape, centre, limit):
    for order in itertools.permutations([(0,), (1,), range(2, len(shape))]):
        block = block_around(shape, centre, limit, order)
        assert all(s.start <= c < s.stop <= d for s, c, d in zip(block, centre, shape, strict=True))
        assert np.prod([s.stop - s.start for s in block]) <= limit * 1.34


def test_arrays_are_written_little_endian():
    assert encoded(np.array([1.0], ">f4")) == encoded(np.array([1.0], "<f4")) == "AACAPw=="
