"""Row: one score of the scoreboard, and the names of those that stand in every table.

Apart from how scores are computed, so that who only reads them (the report, `neurofm certify`) starts without torch
and scikit-learn.
"""

from __future__ import annotations

from collections.abc import Iterable

from neurofm.settings import Settings

NULL = "null"
"""Predicting the mean, or the most frequent class."""
OURS = "neurofm"
CORRELATION = "correlation"
"""Of reconstructions, beside their R2: both say how alike in shape, and R2 also how alike in size. It stands in
``metrics/``, and is neither compared nor drawn: one difference must not count twice."""
LINEAR_CORE = "neurofm-linear-core"
CORE = "neurofm-core"
"""The stationary core, for hidden patches."""
PROBE = "neurofm-probe"
DECODER = "neurofm-decoder"
"""A recurrent read-out of smoothed counts and our latents."""


def standing(models: Iterable[str]) -> str | None:
    """Name the one of our models that stands for all of them, whatever they scored; None where there is none.

    It is the decoder where one was learned, of which baselines have an equal, and else the one with the shortest name:
    the others are its variants.
    """
    ours = [model for model in models if model.startswith(OURS)]
    return DECODER if DECODER in ours else min(ours, key=lambda model: (len(model), model), default=None)


class Row(Settings):
    """One score."""

    dataset: str
    modality: str
    task: str
    metric: str
    unit: str
    higher_is_better: bool
    split: str
    """How the data were held out: ``3-fold by subject``, ``3-fold time blocks``, ``one site left out, 4 folds``,
    ``one dataset left out, 1 of 3 folds``, ``3 of 8 folds by subject``."""
    model: str
    seed: int
    value: float
    null: float
    """Score of the null on the same data."""
    ci_low: float
    ci_high: float
    ci_unit: str
    """What was resampled for the interval: ``subject``, ``session``, or ``time block`` (a tile of one window)."""
    n: int
    """How many of them there are."""
    leak: str = ""
    """What was learned from of what is scored, where `evaluate.allow_overlap` lets it be; nothing if empty."""
