"""`derivatives` in params.yaml: which BIDS datasets are preprocessed, by what, and how."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from neurofm.fmriprep import FmriprepOptions
from neurofm.fmriprep.command import IMAGE
from neurofm.light.options import LightOptions
from neurofm.settings import Settings

EngineKind = Literal["fmriprep", "light"]


class DerivativesSettings(Settings):
    """`derivatives.<id>`: one raw BIDS dataset, and what is made of it."""

    bids: str = Field(min_length=1)
    """Folder of raw BIDS: absolute, or relative to the project's root (``data/raw/<id>``)."""
    engine: EngineKind = "fmriprep"
    """What processes a participant."""
    image: str = Field(default=IMAGE, min_length=1)
    """fMRIPrep's image: a name of containers/images.yaml, or an address with a digest."""
    participants: tuple[str, ...] = ()
    """Only these, with or without ``sub-``; none for all."""
    max_failed_fraction: float = Field(default=0.0, ge=0, le=1)
    """Share of the participants that may fail before the stage does."""
    options: FmriprepOptions = Field(default_factory=FmriprepOptions)
    """Of fMRIPrep; which sessions, task and files are taken holds for every engine."""
    light: LightOptions = Field(default_factory=LightOptions)
    """Of the engine `light`."""
