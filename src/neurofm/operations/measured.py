"""What runs of this project have cost so far: by stage, by recording, by modality."""

from __future__ import annotations

from pathlib import Path

from neurofm.operations.stage import read_costs
from neurofm.units import read_receipts

RECEIPTS = Path("data/receipts")


def largest_mb(root: Path) -> tuple[float, str]:
    """Return the most that one process took, MiB, and what it did; 0 before anything ran."""
    taken = [(cost.peak_mb, f"stage {name}") for name, cost in read_costs(root).items()]
    for path in sorted((root / RECEIPTS).glob("*.jsonl")):
        taken += [
            (receipt.cost.peak_mb, f"{path.stem}: {unit}")
            for unit, receipt in read_receipts(path).items()
            if receipt.cost is not None
        ]
    return max(taken, default=(0.0, ""))
