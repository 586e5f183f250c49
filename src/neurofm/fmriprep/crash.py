"""nipype's crash files: which node failed, and with what."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

_BYTES = 1 << 16
_LONGEST = 300
_UNKNOWN = "unknown node"


@dataclass(frozen=True, kw_only=True)
class Crash:
    """What a crash file says."""

    node: str
    """The last two parts of the node's name: the workflow and the step."""
    error: str
    """The last line of its traceback, as one line."""


def read_crash(path: Path) -> Crash:
    """Read a crash file; one that cannot be read says so in its place."""
    try:
        with path.open("rb") as file:
            head = file.read(_BYTES).decode(errors="replace")
            file.seek(max(0, path.stat().st_size - _BYTES))
            tail = file.read().decode(errors="replace")
    except OSError as error:
        return Crash(node=_UNKNOWN, error=f"{path.name}: {error.strerror}")
    named = next((line.partition(":")[2].strip() for line in head.splitlines() if line.startswith("Node:")), "")
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    last = _plain(lines[-1]) if lines else "it says nothing"
    return Crash(node=_plain(".".join(named.split(".")[-2:])) or _UNKNOWN, error=last)


def _plain(text: str) -> str:
    """Return text that a terminal shows and does not obey, of a bearable length."""
    return "".join(sign if sign.isprintable() else " " for sign in text)[:_LONGEST].rstrip(".")
