"""What only reads scores starts without what makes them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HEAVY = ("torch", "sklearn", "scipy.stats", "nilearn")


def test_the_report_loads_nothing_that_makes_scores() -> None:
    code = f"import sys, neurofm.report.build; print(*(name for name in {HEAVY} if name in sys.modules))"
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run(
        [sys.executable, "-c", code], env={"PYTHONPATH": str(source)}, check=True, capture_output=True, text=True
    )
    assert done.stdout.split() == []
