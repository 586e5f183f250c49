"""A checkpoint that costs no training."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from neurofm.model.settings import ModelSettings
from neurofm.model.whole_channels import network_of
from neurofm.recording import Modality
from neurofm.training.acquisition import Acquisition
from neurofm.training.checkpoint import Checkpoint, digest, patch_samples, write_checkpoint
from neurofm.training.tuning import CoreChoices
from neurofm.windows import WindowsSettings


def make_checkpoint(
    folder: Path, *, subjects: tuple[str, ...] = ("hcp:1",), roles: Mapping[str, str] | None = None
) -> Path:
    """A small network that was never trained, with all that belongs to it."""
    model = ModelSettings.parse(
        {"backbone": "gru", "width": 8, "layers": 1, "heads": 1, "dropout": 0.0, "state": 4}, where="", mend=""
    )
    section = {"window_samples": 16, "patch_samples": 4}
    windows = WindowsSettings.parse(dict.fromkeys([str(m) for m in Modality], section), where="", mend="")
    checkpoint = Checkpoint(
        network=network_of(model, patch_samples=patch_samples(windows)),
        model=model,
        windows=windows,
        gains={},
        choices=CoreChoices(by_channel_set={}, by_modality={}, banks={}),
        priors={},
        acquisitions=(Acquisition(modality=Modality.FMRI, sampling_rate_hz=0.5, channel_set="fmri-x", channels=94),),
        prior_recordings=frozenset(),
        subjects=frozenset(digest(subject) for subject in subjects),
        roles={digest(recording): told for recording, told in (roles or {}).items()},
    )
    write_checkpoint(checkpoint, folder)
    return folder
