"""Solvers whose nets are pycaffe's."""

from __future__ import annotations

from typing import Any

from breve import solvers
from breve.pycaffe._net import Net
