"""Predict: what a submission says of the held-out windows of a fold, as a table."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np

from neurofm.errors import UserError
from neurofm.evaluation.challenge import TARGETS
from neurofm.operations.challenge.check import refuse_failed, run
from neurofm.operations.challenge.examples import Examples, challenge_recordings, examples, train_mean
from neurofm.operations.challenge.fitting import NOBODY, read_splits
from neurofm.operations.challenge.table import write_table
from neurofm.progress import Progressing


def predict(submission: Path, *, out: Path, splits: Path, shards: Path, fold: int) -> int:
    """Let a submission, in its clean process, say something of every window of the people that a fold holds out.

    Parameters
    ----------
    submission
        The zip.
    out
        CSV with the columns `neurofm.operations.challenge.table.COLUMNS`.
    splits, shards, fold
        ``data/splits.json``, ``data/shards`` and the fold that the submission was fitted in.

    Returns
    -------
    The number of windows.

    Raises
    ------
    UserError
        If the zip is refused or fails, the fold holds nobody out, or no space for them.
    """
    entries = challenge_recordings(read_splits(splits), fold=fold, shards=shards)
    nulls = {target: train_mean(entries, target, shards=shards) for target in TARGETS.values()}
    parts: list[tuple[str, str, Examples]] = []
    with tempfile.TemporaryDirectory(prefix="neurofm-challenge-") as at:
        windows, answers = Path(at) / "windows", Path(at) / "answers"
        windows.mkdir()
        answers.mkdir()
        with Progressing("cut windows", total=len(TARGETS) * len(entries), unit="recordings") as progress:
            for challenge, target in TARGETS.items():
                for entry in entries:
                    for part in examples([entry], target, shards=shards, roles=["test"]):
                        name = f"{challenge}-{len(parts):06d}.npy"
                        _keep(windows / name, part)
                        parts.append((target, name, replace(part, windows=part.windows[:0])))
                    progress.advance()
        if not parts:
            raise UserError(
                f"challenge: fold {fold} holds nobody out with {' or '.join(TARGETS.values())}.", mend=NOBODY
            )
        refuse_failed(submission, run(submission, Path(at), limit_s=None, more=[windows, answers]))
        return write_table([(target, part, np.load(answers / name)) for target, name, part in parts], out, nulls=nulls)


def _keep(path: Path, part: Examples) -> None:
    """Write windows down for the other process, 0.1 MB each."""
    try:
        np.save(path, part.windows)
    except OSError as error:
        raise UserError(
            f"{path.parent}: {error.strerror or error}.", mend="set TMPDIR to a disk with 0.1 MB for every window"
        ) from None
