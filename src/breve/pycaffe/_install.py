"""Standing in for the `caffe` package: `import caffe` gives breve's."""

from __future__ import annotations

import sys

from breve.layers import python


def install_as_caffe() -> None:
    """Make `import caffe` give `breve.pycaffe`, in this process, and allow Python layers, as Caffe does.

    For scripts written for Caffe: call it before they run.

    >>> install_as_caffe()
    >>> import caffe
    >>> caffe.__name__
    'breve.pycaffe'
    """
    package = sys.modules["breve.pycaffe"]
    sys.modules["caffe"] = package
    allow_python_layers()


def allow_python_layers() -> None:
    """Let prototxts name Python modules whose layers are run; the modules' own `import caffe` gives `breve.pycaffe`.

    A Caffe that has already been imported is left in place. Only for prototxts that you trust.
    """
    sys.modules.setdefault("caffe", sys.modules["breve.pycaffe"])
    python.allow_python_layers()
