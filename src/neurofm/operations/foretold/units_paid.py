"""What recordings of each modality have cost here, from the receipts of every dataset."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.operations.foretold.usual import FIRST_UNIT_S
from neurofm.operations.measured import RECEIPTS
from neurofm.operations.preflight import Forecast
from neurofm.recording import Modality
from neurofm.units import read_receipts


@dataclass(frozen=True)
class UnitsPaid:
    """What one modality cost."""

    seconds_per_byte: float
    """Seconds of one process per byte of raw files, libraries already loaded."""
    peak_mb: float
    """Most that a process took, MiB."""
    bytes_each: float
    """Raw bytes of a recording in the dataset that took most."""


def units_paid(forecasts: Sequence[Forecast], *, root: Path) -> dict[Modality, UnitsPaid]:
    """Sum receipts up per modality; modalities of which nothing was run here are not in it.

    Parameters
    ----------
    forecasts
        Datasets, with their recordings and bytes.
    root
        The project's root.
    """
    seconds: defaultdict[Modality, float] = defaultdict(float)
    size: defaultdict[Modality, float] = defaultdict(float)
    peaks: defaultdict[Modality, tuple[float, float]] = defaultdict(lambda: (0.0, 0.0))
    for item in forecasts:
        costs = [
            receipt.cost
            for receipt in read_receipts(root / RECEIPTS / f"{item.dataset}.jsonl").values()
            if receipt.cost is not None
        ]
        if not costs or not item.raw_bytes or not item.recordings:
            continue
        modality = load_entry(item.dataset, root=root).modality
        each = item.raw_bytes / item.recordings
        seconds[modality] += sum(
            cost.seconds - FIRST_UNIT_S if cost.seconds > FIRST_UNIT_S else cost.seconds for cost in costs
        )
        size[modality] += each * len(costs)
        peaks[modality] = max(peaks[modality], (max(cost.peak_mb for cost in costs), each))
    return {
        modality: UnitsPaid(seconds[modality] / size[modality], *peaks[modality])
        for modality in size
        if size[modality] > 0
    }
