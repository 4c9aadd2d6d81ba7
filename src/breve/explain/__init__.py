"""One number of a gradient unfolded into the sum that made it, derived three ways, and checked.

The package is its own main function: `breve.explain(net, layer, wrt, at)` gives an `Explanation`. `check` holds every
gradient of a net against differences, `write_page` writes the HTML page.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import Any

from breve.explain.check import check
from breve.explain.findings import Finding, Report
from breve.explain.model import Explanation
from breve.explain.unfold import explain

__all__ = ["Explanation", "Finding", "Report", "check", "explain"]


class _Callable(ModuleType):
    """The module as a function, so that `breve.explain` is both."""

    def __call__(self, *args: Any, **options: Any) -> Explanation:
        return explain(*args, **options)


sys.modules[__name__].__class__ = _Callable
