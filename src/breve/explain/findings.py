"""What a check found: one finding for each gradient, pass and rule, and the report of all."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from breve.explain.model import Index


@dataclass(frozen=True)
class Finding:
    """A verdict in words on one gradient of one layer.

    `what` is "gradient" (against differences, in float64), "rule" (diffs overwritten or added, ties given to one),
    "engine" (the net's own dtype and algorithm against float64) or "net" (the loss through all layers). `error` is
    relative to the largest value; `index`, `analytic` and `numeric` name the first wrong element.
    """

    layer: str
    type: str
    wrt: str
    what: str
    verdict: str
    ok: bool = True
    error: float = 0.0
    index: Index | None = None
    analytic: float | None = None
    numeric: float | None = None
    algorithm: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "layer": self.layer,
            "type": self.type,
            "wrt": self.wrt,
            "what": self.what,
            "verdict": self.verdict,
            "ok": self.ok,
            "error": self.error,
            "index": None if self.index is None else list(self.index),
            "analytic": self.analytic,
            "numeric": self.numeric,
            "algorithm": self.algorithm,
        }


@dataclass
class Report:
    """All findings of one check, and what is to be said of the whole."""

    findings: list[Finding] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return all(f.ok for f in self.findings)

    @property
    def wrong(self) -> list[Finding]:
        """The findings that are wrong."""
        return [f for f in self.findings if not f.ok]

    def to_json(self) -> dict[str, Any]:
        """As plain values for `json.dump`."""
        return {"ok": self.ok, "remarks": self.remarks, "findings": [f.to_json() for f in self.findings]}

    def to_text(self, width: int = 100) -> str:
        """As the terminal shows it."""
        from breve.explain.render_check import report

        return report(self, width)

    def __str__(self) -> str:
        return self.to_text()
