"""What a check finds: one line, and the command that mends it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing stops."""
    PROBLEM = "problem"
    """A run, a push or a pull would fail, or give other results than it should."""


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line of `neurofm doctor`."""

    check: str
    """Name of the check that found it; the runner fills it in."""
    verdict: Verdict
    said: str
    mend: str = ""
    """What to type, or to do where no command does it; empty where nothing is to be done."""


def ok(said: str) -> Finding:
    """Return a finding of something that is as it should be."""
    return Finding(check="", verdict=Verdict.OK, said=said)


def note(said: str, *, mend: str = "") -> Finding:
    """Return a finding of something worth knowing."""
    return Finding(check="", verdict=Verdict.NOTE, said=said, mend=mend)


def problem(said: str, *, mend: str) -> Finding:
    """Return a finding of something that stops a run, a push or a pull."""
    return Finding(check="", verdict=Verdict.PROBLEM, said=said, mend=mend)
