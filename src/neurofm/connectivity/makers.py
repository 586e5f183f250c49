"""Makers: which pipelines made the derivatives that a recording was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurofm.recording import Step

_OURS = "parcellate"
"""The step with which a reader of derivatives takes over; what stands before it was done by others."""
_DESCRIPTION = "description"


@dataclass(frozen=True, kw_only=True)
class Maker:
    """The pipelines that derivatives went through, in their order."""

    names: tuple[str, ...]
    """``fMRIPrep``; ``stand_in`` (made for tests); ``neurofm-light``."""
    title: str
    """Names and versions, exactly as the derivatives have them."""
    description: str
    """In their own words; may be empty."""


UNNAMED = Maker(names=(), title="not named", description="")
"""Stands for whoever made what was not read from derivatives."""


def maker_of(steps: Sequence[Step]) -> Maker:
    """Return who made a recording's derivatives; `UNNAMED` where it was read from something else.

    A reader of derivatives puts their makers first, and its own step ``parcellate`` after them. Without that step a
    maker is known by its ``description``.
    """
    names = [step.name for step in steps]
    if _OURS in names:
        made = list(steps[: names.index(_OURS)])
    else:
        made = [step for step in steps[:1] if _DESCRIPTION in step.params]
    if not made:
        return UNNAMED
    described = (str(step.params.get(_DESCRIPTION) or "") for step in made)
    return Maker(
        names=tuple(step.name for step in made),
        title=", then ".join(f"{step.name} {step.version}".strip() for step in made),
        description="; ".join(filter(None, described)),
    )


def is_fmriprep(name: str) -> bool:
    """Whether a pipeline's name is fMRIPrep's, and no other's that would be taken for it."""
    return name.casefold() == "fmriprep"
