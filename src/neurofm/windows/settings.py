"""How long a window is, per modality."""

from __future__ import annotations

from typing import Self

from pydantic import Field, model_validator

from neurofm.errors import UserError
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
    meg: WindowSettings | None = Field(default=None, exclude_if=lambda section: section is None)
    """Only for projects with MEG: without it the network has no part for MEG."""

    def of(self, modality: Modality) -> WindowSettings:
        """Return the section of `modality`.

        Raises
        ------
        UserError
            If there is none.
        """
        section: WindowSettings | None = getattr(self, modality.value)
        if section is None:
            raise UserError(
                f"params.yaml: `windows.{modality}` is not there, and {modality} takes part.",
                mend=f"say how long its windows are: `{modality}: {{window_samples: 200, patch_samples: 20}}`",
            )
        return section

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Those that have a section."""
        return tuple(modality for modality in Modality if getattr(self, modality.value) is not None)

    @property
    def window_samples(self) -> dict[Modality, int]:
        """Length of a window per modality."""
        return {modality: self.of(modality).window_samples for modality in self.modalities}
