"""Checkpoint: a trained model as plain files, without pickle, the same bytes for the same training.

``model.safetensors``       weights of the network
``statistics.safetensors``  moments of the training recordings per set of channels
``config.json``             sizes, windows, gains, core settings, who was seen in training (hashed), versions
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save

import neurofm
from neurofm.errors import UserError
from neurofm.files import write_atomic, write_json
from neurofm.model.core import CoreSettings, Moments
from neurofm.model.neurofm import NeuroFM
from neurofm.model.settings import ModelSettings
from neurofm.recording import Modality
from neurofm.training.contexts import CoreChoice
from neurofm.training.tuning import CoreChoices
from neurofm.windows import WindowsSettings

SCHEMA = "neurofm-model/1"


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model of one fold."""

    network: NeuroFM
    model: ModelSettings
    windows: WindowsSettings
    gains: dict[Modality, float]
    choices: CoreChoices
    priors: dict[str, Moments]
    """Per channel set, with the smoothing chosen for it, over all its training recordings."""
    prior_recordings: frozenset[str]
    """`digest` of the names of the recordings in the priors."""
    subjects: frozenset[str]
    """`digest` of every subject seen in training."""


def digest(name: str) -> str:
    """SHA-256 of a subject or a recording, so that a published model does not list them."""
    return hashlib.sha256(name.encode()).hexdigest()


def patch_samples(windows: WindowsSettings) -> dict[Modality, int]:
    """Return the samples in a patch, per modality."""
    return {modality: windows.of(modality).patch_samples for modality in Modality}


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the three files."""
    weights = {name: value.contiguous() for name, value in checkpoint.network.state_dict().items()}
    write_atomic(folder / "model.safetensors", save(weights))
    statistics = {}
    for name, prior in checkpoint.priors.items():
        statistics[f"{name}.samples"] = torch.tensor(prior.samples, dtype=torch.float64)
        statistics[f"{name}.ss"] = prior.ss.contiguous()
        statistics[f"{name}.xs"] = prior.xs.contiguous()
    write_atomic(folder / "statistics.safetensors", save(statistics))
    config = {
        "schema": SCHEMA,
        "model": checkpoint.model.model_dump(mode="json"),
        "windows": checkpoint.windows.model_dump(mode="json"),
        "residual_gain": checkpoint.gains,
        "core": {name: asdict(choice) for name, choice in checkpoint.choices.by_channel_set.items()},
        "core_of_new_channels": {name: asdict(choice) for name, choice in checkpoint.choices.by_modality.items()},
        "prior_recordings_sha256": sorted(checkpoint.prior_recordings),
        "subjects_sha256": sorted(checkpoint.subjects),
        "versions": {"neurofm": neurofm.__version__, "torch": str(torch.__version__)},
    }
    write_json(folder / "config.json", config)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote.

    Raises
    ------
    UserError
        If a file is missing or damaged, or was written by another version of the schema.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        if config.get("schema") != SCHEMA:
            raise UserError(
                f"{folder / 'config.json'}: schema is {config.get('schema')!r}, this version reads {SCHEMA!r}.",
                mend="train again with `dvc repro pretrain`",
            )
        weights = load((folder / "model.safetensors").read_bytes())
        statistics = load((folder / "statistics.safetensors").read_bytes())
        return _build(config, weights=weights, statistics=statistics)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        what = " ".join(str(error).split())
        problem = f"{folder}: not a readable model: {what}."
        raise UserError(
            problem, mend="restore it with `dvc checkout`, or train again with `dvc repro pretrain`"
        ) from None


def _build(
    config: Mapping[str, Any], *, weights: dict[str, torch.Tensor], statistics: Mapping[str, torch.Tensor]
) -> Checkpoint:
    model = ModelSettings.model_validate(config["model"])
    windows = WindowsSettings.model_validate(config["windows"])
    network = NeuroFM(model, patch_samples=patch_samples(windows))
    network.load_state_dict(weights)
    network.eval()
    by_set = {name: _choice(plain) for name, plain in config["core"].items()}
    priors = {
        name: Moments(
            samples=float(statistics[f"{name}.samples"]), ss=statistics[f"{name}.ss"], xs=statistics[f"{name}.xs"]
        )
        for name in by_set
        if f"{name}.samples" in statistics
    }
    return Checkpoint(
        network=network,
        model=model,
        windows=windows,
        gains={Modality(name): gain for name, gain in config["residual_gain"].items()},
        choices=CoreChoices(
            by_channel_set=by_set,
            by_modality={Modality(name): _choice(plain) for name, plain in config["core_of_new_channels"].items()},
        ),
        priors=priors,
        prior_recordings=frozenset(config["prior_recordings_sha256"]),
        subjects=frozenset(config["subjects_sha256"]),
    )


def _choice(plain: Mapping[str, Any]) -> CoreChoice:
    core = plain["core"]
    settings = CoreSettings(
        smoothing_samples=tuple(core["smoothing_samples"]), ridge=core["ridge"], prior_samples=core["prior_samples"]
    )
    return CoreChoice(core=settings, rate_floor=plain["rate_floor"])
