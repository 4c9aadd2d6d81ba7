"""Write docs/layers.md from the docstrings of the layers and their first cases in the table of tests (`make docs`)."""

import inspect
import re
import sys
from pathlib import Path

from breve.layers import LAYERS, layer_class
from breve.proto import LayerParameter
from breve.proto.text import parse, to_text

ROOT = Path(__file__).resolve().parent.parent
SECTIONS = ("Forward", "Backward", "Blobs", "Params", "Fields", "Errors", "Source")

CAFFE = """AbsVal Accuracy ArgMax BatchNorm BatchReindex Bias BNLL Clip Concat ContrastiveLoss Convolution Crop Data
Deconvolution Dropout DummyData Eltwise ELU Embed EuclideanLoss Exp Filter Flatten HDF5Data HDF5Output HingeLoss Im2col
ImageData InfogainLoss InnerProduct Input Log LRN LSTM MemoryData MultinomialLogisticLoss MVN Parameter Pooling Power
PReLU Python Reduction ReLU Reshape RNN Scale Sigmoid SigmoidCrossEntropyLoss Silence Slice Softmax SoftmaxWithLoss
Split SPP Swish TanH Threshold Tile WindowData""".split()  # noqa: SIM905

HEAD = """# The layers

Every layer type that a prototxt may name. In formulas x is the bottom's data, y the top's, dx and dy their diffs.
A field is followed by its default. This page is made from the source by `make docs`.
"""


def page() -> str:
    """The whole of docs/layers.md."""
    groups = (
        ("Caffe's own", [name for name in LAYERS if name in CAFFE]),
        ("From forks of Caffe", [name for name in LAYERS if name not in CAFFE]),
    )
    contents = "\n".join(f"- {title}: " + ", ".join(f"[{n}](#{n.lower()})" for n in names) for title, names in groups)
    entries = "\n".join(entry(name) for _, names in groups for name in names)
    return f"{HEAD}\n{contents}\n\n{entries}"


def entry(name: str) -> str:
    """A layer's entry: its docstring, section by section, and an example."""
    summary, sections = read_docstring(layer_class(name))
    text = "\n".join(f"- **{title}.** {sections[title]}" for title in SECTIONS if title in sections)
    return f"## {name}\n\n{summary}\n\n{text}\n\n```\n{example(name)}```\n"


def read_docstring(layer: type) -> tuple[str, dict[str, str]]:
    """The first paragraph, and the text of each section."""
    summary, _, rest = (inspect.getdoc(layer) or "").partition("\n\n")
    parts = re.split(rf"^({'|'.join(SECTIONS)}): ", rest, flags=re.MULTILINE)
    return flowing(summary), {title: flowing(text) for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def flowing(text: str) -> str:
    """The text on one line; what Markdown would read as its own marks is escaped."""
    words = " ".join(text.split())
    return "`".join(re.sub(r"([*<])", r"\\\1", part) if i % 2 == 0 else part for i, part in enumerate(words.split("`")))


def example(name: str) -> str:
    """A layer as a prototxt writes it: the first case of the table of tests."""
    sys.path.insert(0, str(ROOT / "tests"))
    from layers.table import CASES

    case = next((case for case in CASES if case.type == name), None)
    inside = case.prototxt if case else f'type: "{name}"'
    bottoms = [f"x{i}" if i else "x" for i in range(len(case.bottoms))] if case else []
    tops = [f"y{i}" if i else "y" for i in range(case.tops)] if case else ["y"]
    layer = parse(f'name: "{name.lower()}" {inside}', LayerParameter)
    layer.bottom.extend(bottoms)
    layer.top.extend(tops)
    text = re.sub(r'"[^"]*/([^"/]+/?)"', r'"path/to/\1"', to_text(layer))  # the tests' files are temporary
    return "layer {\n" + "".join(f"  {line}\n" for line in text.splitlines()) + "}\n"


if __name__ == "__main__":
    (ROOT / "docs" / "layers.md").write_text(page(), encoding="utf-8")
