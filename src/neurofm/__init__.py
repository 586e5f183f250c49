"""neurofm: from public neural archives to an evaluated multimodal foundation model.

The rooms, top to bottom, each importing only from those below it, are listed in ``docs/architecture.md``.
"""

__version__ = "0.1.0"
