"""How forecasts look: what each stage will cost, and what it did cost."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

from rich.table import Table

from neurofm.operations.foretold.record import Foretold
from neurofm.operations.stage import StageCost
from neurofm.operations.tables import count_text, size_text, table
from neurofm.params import Site

FAMILIES = (
    *("manifest", "download", "derivatives", "preprocess", "stream"),
    *("split", "pretrain", "finetune", "evaluate", "connectivity", "slice", "report"),
)
"""Stages of ``dvc.yaml`` without their datasets, in their order."""
_RIGHT: Literal["right"] = "right"


def stage_table(foretold: Mapping[str, Foretold], *, kept: Mapping[str, int], site: Site, width: int) -> Table:
    """Render what each stage will cost, those of all datasets together; ``~`` marks usual figures.

    Parameters
    ----------
    foretold
        Of the stages that will run.
    kept
        Bytes that each of `FAMILIES` leaves on a remote.
    site
        Prices.
    width
        Columns of the terminal.
    """
    paid = site.price_per_hour > 0
    names = ("runs", "time", "RAM", "files", "disk", "per month", *(("compute",) if paid else ()))
    made = table("stage", *((name, _RIGHT) for name in names), width=width)
    for family in FAMILIES:
        rows = [item for item in foretold.values() if item.family == family]
        if rows or kept.get(family):
            made.add_row(family, *_cells(rows, kept=kept.get(family, 0), site=site))
    made.add_section()
    made.add_row("all", *_cells(list(foretold.values()), kept=sum(kept.values()), site=site), style="bold")
    return made


def _cells(rows: Sequence[Foretold], *, kept: int, site: Site) -> list[str]:
    """Return the numbers of some stages: sums, and the largest memory, since they run one after the other."""
    price = money_text(kept / 1e9 * site.price_per_gb_month)
    paid = site.price_per_hour > 0
    if not rows:
        return ["-", "-", "-", "-", "-", price, *(("-",) if paid else ())]
    about = "" if all(item.measured for item in rows) else "~"
    seconds = sum(item.seconds for item in rows)
    written = [item.written for item in rows]
    return [
        str(len(rows)),
        f"{about}{time_text(seconds)}",
        f"{about}{memory_text(max(item.memory_mb for item in rows))}",
        _at_least(count_text(sum(item.files or 0 for item in rows)), [item.files for item in rows]),
        _at_least(size_text(sum(size or 0 for size in written)), written),
        price,
        *((money_text(seconds / 3600 * site.price_per_hour),) if paid else ()),
    ]


def compare_table(foretold: Mapping[str, Foretold], paid: Mapping[str, StageCost], *, width: int) -> Table:
    """Render what was foretold beside what was paid, for the stages that ran since.

    Parameters
    ----------
    foretold, paid
        By stage; those in `paid` are shown (`record.paid_since`).
    width
        Columns of the terminal.
    """
    names = ("runs", "foretold", "paid", "ratio", "RAM foretold", "paid", "ratio")
    made = table("stage", *((name, _RIGHT) for name in names), width=width)
    for family in (*FAMILIES, "all"):
        ran = [name for name in paid if family in {foretold[name].family, "all"}]
        if not ran:
            continue
        if family == "all":
            made.add_section()
        seconds = sum(foretold[name].seconds for name in ran), sum(paid[name].seconds for name in ran)
        peaks = max(foretold[name].peak_mb for name in ran), max(paid[name].peak_mb for name in ran)
        made.add_row(
            family,
            str(len(ran)),
            *(time_text(one) for one in seconds),
            ratio_text(*seconds),
            *(memory_text(one) for one in peaks),
            ratio_text(*peaks),
            style="bold" if family == "all" else "",
        )
    return made


def last_line(foretold: Mapping[str, Foretold], paid: Mapping[str, StageCost]) -> str:
    """Say in one line how good the last forecast was; empty where nothing ran since."""
    if not paid:
        return ""
    seconds = sum(foretold[name].seconds for name in paid), sum(cost.seconds for cost in paid.values())
    return (
        f"Last run of {len(paid)} stages: {time_text(seconds[0])} foretold, {time_text(seconds[1])} paid "
        "(neurofm preflight --compare)"
    )


def stage_facts(foretold: Mapping[str, Foretold], paid: Mapping[str, StageCost]) -> list[dict[str, object]]:
    """Return both as plain data, a stage each."""
    return [
        item.model_dump(exclude={"paid"})
        | {"paid": paid[name].model_dump() if name in paid else None, "memory_mb": item.memory_mb}
        for name, item in sorted(foretold.items())
    ]


def time_text(seconds: float) -> str:
    """Render a duration: ``12 s``, ``3.5 min``, ``2.4 h``, ``13 d``."""
    for most, unit, name in ((90, 1, "s"), (5400, 60, "min"), (172_800, 3600, "h")):
        if seconds < most:
            value = seconds / unit
            return f"{value:.0f} {name}" if unit == 1 or value >= 10 else f"{value:.1f} {name}"
    return f"{seconds / 86_400:.0f} d"


def memory_text(mb: float) -> str:
    """Render MiB as GiB: ``0.2 GB``."""
    return f"{mb / 1024:.1f} GB"


def money_text(price: float) -> str:
    """Render a price, in whatever currency site.yaml has."""
    return f"{price:,.2f}".replace(",", " ")


def ratio_text(foretold: float, paid: float) -> str:
    """Render how much more was foretold than paid."""
    return f"{foretold / paid:.2f}" if paid > 0 else "-"


def _at_least(text: str, values: Iterable[object]) -> str:
    return f">{text}" if None in values else text
