"""What each stage of the next run will cost, and how that compared with what it did cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.operations.foretold.estimate import Known, foretell
from neurofm.operations.foretold.pending import pending
from neurofm.operations.foretold.record import Foretold, known_costs, paid_since, read_foretold, write_foretold
from neurofm.operations.foretold.tables import FAMILIES, memory_text
from neurofm.operations.foretold.units_paid import units_paid
from neurofm.operations.foretold.work import MODELS, works
from neurofm.operations.preflight import Forecast
from neurofm.operations.stage import StageCost, read_costs
from neurofm.params import Params, Site
from neurofm.units.memory import free_memory_mb, total_memory_mb

__all__ = ["StageForecast", "foretell_stages", "last_run", "memory_warnings"]


@dataclass(frozen=True, kw_only=True)
class StageForecast:
    """What the next run will cost, and what the last one did."""

    foretold: Mapping[str, Foretold]
    """Of the stages that will run."""
    kept: Mapping[str, int]
    """Bytes that each family of stages leaves on a remote."""
    before: Mapping[str, Foretold]
    paid: Mapping[str, StageCost]
    """What was foretold before, and what the stages that ran since have cost."""


def foretell_stages(params: Params, forecasts: Sequence[Forecast], *, site: Site, root: Path) -> StageForecast:
    """Foretell what the stages that `dvc repro` would run now cost, and keep it to be compared afterwards.

    Parameters
    ----------
    params, site
        Settings.
    forecasts
        What is known of the datasets (`preflight.forecast`).
    root
        The project's root; ``.neurofm/forecast.json`` in it is written.
    """
    before, costs = read_foretold(root), read_costs(root)
    known = Known.of(known_costs(before, costs), units_paid(forecasts, root=root))
    found = works(params, forecasts, runs=pending(root), site=site, root=root)
    foretold = foretell(found, known=known, site=site)
    # A stage that will not run keeps what was foretold of its last run.
    write_foretold(root, {**before, **foretold})
    return StageForecast(
        foretold=foretold, kept=_kept(forecasts, root=root), before=before, paid=paid_since(before, costs)
    )


def last_run(root: Path) -> tuple[dict[str, Foretold], dict[str, StageCost]]:
    """Return what was foretold, and what the stages that ran since have cost."""
    before = read_foretold(root)
    return before, paid_since(before, read_costs(root))


def memory_warnings(foretold: Mapping[str, Foretold], *, site: Site) -> list[str]:
    """Say which stages the memory would not hold, with the sum.

    Parameters
    ----------
    foretold
        Of the stages that will run.
    site
        Whose `workers` is what one can lower.
    """
    total, free = total_memory_mb(), free_memory_mb()
    told = []
    for item in foretold.values():
        # Recordings are let in only as long as the memory holds one more; models are trained side by side regardless.
        needed = item.peak_mb if item.family in {"preprocess", "stream"} else item.memory_mb
        if needed <= free:
            continue
        terms = f"{item.at_once} x {memory_text(item.peak_mb)} = " if needed > item.peak_mb else ""
        mend = (
            f"`workers: {max(1, int(free // item.peak_mb))}` in site.yaml"
            if needed > item.peak_mb and site.workers > 1
            else "a larger machine, or `executor: slurm` in site.yaml"
            if needed > total
            else "close other programs"
        )
        told.append(
            f"memory: {item.stage} will take about {terms}{memory_text(needed)}, "
            f"{memory_text(free)} of {memory_text(total)} are free. Mend: {mend}"
        )
    return told


def _kept(forecasts: Sequence[Forecast], *, root: Path) -> dict[str, int]:
    """Return the bytes that each family leaves on a remote, as far as they are known."""
    kept = dict.fromkeys(FAMILIES, 0)
    for item in forecasts:
        shards = item.shards or 0
        kept["stream" if item.group == "streamed" else "preprocess"] += shards
        kept["download"] += max(0, (item.kept or 0) - shards) if item.group == "datasets" else 0
    kept["pretrain"] = sum(path.stat().st_size for path in (root / MODELS).rglob("*") if path.is_file())
    return kept
