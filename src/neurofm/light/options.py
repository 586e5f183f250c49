"""What is wanted of the `light` engine."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from neurofm.settings import Settings

PACKAGED_SPACE = "MNI152NLin2009aSym"
"""TemplateFlow's name for the template that nilearn packages (ICBM 2009a nonlinear symmetric)."""


class TemplateFiles(Settings):
    """A template of one's own: three images in the same space."""

    brain: Path
    """T1-weighted, without skull: 0 outside of the brain."""
    white_matter: Path
    """Probability of white matter, 0 to 1."""
    csf: Path
    """Probability of cerebrospinal fluid, 0 to 1."""


class LightOptions(Settings):
    """How the `light` engine processes a participant. Slice timing and field maps are never used."""

    space: Annotated[str, Field(pattern="^[a-zA-Z0-9]+$")] = PACKAGED_SPACE
    """Of the template; it stands in the names of files."""
    template: TemplateFiles | None = None
    """None for the one that nilearn packages."""
    resolution_mm: int = Field(default=2, ge=1, le=6)
    """Edge of the output's voxels."""
    seed: int = Field(default=42, ge=1)
    """For the points that registration samples; not 0, for which ANTs takes the time of day. The same seed gives the
    same bytes."""

    @model_validator(mode="after")
    def _space_is_the_template_s(self) -> Self:
        # A file called by another space's name is the one mistake that nobody sees later.
        if (self.space == PACKAGED_SPACE) != (self.template is None):
            raise ValueError(
                f"`space` and `template` go together: {PACKAGED_SPACE} without `template`, the space's own name with it"
            )
        return self
