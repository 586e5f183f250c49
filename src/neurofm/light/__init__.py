"""The engine `light`: BOLD made usable where no container can run. It is not fMRIPrep, and its outputs say so."""

from neurofm.light.options import PACKAGED_SPACE, LightOptions, TemplateFiles
from neurofm.light.outputs import NAME, VERSION, RunFiles, files_of, write_description
from neurofm.light.participant import RunOutcome, process_participant

__all__ = [
    "NAME",
    "PACKAGED_SPACE",
    "VERSION",
    "LightOptions",
    "RunFiles",
    "RunOutcome",
    "TemplateFiles",
    "files_of",
    "process_participant",
    "write_description",
]
