"""Output spaces of fMRIPrep: how they are written, and what its files are then called."""

from __future__ import annotations

import re
from dataclasses import dataclass

_STANDARD = re.compile(
    r"(?P<name>[A-Z][a-zA-Z0-9]+)(?::cohort-(?P<cohort>[a-zA-Z0-9]+))?(?::res-(?P<res>native|[1-9]\d*))?"
)
_SURFACES = ("fsnative", "fsaverage", "fsaverage5", "fsaverage6")
_OF_THE_ANATOMY = ("T1w", "anat")
_OF_THE_RUN = ("func", "run", "bold", "boldref", "sbref")
CIFTI_GRIDS = {"91k": 2, "170k": 1}
"""Grayordinates by name, with the ``res`` of MNI152NLin6Asym from which their volumes are taken."""


@dataclass(frozen=True, kw_only=True)
class Space:
    """One output space."""

    text: str
    """As it is written."""
    template: str = ""
    """TemplateFlow's name, for a standard volume."""
    entities: str = ""
    """What it adds to the name of a file, with its underscore; empty for the run's own space."""
    is_surface: bool = False
    """Whether it needs FreeSurfer's surfaces, and gives one file for each hemisphere."""


def parse_space(text: str) -> Space:
    """Take an output space apart.

    Raises
    ------
    ValueError
        If it is none, with what one looks like.
    """
    if text in _SURFACES:
        return Space(text=text, entities=f"_space-{text}", is_surface=True)
    if text in _OF_THE_ANATOMY:
        return Space(text=text, entities="_space-T1w")
    if text in _OF_THE_RUN:
        return Space(text=text)
    found = _STANDARD.fullmatch(text)
    if found is None or found["name"] == "T1w":
        raise ValueError(
            f"{text!r} is no output space; write <template>[:cohort-<label>][:res-<n>], as MNI152NLin2009cAsym:res-2, "
            f"or one of {', '.join((*_OF_THE_ANATOMY, *_OF_THE_RUN, *_SURFACES))}"
        )
    entities = f"_space-{found['name']}"
    entities += f"_cohort-{found['cohort']}" if found["cohort"] else ""
    # fMRIPrep's sink leaves `res-native` out of names.
    entities += f"_res-{found['res']}" if found["res"] not in {None, "native"} else ""
    return Space(text=text, template=found["name"], entities=entities)
