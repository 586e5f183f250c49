"""References: published models, trained here at a small stated budget on the folds, windows and masks of all others."""

from __future__ import annotations

from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.references.lfads import lfads
from neurofm.evaluation.references.ndt import ndt
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality

_POPULATIONS = frozenset({Modality.SPIKES, Modality.CALCIUM, Modality.MINISCOPE})
_OF_POPULATIONS = {"ndt": ndt, "lfads": lfads}


def references_for(modality: Modality, *, settings: EvaluateSettings, window_samples: int) -> list[Estimator]:
    """Make the references that reconstruct hidden channels of a modality, untrained.

    Parameters
    ----------
    modality
        NDT and LFADS are for populations of neurons.
    settings
        `EvaluateSettings.references` says which and for how many steps.
    window_samples
        Length of a window.
    """
    return [
        make(steps=settings.references[name], settings=settings, window_samples=window_samples)
        for name, make in _OF_POPULATIONS.items()
        if name in settings.references and modality in _POPULATIONS
    ]


__all__ = ["references_for"]
