"""How long a window is, per modality."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from neurofm.recording import Modality
from neurofm.settings import Settings


class WindowSettings(Settings):
    """Window and patch of one modality, in samples of its shard's rate (so that every TR gives whole patches)."""

    window_samples: int = Field(gt=0)
    patch_samples: int = Field(gt=0)

    @model_validator(mode="after")
    def _whole_patches(self) -> Self:
        if self.window_samples % self.patch_samples:
            msg = f"window_samples {self.window_samples} is not a multiple of patch_samples {self.patch_samples}"
            raise ValueError(msg)
        return self


class WindowsSettings(Settings):
    """`windows` in params.yaml: one section per modality."""

    spikes: WindowSettings
    calcium: WindowSettings
    miniscope: WindowSettings
    fmri: WindowSettings
    eeg: WindowSettings

    def of(self, modality: Modality) -> WindowSettings:
        """Return the section of `modality`."""
        section: WindowSettings = getattr(self, modality.value)
        return section
