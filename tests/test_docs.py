"""What the documents say is what the source says."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

from breve.cli.main import cli
from breve.layers import LAYERS, layer_class

ROOT = Path(__file__).parent.parent


def script(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


LAYER_DOCS = script("make_layer_docs")


def test_catalogue_of_layers_is_that_of_the_source():
    assert (ROOT / "docs" / "layers.md").read_text(encoding="utf-8") == LAYER_DOCS.page(), "run `make docs`"


def test_every_layer_type_of_caffe_is_there():
    assert set(LAYER_DOCS.CAFFE) <= set(LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_docstring_of_layer_has_its_sections(name):
    summary, sections = LAYER_DOCS.read_docstring(layer_class(name))
    assert summary.endswith((".", ":"))
    assert {"Forward", "Backward", "Fields", "Source"} <= set(sections)


@pytest.mark.parametrize(
    "path", [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name
)
def test_links_between_documents_lead_somewhere(path):
    for target in re.findall(r"\]\(([^)#:]+)\)", path.read_text(encoding="utf-8")):
        assert (path.parent / target).exists(), target


def commands_in(path):
    """Every line of a code block that calls `breve`, as a list of words."""
    blocks = re.findall(r"```\n(.*?)```", path.read_text(encoding="utf-8"), flags=re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("breve ")]
    return [shlex.split(line, comments=True)[1:] for line in lines]


@pytest.mark.parametrize("words", commands_in(ROOT / "README.md"), ids=" ".join)
def test_command_in_the_readme_exists_with_its_options(words):
    command = cli.get_command(None, words[0])
    assert command is not None, words[0]
    known = {option for param in command.params for option in param.opts}
    assert {word for word in words[1:] if word.startswith("--")} <= known
