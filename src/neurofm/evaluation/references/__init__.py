"""References: published models, trained here at a small stated budget on the folds, windows and masks of all others."""

from __future__ import annotations

from importlib.util import find_spec

from neurofm.evaluation.decoding import Embedding
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.references.cebra import NAME as CEBRA
from neurofm.evaluation.references.cebra import CebraEmbedding, missing
from neurofm.evaluation.references.lfads import lfads
from neurofm.evaluation.references.ndt import ndt
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality

_POPULATIONS = frozenset({Modality.SPIKES, Modality.CALCIUM, Modality.MINISCOPE})
_OF_POPULATIONS = {"ndt": ndt, "lfads": lfads}


def check_references(settings: EvaluateSettings) -> None:
    """Refuse references whose library is not here, before anything is scored; nothing is imported.

    Raises
    ------
    UserError
        With what installs it.
    """
    if CEBRA in settings.references and find_spec(CEBRA) is None:
        raise missing()


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


def embeddings_for(settings: EvaluateSettings, *, patch_samples: int) -> list[Embedding]:
    """Make the references whose features targets are decoded from, untrained.

    Parameters
    ----------
    settings
        `EvaluateSettings.references` says which and for how many steps.
    patch_samples
        Length of a patch.
    """
    if CEBRA not in settings.references:
        return []
    return [CebraEmbedding(steps=settings.references[CEBRA], settings=settings, patch_samples=patch_samples)]


__all__ = ["CebraEmbedding", "check_references", "embeddings_for", "references_for"]
