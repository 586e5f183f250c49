"""How well hidden data are reconstructed: the in-context cores beside the best fixed estimators, on real recordings.

`python -m benchmarks.cores` writes ``benchmarks/cores.json``; `python -m benchmarks.cores fmri` only does one of them.
It repeats the trials that chose the cores, on those of their recordings that are shared, subsampled to minutes of one
core: see `benchmarks.cores_fmri`, `benchmarks.cores_eeg`, `benchmarks.cores_spikes` and `benchmarks.cores_calcium` for
the protocols. Every estimator has the same masks. Intervals are of the bootstrap over subjects or sessions.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks import cores_calcium, cores_eeg, cores_fmri, cores_spikes
from benchmarks.cores_scores import Scores, interval

RESULT = Path(__file__).with_name("cores.json")
DATA = Path(os.environ.get("NEUROFM_TEST_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
PROTOCOLS: dict[str, Callable[[Path], Scores]] = {
    "fmri": cores_fmri.scores,
    "spikes": cores_spikes.scores,
    "eeg": cores_eeg.scores,
    "calcium": cores_calcium.scores,
}


def main() -> None:
    """Run the protocols named, print their scores and write them down beside those of the others."""
    torch.set_num_threads(1)
    for name in sys.argv[1:] or PROTOCOLS:
        found = PROTOCOLS[name](DATA)
        made = []
        for (case, unit), each in found.items():
            print(f"\n{case} ({len(next(iter(each.values())))} units of the bootstrap)")
            best = each[list(each)[-1]]
            for who, values in each.items():
                low, high = interval(values)
                gain = np.asarray(best) - np.asarray(values)
                versus = (
                    ""
                    if values is best
                    else "  last - this {:+.3f} [{:+.3f}, {:+.3f}]".format(gain.mean(), *interval(gain))
                )
                print(f"  {who:42s} {np.mean(values):.3f} [{low:.3f}, {high:.3f}]{versus}")
                value = round(float(np.mean(values)), 4)
                made.append({"case": case, "who": who, "value": value, "unit": unit, "higher_is_better": True})
        cases = {row["case"] for row in made}
        rows = json.loads(RESULT.read_text()) if RESULT.exists() else []
        rows = [row for row in rows if row["case"] not in cases] + made
        RESULT.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
