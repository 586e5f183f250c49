"""Train torch_brain's POYO a few steps: ``python -m benchmarks.train_poyo SETTINGS``, prints JSON rows.

Azabou et al. 2023, arXiv:2310.16046. The network, its tokenizer and its padding are the library's; here it is given the
windows of spikes that neurofm is given, of the visible units only. It predicts two values per bin, as when it decodes
velocity: it has no masked units to predict, so that only its speed is compared. Runs where torch_brain is installed.
"""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from benchmarks.loader_windows import Row, printed
from benchmarks.train_steps import Trainee, measure
from benchmarks.train_windows import Corpus, Settings, spike_times

SIZES: dict[str, dict[str, int]] = {
    "tiny": {"dim": 64, "depth": 9, "num_latents_per_step": 16, "cross_heads": 2},
    "111M": {"dim": 512, "depth": 24, "num_latents_per_step": 32, "cross_heads": 4},
}
"""The authors' 1.3 M (depth 6) made deeper, and their 11.8 M (width 128) made wider, to the number of parameters."""
_VELOCITY = 2


def poyo(settings: Settings) -> Trainee:
    """Build POYO and what feeds it."""
    models, data = import_module("torch_brain.models"), import_module("torch_brain.data")
    collate: Any = import_module("torch_brain.batching").collate
    corpus = Corpus.load(Path(settings["folder"]), "spikes")
    windows: int = settings["windows"]
    visible = np.flatnonzero(~corpus.hidden)
    units = np.array([f"unit{unit:03d}" for unit in visible])
    seconds = corpus.window_samples / corpus.sampling_rate_hz
    bins = (np.arange(corpus.window_samples) + 0.5) / corpus.sampling_rate_hz
    network: Any = models.POYO(
        sequence_length=seconds,
        latent_step=0.125,
        dim_out=_VELOCITY,
        dim_head=64,
        self_heads=8,
        **SIZES[settings["size"]],
    )
    network.unit_emb.initialize_vocab(units.tolist())
    network.session_emb.initialize_vocab(["bench"])

    def prepare(step: int) -> dict[str, Tensor]:
        samples = []
        for counts in corpus.windows(step, windows=windows)[..., visible]:
            times, index = spike_times(counts, sampling_rate_hz=corpus.sampling_rate_hz)
            window = data.Data(
                spikes=data.IrregularTimeSeries(timestamps=times, unit_index=index, domain="auto"),
                units=data.ArrayDict(id=units),
                session=data.Data(id="bench"),
                domain=data.Interval(0.0, seconds),
            )
            samples.append(network.tokenize(window))
        inputs: dict[str, Tensor] = collate(samples)
        return inputs | {"output_timestamps": torch.from_numpy(bins).expand(windows, -1)}

    def output(model: nn.Module, inputs: dict[str, Tensor]) -> Tensor:
        predicted: Tensor = model(**inputs)
        return predicted

    def loss(predicted: Tensor, _inputs: dict[str, Tensor]) -> Tensor:
        return predicted.square().mean()

    return Trainee(who="POYO", network=network, prepare=prepare, output=output, loss=loss, windows=windows)


def main(settings: Settings) -> list[Row]:
    """Return its rows."""
    return measure(lambda: poyo(settings), settings)


if __name__ == "__main__":
    print(printed(main(json.loads(sys.argv[1]))))
