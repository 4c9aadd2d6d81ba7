"""The tables and figures of the page on backpropagation are what `breve explain` says, in both languages."""

import importlib.util
import re
from pathlib import Path

import pytest

from breve.explain.check import check
from breve.explain.unfold import Pass

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / "backpropagation.md", ROOT / "docs" / "backpropagation.zh.md"]


@pytest.fixture(scope="module")
def maker():
    path = ROOT / "scripts" / "make_backpropagation_docs.py"
    spec = importlib.util.spec_from_file_location("make_backpropagation_docs", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_tables_and_figures_are_up_to_date(maker):
    for path, text in maker.outputs().items():
        assert path.read_text(encoding="utf-8") == text, f"{path}: run scripts/make_backpropagation_docs.py"


def test_both_languages_show_the_same_things():
    english, chinese = (page.read_text(encoding="utf-8") for page in PAGES)
    for pattern in (r"<!-- explain: .+? -->", r"figures/[\w-]+\.svg", r"(?m)^#+ ", r"```\w*\n.*?```"):
        assert re.findall(pattern, english, re.DOTALL) == re.findall(pattern, chinese, re.DOTALL), pattern


def test_every_figure_exists():
    for page in PAGES:
        for name in re.findall(r"\((figures/[^)]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent / name).is_file()


def test_numbers_in_the_text_are_those_of_the_net(maker):
    run: Pass = maker.explained()
    pixel = run.explain("conv", "data", (0, 0, 3, 2))
    products = pixel.terms.product
    assert len(products) == 9
    assert (pixel.terms.top_diff == 0).sum() == 7
    negative = run.records[run.number("relu")].bottom_data[0][0, 0, 2:, 2:]
    assert (negative < 0).all()
    assert run.explain("pool", "data", (0, 0, 2, 2)).value == 6
    assert run.explain("relu", "data", (0, 0, 2, 2)).value == 0
    assert check(run.net).ok
