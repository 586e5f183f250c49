"""`neurofm doctor`: what is wrong with this machine or this project, and what to type to mend it."""

from __future__ import annotations

import json
import textwrap
from dataclasses import asdict
from pathlib import Path

import typer
from rich.text import Text

from neurofm.cli.common import AsJson
from neurofm.operations.doctor import Finding, Place, Verdict, examine
from neurofm.operations.tables import console, counted

app = typer.Typer()

_STYLES = {Verdict.OK: "green", Verdict.NOTE: "yellow", Verdict.PROBLEM: "bold red"}
_NAME_WIDTH = 12
_INDENT = 21


@app.command()
def doctor(as_json: AsJson = False) -> None:
    """Check this machine and this project, and say what to type where something is amiss."""
    findings = examine(Place.at(Path()))
    problems = sum(finding.verdict is Verdict.PROBLEM for finding in findings)
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=1))
    else:
        out = console()
        for finding in findings:
            out.print(_lines(finding, width=out.width), soft_wrap=True)
        notes = sum(finding.verdict is Verdict.NOTE for finding in findings)
        told = counted(problems, "problem") if problems else "Nothing stops a run"
        out.print(f"{told}; {counted(notes, 'note')}.")
    if problems:
        raise typer.Exit(1)


def _lines(finding: Finding, *, width: int) -> Text:
    """Render a finding: its verdict, what it is about, what was found; the mend below."""
    text = Text(f"{finding.verdict.value:<9}", style=_STYLES[finding.verdict])
    text.append(f"{finding.check:<{_NAME_WIDTH}}", style="bold")
    room = max(30, width - _INDENT)
    told = textwrap.wrap(finding.said, room, break_on_hyphens=False)
    text.append(f"\n{' ' * _INDENT}".join(told), style="default")
    if finding.mend:
        # Not wrapped: what is copied from the terminal is one command.
        text.append(f"\n{' ' * _INDENT}> {finding.mend}", style="cyan")
    return text
