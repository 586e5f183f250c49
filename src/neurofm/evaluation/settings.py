"""What evaluation may be told: masks, intervals and the grids on which every baseline is tuned."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from neurofm.settings import Settings

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, lt=1)]
Reference = Literal["ndt", "lfads", "brainlm", "cebra", "poyo"]
"""A published model that is trained here, to compare with."""


class TrialClass(Settings):
    """What happened in a trial, by the columns of its events: one of these two."""

    column: str = ""
    """A column whose values are the classes."""
    larger_of: tuple[str, str] | None = None
    """Two columns of numbers; a trial is of the class of the larger one, or of ``neither`` where they are equal."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if bool(self.column) == (self.larger_of is not None):
            raise ValueError("give `column`, or `larger_of` and two columns")
        if self.larger_of is not None and (not all(self.larger_of) or len(set(self.larger_of)) == 1):
            raise ValueError("`larger_of`: name two different columns")
        return self

    @property
    def columns(self) -> tuple[str, ...]:
        """All that a trial must have."""
        return self.larger_of or (self.column,)


class EvaluateSettings(Settings):
    """`evaluate` in params.yaml. Every grid is searched on validation data only."""

    seed: int
    """Of the masks and of the bootstrap."""
    mask_groups: int = Field(ge=2)
    """Into how many groups the channels are parted; each is hidden once while the others are visible."""
    bootstrap_samples: int = Field(ge=100)
    smoothing_samples: tuple[NotNegative, ...] = Field(min_length=1)
    """SD of the Gaussian with which visible channels are smoothed in time, in samples; 0 leaves them as they are."""
    ridge_penalties: tuple[Positive, ...] = Field(min_length=1)
    """Ridge penalty as a multiple of the mean variance of a predictor; for classification, per window."""
    shrinkages: tuple[Share, ...] = Field(min_length=1)
    """Weight of the scaled identity in the covariance of the Gaussian baselines."""
    ppca_ranks: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)
    prior_samples: tuple[NotNegative, ...] = Field(min_length=1)
    """How many samples of the scored recording's own calibration the training subjects' covariance is worth."""
    glm_penalties: tuple[Positive, ...] = Field(min_length=1)
    """Ridge penalty of the Poisson GLM, per sample of standardised predictors."""
    glm_most_units: int = Field(default=128, gt=1)
    """Where more units are visible, the Poisson GLM is of their principal components."""
    glm_components: tuple[Annotated[int, Field(ge=1)], ...] = Field(default=(8, 16, 32), min_length=1)
    """How many of them."""
    rate_floors: tuple[Share, ...] = Field(min_length=1)
    """Least predicted firing rate, as a share of the unit's mean rate in calibration."""
    allow_overlap: bool = False
    """Score what was learned from too, and label its rows, instead of refusing."""
    forward_patches: int = Field(default=0, ge=0)
    """How many patches at the end of a window of spikes, calcium or Miniscope are foretold from those before
    (`neurofm.evaluation.forward`); 0 leaves that out."""
    decode: tuple[str, ...]
    """Targets that are decoded wherever a recording split in time has them."""
    decoder_steps: int = Field(default=0, ge=0)
    """Most steps of a recurrent decoder, beside linear read-outs; without (0) there is none."""
    classify: tuple[str, ...]
    """Targets of two states, 0 and 1, that windows are classified by wherever recordings have them."""
    traits: tuple[str, ...] = ()
    """Attributes of subjects (columns of ``participants.tsv``), or of recordings, that are predicted where they are."""
    networks: Mapping[str, tuple[str, ...]] = {}
    """Groups of channels by patterns of their ids or regions; traits are predicted from each of them alone, too."""
    few_shot: bool = False
    """Whether all three are done with few to all labels, too (`neurofm.evaluation.few_shot`)."""
    few_shot_steps: int = Field(default=0, ge=0)
    """Steps in which, with 10 % of the labels, networks learn from them too: ours fine-tuned and by low-rank additions,
    and one from scratch (`neurofm.evaluation.few_shot_learned`). 0 leaves that out; so does `few_shot: false`."""
    calibration_s: tuple[Positive, ...] = ()
    """Seconds of calibration with which recordings never trained on are reconstructed again, beside all that they have
    (`neurofm.evaluation.calibration`); with neither this nor trials there is no such curve."""
    calibration_trials: tuple[Annotated[int, Field(ge=1)], ...] = ()
    """The same in trials, of recordings that consist of them."""
    trial_classes: Mapping[str, TrialClass] = {}
    """By name what happened in a trial: decoded of animals (or sessions) never seen, with none to all of the trials of
    their calibration labelled (`neurofm.evaluation.trial_task`)."""
    references: dict[Reference, Annotated[int, Field(ge=0)]] = Field(default_factory=dict)
    """Published models to compare with, each with its budget in steps of its optimiser, per channel set and fold; 0, as
    a profile may say, leaves one out."""
    references_in: tuple[str, ...] = ()
    """Datasets whose channel sets they are trained on; of none named, all."""

    @field_validator("references")
    @classmethod
    def _asked_for(cls, references: dict[Reference, int]) -> dict[Reference, int]:
        return {name: steps for name, steps in references.items() if steps}

    @field_validator("networks")
    @classmethod
    def _patterns(cls, networks: Mapping[str, tuple[str, ...]]) -> Mapping[str, tuple[str, ...]]:
        """Refuse here what a worker would fail on after hours, and what would match every channel."""
        for name, patterns in networks.items():
            # It becomes `<channel set>@<name>`.
            if not name or "@" in name:
                raise ValueError(f"{name!r}: a network has a name, without `@`")
            if not patterns:
                raise ValueError(f"{name}: there is no pattern")
            for pattern in patterns:
                if not pattern:
                    raise ValueError(f"{name}: {pattern!r} matches every channel")
                try:
                    re.compile(pattern)
                except re.error as error:
                    raise ValueError(f"{name}: {pattern!r} is no regular expression: {error}") from None
        return networks
