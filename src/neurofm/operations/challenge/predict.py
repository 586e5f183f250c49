"""Predict: what a submission says of the held-out windows of a fold, as a table, and how it scores."""

from __future__ import annotations

import csv
import io
import math
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from neurofm.errors import UserError
from neurofm.evaluation.challenge import EXTERNALIZING, RESPONSE_TIME, TARGETS, Predictions, Score, overall, score
from neurofm.files import write_atomic
from neurofm.operations.challenge.check import refuse_failed, run
from neurofm.operations.challenge.examples import Role, challenge_recordings, examples, train_mean
from neurofm.operations.challenge.package import MEND, read_splits
from neurofm.progress import Progressing

COLUMNS = ("challenge", "target", "recording", "subject", "start_s", "truth", "predicted", "null")
BOOTSTRAP, SEED = 1000, 0


def predict(submission: Path, *, out: Path, splits: Path, shards: Path, fold: int, roles: Sequence[Role]) -> int:
    """Let a submission, in its clean process, say something of every window of a fold's held-out segments.

    Parameters
    ----------
    submission
        The zip.
    out
        CSV with the columns `COLUMNS`; times in s.
    splits, shards, fold
        ``data/splits.json``, ``data/shards`` and the fold that the submission was fitted in.
    roles
        ``test``, or others for a look at them.

    Returns
    -------
    The number of windows.

    Raises
    ------
    UserError
        If the zip is refused or fails, or there are no such windows.
    """
    entries = challenge_recordings(read_splits(splits), fold=fold, shards=shards)
    rows: list[tuple[int | str, ...]] = []
    with tempfile.TemporaryDirectory(prefix="neurofm-challenge-") as at:
        windows, answers = Path(at) / "windows", Path(at) / "answers"
        windows.mkdir()
        answers.mkdir()
        counts: list[tuple[str, int]] = []
        with Progressing("cut windows", total=len(TARGETS) * len(entries), unit="recordings") as progress:
            for challenge, target in TARGETS.items():
                null = train_mean(entries, target, shards=shards)
                for entry in entries:
                    for part in examples([entry], target, shards=shards, roles=roles):
                        name = f"{challenge}-{len(counts):06d}.npy"
                        np.save(windows / name, part.windows)
                        counts.append((name, len(part.truth)))
                        rows += [
                            (
                                challenge,
                                target,
                                part.recording,
                                part.subject,
                                f"{start:.4f}",
                                repr(float(truth)),
                                f"{null:.7g}",
                            )
                            for start, truth in zip(part.start_s, part.truth, strict=True)
                        ]
                    progress.advance()
        if not rows:
            raise UserError(f"challenge: fold {fold} has no window in {' or '.join(roles)} segments.", mend=MEND)
        refuse_failed(submission, run(submission, Path(at), limit_s=None, more=[windows, answers]))
        said = np.concatenate([np.load(answers / name) for name, _ in counts])
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    writer.writerows((*row[:-1], f"{value:.7g}", row[-1]) for row, value in zip(rows, said, strict=True))
    write_atomic(out, text.getvalue().encode())
    return len(rows)


def score_table(path: Path) -> list[Score]:
    """Score a table that `predict` wrote, or that has its columns.

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
