"""References: published models, trained here at a small stated budget on the folds, windows and masks of all others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

from neurofm.evaluation.baselines.stationary import Filler
from neurofm.evaluation.decoding import Decoder, Embedding
from neurofm.evaluation.estimator import Estimator
from neurofm.evaluation.references.brainlm import NAME as BRAINLM
from neurofm.evaluation.references.brainlm import BrainLMReference
from neurofm.evaluation.references.cebra import NAME as CEBRA
from neurofm.evaluation.references.cebra import CebraEmbedding
from neurofm.evaluation.references.lfads import lfads
from neurofm.evaluation.references.libraries import check_library
from neurofm.evaluation.references.ndt import ndt
from neurofm.evaluation.references.poyo import NAME as POYO
from neurofm.evaluation.references.poyo import PoyoDecoder
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.recording import Modality
from neurofm.windows import RecordingView, WindowSettings

_POPULATIONS = frozenset({Modality.SPIKES, Modality.CALCIUM, Modality.MINISCOPE})
_OF_POPULATIONS = {"ndt": ndt, "lfads": lfads}


def check_references(settings: EvaluateSettings) -> None:
    """Refuse references whose library is not here, before anything is scored; nothing is imported.

    Raises
    ------
    UserError
        With what installs it.
    """
    for name in settings.references:
        check_library(name)


@dataclass(frozen=True, kw_only=True)
class References:
    """Those of one channel set, untrained, by what is done with them."""

    estimators: Sequence[Estimator] = ()
    """Reconstruct hidden channels."""
    fillers: Sequence[Filler] = ()
    """Those of them that fill in patches too, once they are fitted."""
    embeddings: Sequence[Embedding] = ()
    """Give features that targets are read out of."""
    decoders: Sequence[Decoder] = ()
    """Decode targets by themselves."""

    @classmethod
    def of(cls, views: Sequence[RecordingView], *, settings: EvaluateSettings, window: WindowSettings) -> Self:
        """Make those that are asked for.

        Parameters
        ----------
        views
            Recordings of the channel set. NDT and LFADS are for populations of neurons, BrainLM for fMRI, POYO for
            spikes.
        settings
            `EvaluateSettings.references` says which and for how many steps, `references_in` where.
        window
            Lengths of a window and a patch.
        """
        asked, modality = settings.references, views[0].modality
        if settings.references_in and not any(view.dataset in settings.references_in for view in views):
            return cls()
        samples, patch = window.window_samples, window.patch_samples
        populations = [
            _OF_POPULATIONS[name](steps=steps, settings=settings, window_samples=samples)
            for name, steps in asked.items()
            if name in _OF_POPULATIONS and modality in _POPULATIONS
        ]
        autoencoders = []
        if BRAINLM in asked and modality is Modality.FMRI:
            steps = asked[BRAINLM]
            autoencoders = [
                BrainLMReference(steps=steps, settings=settings, window_samples=samples, patch_samples=patch)
            ]
        embeddings = []
        if CEBRA in asked:
            embeddings = [CebraEmbedding(steps=asked[CEBRA], settings=settings, patch_samples=patch)]
        decoders = []
        if POYO in asked and modality is Modality.SPIKES:
            decoders = [PoyoDecoder(steps=asked[POYO], settings=settings, patch_samples=patch)]
        return cls(
            estimators=[*populations, *autoencoders], fillers=autoencoders, embeddings=embeddings, decoders=decoders
        )


__all__ = ["References", "check_references"]
