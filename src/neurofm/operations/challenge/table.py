"""Table: predictions window by window, beside the truth, as a CSV that any program may write."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from neurofm.errors import UserError
from neurofm.evaluation.challenge import EXTERNALIZING, RESPONSE_TIME, Predictions, Score, overall, score
from neurofm.files import write_atomic
from neurofm.operations.challenge.examples import Examples

COLUMNS = ("target", "recording", "subject", "start_s", "truth", "predicted", "null")
BOOTSTRAP, SEED = 1000, 0

Said = tuple[str, Examples, npt.NDArray[np.floating]]
"""Target, windows, and [window] what is said of them."""


def write_table(said: Iterable[Said], out: Path, *, nulls: Mapping[str, float]) -> int:
    """Write predictions, with what the null says of each target; return the number of windows."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    count = 0
    for target, part, predicted in said:
        for start, truth, value in zip(part.start_s.tolist(), part.truth.tolist(), predicted.tolist(), strict=True):
            known = (target, part.recording, part.subject, f"{start:.4f}", repr(truth))
            writer.writerow((*known, f"{value:.7g}", f"{nulls[target]:.7g}"))
            count += 1
    write_atomic(out, text.getvalue().encode())
    return count


def score_table(path: Path) -> list[Score]:
    """Score a table that `write_table` wrote, or that has its columns.

    Parameters
    ----------
    path
        CSV with at least ``target``, ``subject``, ``truth`` and ``predicted``; targets may be any of the factors. What
        the null says stands in ``null``; without it, it is the mean of what is scored, which flatters the null.

    Raises
    ------
    UserError
        If it cannot be read, or is empty.
    """
    found = _read(path)
    scores = [one for of in found.values() for one in score(of, samples=BOOTSTRAP, seed=SEED)]
    if {RESPONSE_TIME, EXTERNALIZING} <= found.keys():
        scores.append(overall(found[RESPONSE_TIME], found[EXTERNALIZING], samples=BOOTSTRAP, seed=SEED))
    return scores


def _read(path: Path) -> dict[str, Predictions]:
    """Read the windows per target, in the table's order."""
    rows: dict[str, list[tuple[float, float, float, str]]] = {}
    try:
        with path.open(encoding="utf-8", newline="") as file:
            for number, row in enumerate(csv.DictReader(file), start=2):
                try:
                    values = float(row["truth"]), float(row["predicted"]), float(row.get("null") or "nan")
                    target, subject = row["target"], row["subject"]
                except (KeyError, ValueError, TypeError) as error:
                    raise UserError(
                        f"{path}: line {number}: {error}.", mend=f"give the columns {', '.join(COLUMNS)}"
                    ) from None
                if not all(map(math.isfinite, values[:2])):
                    raise UserError(f"{path}: line {number}: {values[:2]} are not finite.", mend="leave such rows out")
                rows.setdefault(target, []).append((*values, subject))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read: {error}.", mend="neurofm challenge predict") from None
    if not rows:
        raise UserError(f"{path}: no rows.", mend="neurofm challenge predict")
    return {
        target: Predictions(
            target=target,
            truth=np.array([row[0] for row in of]),
            predicted=np.array([row[1] for row in of]),
            null=of[0][2] if math.isfinite(of[0][2]) else float(np.mean([row[0] for row in of])),
            subject=np.array([row[3] for row in of]),
        )
        for target, of in rows.items()
    }
