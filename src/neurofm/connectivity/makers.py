"""Makers: which pipeline made the derivatives that a recording was read from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from neurofm.recording import Step


@dataclass(frozen=True, kw_only=True)
class Maker:
    """A pipeline that made derivatives."""

    name: str
    """``fMRIPrep``; ``stand_in`` (made for tests); ``neurofm-light``."""
    version: str
    description: str
    """In its own words."""

    @property
    def title(self) -> str:
        """Name and version, exactly as the derivatives have them."""
        return f"{self.name} {self.version}".strip()


UNNAMED = Maker(name="not named", version="", description="")
"""Stands for whoever made what was not read from derivatives."""


def maker_of(steps: Sequence[Step]) -> Maker:
    """Return who made a recording's derivatives; `UNNAMED` where it was read from something else.

    The reader of derivatives names their maker in the recording's first step, with a ``description``.
    """
    if not steps or "description" not in steps[0].params:
        return UNNAMED
    return Maker(name=steps[0].name, version=steps[0].version, description=str(steps[0].params["description"] or ""))


def is_fmriprep(title: str) -> bool:
    """Whether a maker's title is fMRIPrep's, and no other's that would be taken for it."""
    return title.split(" ", maxsplit=1)[0].casefold() == "fmriprep"
