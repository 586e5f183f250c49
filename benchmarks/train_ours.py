"""Train neurofm's network or BrainLM's a few steps: ``python -m benchmarks.train_ours SETTINGS``, prints JSON rows."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.loader_windows import Row, printed
from benchmarks.train_steps import Trainee, compile_rows, measure
from benchmarks.train_windows import HIDDEN_SHARE, Corpus, Settings
from neurofm.model import brainlm
from neurofm.model.core import CoreSettings, LinearCore, Moments, smooth_scales
from neurofm.model.foundation import Foundation
from neurofm.model.masks import Hidden, hide
from neurofm.model.objectives import judge
from neurofm.model.patches import ChannelTable
from neurofm.model.settings import MaskSettings
from neurofm.model.sizes import size
from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Segment
from neurofm.training.batches import cut
from neurofm.training.contexts import Context, CoreChoice, make_context
from neurofm.windows import RecordingView, fit_normaliser

PATCH_SAMPLES = {Modality.FMRI: 8, Modality.SPIKES: 5}
SIZES = {"tiny": "tiny", "111M": "base"}
"""neurofm's sizes with as many parameters as the references, to 2 %."""
TARGETS = MaskSettings().targets
"""Hidden patches that neurofm is asked for per window in training, of all that are hidden."""
VISIBLE = MaskSettings().visible
"""Channels that it reads per patch in training; here all that are visible, as BrainLM and POYO do."""
_CALIBRATION_SAMPLES = 1000
_FMRI_STEP = 1e-3
_EVERYTHING = 10**6
_IMAGE, _SQUARE, _COLOURS = 432, 16, 3
"""Of ``modeling_vit_mae_with_padding.py``: 424 parcels x 200 TR in the middle of a square image."""


def neurofm(
    corpus: Corpus, settings: Settings, *, who: str = "neurofm", visible: int = _EVERYTHING, targets: int = TARGETS
) -> Trainee:
    """Build neurofm's whole model; its step has the linear core of the batch in it, as in pretraining."""
    view = _view(corpus)
    context, modality = _context(view), view.modality
    windows: int = settings["windows"]
    patch = PATCH_SAMPLES[modality]
    patches = corpus.window_samples // patch
    hidden = torch.from_numpy(corpus.hidden).expand(windows, patches, -1)
    channels = ChannelTable(features=context.identity.expand(windows, -1, -1))
    budget = MaskSettings(visible=visible, targets=targets)
    generator = torch.Generator().manual_seed(0)

    def prepare(step: int) -> Hidden:
        z, valid = cut(view, corpus.starts(step, windows=windows), window_samples=corpus.window_samples)
        return hide(
            z,
            hidden,
            patch=patch,
            sampling_rate_hz=view.sampling_rate_hz,
            channels=channels,
            scale=context.scale,
            settings=budget,
            generator=generator,
            valid=valid,
            counts=modality is Modality.SPIKES,
            core=partial(_estimate, core=context.core, hidden=torch.from_numpy(corpus.hidden)),
        )

    def output(network: nn.Module, batch: Hidden) -> Tensor:
        residual: Tensor = network({modality: batch.seen}, {modality: batch.asked}).reconstruction[modality].residual
        return residual

    def loss(residual: Tensor, batch: Hidden) -> Tensor:
        return judge(modality, batch.truth, estimate=batch.asked.estimate, residual=residual)[0]

    network = Foundation(size(SIZES[settings["size"]]), patch_samples={modality: patch})
    return Trainee(who=who, network=network, prepare=prepare, output=output, loss=loss, windows=windows)


def _estimate(known: Tensor, _visible: Tensor, *, core: LinearCore, hidden: Tensor) -> Tensor:
    """Estimate hidden channels and smooth visible ones, [window, time, channel]."""
    here, there = (~hidden).nonzero().squeeze(1), hidden.nonzero().squeeze(1)
    smoothed = smooth_scales(known[..., here].double(), sds_samples=core.settings.smoothing_samples)
    estimate = torch.zeros_like(known, dtype=torch.float64)
    estimate[..., here] = smoothed.mean(dim=-2)
    estimate[..., there] = core.estimate(smoothed, visible=here, hidden=there)
    return estimate


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


def image(corpus: Corpus, settings: Settings) -> Trainee:
    """Build the same autoencoder on tokens of BrainLM's published code: a padded image in squares, three times over.

    A square is 16 parcels x 16 TR, so that whole parcels cannot be hidden: 75 % of squares are, at random.
    """
    windows: int = settings["windows"]
    squares = _IMAGE // _SQUARE
    share, generator = HIDDEN_SHARE["fmri"], torch.Generator().manual_seed(0)
    position = torch.zeros(squares, 3)

    def prepare(step: int) -> tuple[Tensor, Tensor, brainlm.TokenMask]:
        values = torch.from_numpy(corpus.windows(step, windows=windows)).transpose(1, 2)
        high, wide = _IMAGE - values.shape[1], _IMAGE - values.shape[2]
        padded = functional.pad(values, (wide // 2, wide - wide // 2, high // 2, high - high // 2), value=-1.0)
        cut_up = padded.reshape(windows, squares, _SQUARE, squares, _SQUARE).transpose(2, 3)
        tokens = cut_up.reshape(windows, squares, squares, 1, -1).expand(-1, -1, -1, _COLOURS, -1)
        mask = brainlm.TokenMask.draw(windows=windows, tokens=squares**2, share=share, generator=generator)
        return tokens.reshape(windows, squares, -1), position, mask

    patch = _COLOURS * _SQUARE**2
    network = brainlm.BrainLM(brainlm.SIZES[settings["size"]], patch=patch)
    learns = reference(corpus, settings)
    return replace(learns, who="brainlm, as an image", network=network, prepare=prepare)


ALL_TARGETS = "neurofm, all targets"
NETWORKS: dict[str, Callable[[Corpus, Settings], Trainee]] = {
    "neurofm": neurofm,
    ALL_TARGETS: partial(neurofm, who=ALL_TARGETS, targets=_EVERYTHING),
    f"neurofm, {VISIBLE} visible": partial(neurofm, who=f"neurofm, {VISIBLE} visible", visible=VISIBLE),
    "brainlm": reference,
    "brainlm, as an image": image,
}


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
