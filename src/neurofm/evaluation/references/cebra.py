"""CEBRA-Time as a row of decoding: an embedding in which near moments lie close, read out as our latents are."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from neurofm.evaluation.decoding import Features
from neurofm.evaluation.references.libraries import library
from neurofm.evaluation.references.training import seeded
from neurofm.evaluation.samples import Windows
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.evaluation.smoothing import smooth

NAME: Final = "cebra"
DIMENSIONS = 8
TIME_OFFSETS = 10
"""Samples between a moment and what counts as near to it."""
BATCH = 512
LEARNING_RATE = 1e-3
SMOOTHING_SAMPLES = 4.0
"""SD with which counts are smoothed within a window before they are embedded."""
_MODEL = "offset10-model"
_UNITS = 32


class CebraEmbedding:
    """Embedding of single samples, averaged over each patch; it is given no target, of any part of the recording.

    Parameters
    ----------
    steps
        Budget, in steps of 512 pairs.
    settings
        Seed.
    patch_samples
        Length of a patch.

    References
    ----------
    Schneider, Lee & Mathis (2023), Nature 617:360-368, doi:10.1038/s41586-023-06031-6. The library is the authors'.
    """

    name = NAME

    def __init__(self, *, steps: int, settings: EvaluateSettings, patch_samples: int) -> None:
        self._steps, self._seed, self._patch_samples = steps, settings.seed, patch_samples
        self._learned: dict[str, Features] = {}

    def learn(self, fit: Windows) -> Features:
        """Train on the samples of windows to fit on, one after the other as they were recorded; see `Embedding.learn`.

        Once per recording: it is given no target, so that it serves all of them.

        Raises
        ------
        UserError
            If the library is not installed.
        """
        if fit.view.name not in self._learned:
            self._learned[fit.view.name] = self._train(fit)
        return self._learned[fit.view.name]

    def _train(self, fit: Windows) -> Features:
        cebra = library(NAME)
        signal = _signal(fit)[fit.counted]
        with seeded(self._seed):
            network = cebra.models.init(_MODEL, signal.shape[1], _UNITS, DIMENSIONS)
            # The library asks for a target, which the sampling of CEBRA-Time does not look at.
            data = cebra.data.TensorDataset(signal, continuous=np.zeros((len(signal), 1), dtype=np.float32))
            data.configure_for(network)
            pairs = cebra.data.ContinuousDataLoader(
                data, num_steps=self._steps, batch_size=BATCH, conditional="time", time_offset=TIME_OFFSETS
            )
            # The library's estimator draws its pairs from a seed of the clock, and never the same twice.
            pairs.distribution.generator.manual_seed(self._seed)
            model = cebra.solver.init(
                "single-session",
                model=network,
                criterion=cebra.models.FixedCosineInfoNCE(temperature=1.0),
                optimizer=torch.optim.Adam(network.parameters(), lr=LEARNING_RATE),
                tqdm_on=False,
            )
            model.fit(pairs)
        return _Embedded(model, patch_samples=self._patch_samples, seed=self._seed)


class _Embedded:
    """Gives the features of windows; each window is embedded once, since its read-out is tuned on it many times."""

    def __init__(self, model: Any, *, patch_samples: int, seed: int) -> None:
        self._model, self._patch_samples, self._seed = model, patch_samples, seed
        self._known: dict[int, npt.NDArray[np.float32]] = {}

    def __call__(self, windows: Windows) -> npt.NDArray[np.float32]:
        """Return [window, patch, feature]."""
        with seeded(self._seed), torch.no_grad():
            for start, signal in zip(windows.start.tolist(), _signal(windows), strict=True):
                if start not in self._known:
                    embedded = self._model.transform(torch.from_numpy(signal)).numpy()
                    self._known[start] = embedded.reshape(-1, self._patch_samples, DIMENSIONS).mean(axis=1)
        return np.stack([self._known[start] for start in windows.start.tolist()])


def _signal(windows: Windows) -> npt.NDArray[np.float32]:
    smoothed = smooth(windows.z[..., windows.view.usable], sd_samples=SMOOTHING_SAMPLES)
    return smoothed.astype(np.float32)
