"""Factors: read-outs of all four factors of the checklist, fitted and said of held-out subjects, as a table."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from neurofm.eeg.hbn.participants import FACTORS
from neurofm.errors import UserError
from neurofm.operations.challenge.examples import examples, train_mean
from neurofm.operations.challenge.fitting import NOBODY, Fitted, Fitting, fitting
from neurofm.operations.challenge.table import Said, write_table


def factors(model: Path, *, out: Path, splits: Path, shards: Path, fold: int) -> int:
    """Fit a read-out of each factor on a fold's train segments and write what it says of the test segments.

    A submission has externalizing alone; the challenge's first plan asked for all four.

    Parameters
    ----------
    model, splits, shards, fold
        As of `neurofm.operations.challenge.fitting.fitting`.
    out
        CSV with the columns `neurofm.operations.challenge.table.COLUMNS`.

    Returns
    -------
    The number of windows.

    Raises
    ------
    UserError
        As `fitting`; or no factor is known of the train recordings, or nothing is held out.
    """
    on = fitting(model, splits=splits, shards=shards, fold=fold)
    nulls = {name: train_mean(on.entries, name, shards=shards) for name in FACTORS}
    known = [name for name in FACTORS if np.isfinite(nulls[name])]
    # Without any, `fit` says what is missing.
    said = [one for name in known or FACTORS for one in _said(on, name, on.fit(name))]
    if not said:
        raise UserError(f"challenge: fold {fold} holds nobody out with {', '.join(known)}.", mend=NOBODY)
    return write_table(said, out, nulls=nulls)


def _said(on: Fitting, name: str, fitted: Fitted) -> Iterator[Said]:
    head = fitted.head
    for part in examples(on.entries, name, shards=on.shards, roles=["test"]):
        yield name, part, np.clip(on.encode(part) @ head.weight + head.bias, head.low, head.high)
