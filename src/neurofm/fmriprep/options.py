"""What is wanted of fMRIPrep; what contradicts itself is refused before anything starts."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from neurofm.fmriprep.extra import complaint_about
from neurofm.fmriprep.spaces import Space, parse_space
from neurofm.settings import Settings

LEAST_MEMORY_MB = 8000
"""Below it, fMRIPrep's own wrapper warns and asks."""
LABEL = r"^[a-zA-Z0-9+]+$"
"""What BIDS allows behind ``sub-``, ``ses-`` and ``task-``; with ``+`` for several, as fMRIPrep reads it."""
Label = Annotated[str, Field(pattern=LABEL)]
FilterValue = str | None
"""Numbers as texts: fMRIPrep 25.2 ends with a TypeError at a number."""
FILTERS = ("bold", "t1w", "t2w", "flair", "sbref", "fmap", "roi")
"""Queries that a BIDS filter may narrow, as niworkflows names them."""
FILTER_ENTITIES = {
    "session": "ses",
    "task": "task",
    "acquisition": "acq",
    "ceagent": "ce",
    "reconstruction": "rec",
    "direction": "dir",
    "run": "run",
    "echo": "echo",
    "part": "part",
}
"""Entities that a filter may name, with how file names have them: what comes out is foretold from file names."""


class FmriprepOptions(Settings):
    """How fMRIPrep 25.2 processes a participant. The level is always `full`, the layout of the outputs `bids`."""

    output_spaces: tuple[str, ...] = Field(default=("MNI152NLin2009cAsym:res-2",), min_length=1)
    """``<template>[:cohort-<label>][:res-<n>]`` for volumes; also T1w, func, fsnative, fsaverage, fsaverage5, -6."""
    cifti_output: Literal["91k", "170k"] | None = None
    """Grayordinates too (``fsLR``), of 2 mm or 1.6 mm; they need FreeSurfer's surfaces."""
    fs_no_reconall: bool = False
    """Leave FreeSurfer's surfaces out: hours less, and no surfaces. A licence is needed all the same."""
    task: Label | None = None
    """Only this task; None for all."""
    sessions: tuple[Label, ...] = ()
    """Only these sessions; none for all."""
    bids_filters: dict[str, dict[str, FilterValue | tuple[FilterValue, ...]]] = Field(default_factory=dict)
    """Query (`bold`, `t1w`...) to entity to value; null for files without the entity, ``*`` for files with it."""
    derivatives: dict[Label, Path] = Field(default_factory=dict)
    """Folders of precomputed derivatives by name (``smriprep: /data/smriprep``), mounted read-only."""
    ignore: tuple[Literal["fieldmaps", "slicetiming", "sbref", "t2w", "flair", "fmap-jacobian"], ...] = ()
    dummy_scans: int | None = Field(default=None, ge=0)
    """Volumes before the steady state; None to let fMRIPrep find them."""
    nthreads: int = Field(default=8, ge=1)
    omp_nthreads: int = Field(default=4, ge=1)
    """Threads of one process; runs are the same bit by bit with 1 only."""
    mem_mb: int = 28000
    """What fMRIPrep plans with, 10^6 bytes. It may overshoot: the container is given a fifth more."""
    low_mem: bool = False
    """Less memory for more space in the work folder."""
    random_seed: int = Field(default=42, ge=0)
    fetch_templates: bool = False
    """Give the container a network, to fetch what TemplateFlow's folder lacks; else it has none."""
    extra: tuple[str, ...] = ()
    """Further arguments of fMRIPrep, each word by itself; none that is set here."""

    @property
    def spaces(self) -> tuple[Space, ...]:
        """The output spaces, taken apart."""
        return tuple(parse_space(text) for text in self.output_spaces)

    @model_validator(mode="after")
    def _agrees_with_itself(self) -> Self:
        for problem in self._problems():
            if problem:
                raise ValueError(problem)
        return self

    def _problems(self) -> list[str]:
        """Return what contradicts itself; empty texts where nothing does."""
        surfaces = [space.text for space in self.spaces if space.is_surface]
        asked = {
            f"`{word}` stands twice": True
            for words in (self.output_spaces, self.sessions, self.ignore)
            for word, times in Counter[str](words).items()
            if times > 1
        }
        asked |= {
            "`cifti_output` needs FreeSurfer's surfaces, which `fs_no_reconall` leaves out": bool(
                self.cifti_output and self.fs_no_reconall
            ),
            f"the space {surfaces[:1]} is one of FreeSurfer's surfaces, which `fs_no_reconall` leaves out": bool(
                surfaces and self.fs_no_reconall
            ),
            f"`omp_nthreads` ({self.omp_nthreads}) is more than `nthreads` ({self.nthreads})": (
                self.omp_nthreads > self.nthreads
            ),
            f"`mem_mb` ({self.mem_mb}) is too little: fMRIPrep needs {LEAST_MEMORY_MB} or more": (
                self.mem_mb < LEAST_MEMORY_MB
            ),
        }
        return [problem for problem, holds in asked.items() if holds] + self._filter_problems() + self._extra_problems()

    def _filter_problems(self) -> list[str]:
        found = []
        for query, entities in self.bids_filters.items():
            if query not in FILTERS:
                found.append(f"`bids_filters` has no query {query!r}; there are {', '.join(FILTERS)}")
            found += [
                f"`bids_filters` cannot use {entity!r}; entities are {', '.join(FILTER_ENTITIES)}"
                for entity in entities
                if entity not in FILTER_ENTITIES
            ]
        bold = self.bids_filters.get("bold", {})
        found += ["`task` and a filter of `bold` by task are one too many"] if self.task and "task" in bold else []
        both = self.sessions and any("session" in entities for entities in self.bids_filters.values())
        found += ["`sessions` and a filter by session are one too many"] if both else []
        return found

    def _extra_problems(self) -> list[str]:
        return [complaint_about(self.extra)]
