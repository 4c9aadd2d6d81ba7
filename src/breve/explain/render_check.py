"""A check's report as text."""

from __future__ import annotations

import io
from itertools import groupby

from rich.console import Console
from rich.text import Text

from breve.explain.findings import Finding, Report


def report(report: Report, width: int = 100, color: bool = False) -> str:
    """Layer by layer, one line a gradient; what is wrong comes first in the last line's count."""
    out = io.StringIO()
    write(report, Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False))
    return out.getvalue()


def write(report: Report, console: Console) -> None:
    """The report on a console."""
    for remark in report.remarks:
        console.print(Text(remark, style="dim"), soft_wrap=True)
    for (layer, kind), findings in groupby(report.findings, key=lambda f: (f.layer, f.type)):
        console.print(Text.assemble((layer, "bold"), f"  {kind}"), soft_wrap=True)
        lines = list(findings)
        width = max(10, *(len(f.wrt) for f in lines))
        for finding in lines:
            console.print(_line(finding, width), soft_wrap=True)
    console.print(_summary(report), soft_wrap=True)


def _line(finding: Finding, width: int) -> Text:
    mark, style = ("ok   ", "green") if finding.ok else ("WRONG", "bold red")
    return Text.assemble(
        "  ",
        (mark, style),
        f"  {finding.wrt:<{width}} {finding.what:<9} ",
        (finding.verdict, "" if finding.ok else style),
    )


def _summary(report: Report) -> Text:
    count, wrong = len(report.findings), report.wrong
    if not wrong:
        return Text(f"{count} checks, nothing wrong", style="bold green" if count else "bold")
    places = ", ".join(dict.fromkeys(f"{f.layer} ({f.wrt})" for f in wrong))
    return Text(f"{count} checks, {len(wrong)} wrong: {places}", style="bold red")
