"""Train neurofm's network or BrainLM's a few steps: ``python -m benchmarks.train_ours SETTINGS``, prints JSON rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.loader_windows import Row, printed
from benchmarks.train_steps import Trainee, compile_rows, measure
from benchmarks.train_windows import Corpus, Settings
from neurofm.model import brainlm
from neurofm.model.core import CoreSettings, Moments
from neurofm.model.neurofm import NeuroFM
from neurofm.model.settings import ModelSettings
from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Segment
from neurofm.training.batches import Batch, cut, loss_of, make_batch
from neurofm.training.contexts import Context, CoreChoice, make_context
from neurofm.windows import RecordingView, fit_normaliser

PATCH_SAMPLES = {Modality.FMRI: 8, Modality.SPIKES: 5}
NEUROFM_SIZES = {
    "tiny": ModelSettings(backbone="transformer", width=128, layers=13, heads=4, dropout=0.1),
    "111M": ModelSettings(backbone="transformer", width=1024, layers=12, heads=16, dropout=0.1),
}
"""As many parameters as the other network of that size, to a few per cent."""
_CALIBRATION_SAMPLES = 1000
_FMRI_STEP = 1e-3


def neurofm(corpus: Corpus, settings: Settings) -> Trainee:
    """Build neurofm's network: whole steps as in pretraining: the linear core of the batch is computed in each."""
    view = _view(corpus)
    context = _context(view)
    hidden = torch.from_numpy(np.flatnonzero(corpus.hidden))
    visible = torch.from_numpy(np.flatnonzero(~corpus.hidden))
    windows: int = settings["windows"]

    def prepare(step: int) -> tuple[Batch, Tensor, Tensor]:
        z, counts = cut(view, corpus.starts(step, windows=windows), window_samples=corpus.window_samples)
        batch = make_batch(view, context, values=z[..., visible], visible=visible, hidden=hidden)
        return batch, z[..., hidden], counts

    def output(network: nn.Module, inputs: tuple[Batch, Tensor, Tensor]) -> Tensor:
        residual: Tensor = network(inputs[0].seen, inputs[0].query)
        return residual

    def loss(residual: Tensor, inputs: tuple[Batch, Tensor, Tensor]) -> Tensor:
        batch, truth, counts = inputs
        return loss_of(batch, residual=residual, truth=truth, counts=counts)

    modality = view.modality
    network = NeuroFM(NEUROFM_SIZES[settings["size"]], patch_samples={modality: PATCH_SAMPLES[modality]})
    return Trainee(who="neurofm", network=network, prepare=prepare, output=output, loss=loss, windows=windows)


def reference(corpus: Corpus, settings: Settings) -> Trainee:
    """Build BrainLM's autoencoder: all tokens of the same parcels hidden."""
    windows: int = settings["windows"]
    position = torch.from_numpy(corpus.position)
    patches = corpus.window_samples // brainlm.PATCH_SAMPLES
    mask = brainlm.TokenMask.of_parcels(torch.from_numpy(corpus.hidden), windows=windows, patches=patches)

    def prepare(step: int) -> tuple[Tensor, Tensor, brainlm.TokenMask]:
        values = torch.from_numpy(corpus.windows(step, windows=windows)).transpose(1, 2).contiguous()
        return values, position, mask

    def output(network: nn.Module, inputs: tuple[Tensor, Tensor, brainlm.TokenMask]) -> Tensor:
        reconstructed: Tensor = network(*inputs)
        return reconstructed

    def loss(reconstructed: Tensor, inputs: tuple[Tensor, Tensor, brainlm.TokenMask]) -> Tensor:
        return brainlm.masked_error(reconstructed, inputs[0], inputs[2])

    network = brainlm.BrainLM(brainlm.SIZES[settings["size"]])
    return Trainee(who="brainlm", network=network, prepare=prepare, output=output, loss=loss, windows=windows)


NETWORKS: dict[str, Callable[[Corpus, Settings], Trainee]] = {"neurofm": neurofm, "brainlm": reference}


def trainee(settings: Settings) -> Trainee:
    """Build the network that `settings` ask for."""
    corpus = Corpus.load(Path(settings["folder"]), settings["modality"])
    return NETWORKS[settings["who"]](corpus, settings)


def _view(corpus: Corpus) -> RecordingView:
    """Return the recording as training sees it."""
    modality = Modality(corpus.modality)
    counted = modality is Modality.SPIKES
    channels = corpus.values.shape[1]
    step = 1.0 if counted else _FMRI_STEP
    integers = np.round(corpus.values / step).clip(-32767, 32767)
    stored = integers.astype(np.uint8) if counted else integers.astype(np.int16)
    whole = (Segment(start=0, stop=len(stored)),)
    scale = np.full(channels, step)
    known: Any = {"dataset": "bench", "recording": "r", "subject": "bench:r", "modality": modality}
    return RecordingView(
        **known,
        sampling_rate_hz=corpus.sampling_rate_hz,
        channel_ids=tuple(f"c{channel:03d}" for channel in range(channels)),
        position=corpus.position,
        position_unit="mm",
        region=("",) * channels,
        channel_set="bench",
        stored=stored,
        scale=scale,
        offset=np.zeros(channels),
        valid=np.ones(len(stored), dtype=np.bool_),
        roles=FoldRecording(**known, kind="time", calibration=whole, train=whole),
        normaliser=fit_normaliser([stored * scale], usable=np.ones(channels, dtype=np.bool_)),
        targets={},
    )


def _context(view: RecordingView) -> Context:
    """Describe the recording from its first samples."""
    core = CoreSettings(smoothing_samples=(0.0, 2.0), ridge=0.1, prior_samples=0.0)
    return make_context(
        view,
        calibration=(Segment(start=0, stop=_CALIBRATION_SAMPLES),),
        prior=Moments.zero(channels=len(view.channel_ids), scales=len(core.smoothing_samples)),
        choice=CoreChoice(core=core, rate_floor=0.05),
    )


def main(settings: Settings) -> list[Row]:
    """Return the rows of one network, or of its compiled one."""
    rows = compile_rows if settings["compiled"] else measure
    return rows(lambda: trainee(settings), settings)


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
