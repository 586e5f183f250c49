"""The engine `light`: BOLD made usable where no container can run. It is not fMRIPrep, and its outputs say so.

`neurofm.light.participant` is not imported here: settings are read by every command, pandas is not.
"""

from neurofm.light.options import PACKAGED_SPACE, LightOptions, TemplateFiles
from neurofm.light.outputs import NAME, VERSION, RunFiles, files_of, write_description

__all__ = [
    "NAME",
    "PACKAGED_SPACE",
    "VERSION",
    "LightOptions",
    "RunFiles",
    "TemplateFiles",
    "files_of",
    "write_description",
]
