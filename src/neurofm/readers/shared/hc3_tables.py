"""The tables that CRCNS hc-3 keeps beside its sessions: regions and kinds of cells, what the animal did.

Columns as the data set's description gives them (Mizuseki 2014, 10.12688/f1000research.3895.2); the files have no
header row.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from neurofm.readers.input import ReaderInput
from neurofm.readers.shared.common import opening
from neurofm.recording import Unreadable

_COLUMNS = {
    "hc3-cell.csv": (
        "id", "topdir", "animal", "ele", "clu", "region", "ne", "ni", "eg", "ig", "ed", "ih", "fireRate",
        "totalFireRate", "type",
    ),
    "hc3-session.csv": ("id", "topdir", "session", "behavior", "familiarity", "duration"),
    "hc3-epos.csv": ("topdir", "animal", *(f"e{i}" for i in range(1, 17))),
}  # fmt: skip
_METRICS = ("ne", "ni", "eg", "ig", "ed", "ih", "fireRate", "totalFireRate")
_PYRAMIDAL = {"p": 1.0, "i": 0.0}


@dataclass(frozen=True, kw_only=True)
class Described:
    """What the tables say of one session; empty where they say nothing."""

    region: Mapping[tuple[int, int], str] = field(default_factory=dict)
    """By electrode and cluster."""
    shank_region: Mapping[int, str] = field(default_factory=dict)
    metrics: Mapping[tuple[int, int], Mapping[str, float]] = field(default_factory=dict)
    """``ne``, ``ed``.. by the table's names, and ``pyramidal``: 1 for type p, 0 for i, NaN for neither."""
    behavior: str = ""
    familiarity: str = ""
    duration_s: float | None = None


def described(source: ReaderInput, *, session: str) -> Described:
    """Return what the tables among the side files say of the session in the main file's folder.

    Cells are found by the folder (``topdir``, which is one placement of electrodes in one animal), the animal,
    electrode and cluster; sessions by folder and name.

    Raises
    ------
    Unreadable
        If a row has another number of columns.
    """
    topdir = source.path().parent.name
    animal = source.entry.subject.rpartition(":")[2]
    cells = [row for row in _rows(source, "hc3-cell.csv") if row["topdir"] == topdir]
    if len({row["animal"] for row in cells}) > 1:
        cells = [row for row in cells if row["animal"].startswith(animal)]
    places = next((row for row in _rows(source, "hc3-epos.csv") if row["topdir"] == topdir), {})
    about = next((r for r in _rows(source, "hc3-session.csv") if (r["topdir"], r["session"]) == (topdir, session)), {})
    by_cell = {(int(row["ele"]), int(row["clu"])): row for row in cells}
    duration_s = number(about.get("duration", ""))
    return Described(
        region={cell: row["region"] for cell, row in by_cell.items()},
        shank_region={
            int(name[1:]): place for name, place in places.items() if name[0] == "e" and name[1:].isdigit() and place
        },
        metrics={
            cell: {name: number(row[name]) for name in _METRICS}
            | {"pyramidal": _PYRAMIDAL.get(row["type"], float("nan"))}
            for cell, row in by_cell.items()
        },
        behavior=about.get("behavior", ""),
        familiarity=about.get("familiarity", ""),
        duration_s=duration_s if duration_s > 0 else None,
    )


def _rows(source: ReaderInput, name: str) -> list[dict[str, str]]:
    columns = _COLUMNS[name]
    for extra in source.entry.extra:
        path = source.root / extra
        if path.name == name:
            return _table(path, columns)
    return []


def _table(path: Path, columns: tuple[str, ...]) -> list[dict[str, str]]:
    with opening(path), path.open(encoding="utf-8-sig", newline="") as lines:
        rows = [row for row in csv.reader(lines, skipinitialspace=True) if row]
    for at, row in enumerate(rows, start=1):
        if len(row) != len(columns):
            raise Unreadable(f"{path.name}: line {at} has {len(row)} columns, expected {len(columns)}")
    return [{name: text.strip() for name, text in zip(columns, row, strict=True)} for row in rows]


def number(text: str) -> float:
    """Return a number, NaN where the text is none (``--``, empty)."""
    try:
        value = float(text)
    except ValueError:
        return float("nan")
    return value if math.isfinite(value) else float("nan")
