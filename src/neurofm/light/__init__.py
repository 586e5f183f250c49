"""The engine `light`: BOLD made usable where no container can run. It is not fMRIPrep, and its outputs say so.

What processes a participant is in `neurofm.light.participant`, which takes half a second to load.
"""

from neurofm.light.options import ENVIRONMENT, PACKAGED_SPACE, LightOptions, TemplateFiles
from neurofm.light.outputs import NAME, VERSION, RunFiles, files_of, write_description

__all__ = [
    "ENVIRONMENT",
    "NAME",
    "PACKAGED_SPACE",
    "VERSION",
    "LightOptions",
    "RunFiles",
    "TemplateFiles",
    "files_of",
    "write_description",
]
