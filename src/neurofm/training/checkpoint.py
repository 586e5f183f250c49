"""Checkpoint: a trained model as a folder of plain files, without pickle, the same bytes for the same training.

``model.safetensors``       weights of the network
``statistics.safetensors``  moments of the training recordings per set of channels; lagged products, where patches were
                            hidden; the same of subjects with several recordings; weights of mixtures
``config.json``             size and digest of both, sizes of the network, windows, gains, which cores and their
                            settings, members of the banks, rates, atlases and montages of the training data, who
                            and what was seen in training (hashed), versions
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from safetensors.torch import save

import neurofm
from neurofm.files import write_atomic, write_json
from neurofm.model.bank import MemberSettings
from neurofm.model.core import CoreSettings, Moments
from neurofm.model.pooled_lags import PooledLags
from neurofm.model.pretrained import (
    CONFIG,
    MEND,
    SCHEMA,
    STATISTICS,
    WEIGHTS,
    describe_file,
    load_network,
    read_config,
    read_tensors,
    unreadable,
)
from neurofm.model.prior import LagSums
from neurofm.model.settings import ModelSettings
from neurofm.model.whole_channels import Network, network_of
from neurofm.recording import Modality
from neurofm.training.acquisition import Acquisition
from neurofm.training.contexts import CoreChoice, CoreKind, ModalityBank
from neurofm.training.mixtures import unlearned_mixture
from neurofm.training.tuning import CoreChoices
from neurofm.windows import WindowsSettings

_INTERVALS = "lag_interval_s"


@dataclass(frozen=True, kw_only=True)
class SubjectSums:
    """What a prior holds of some subjects with several recordings of one set of channels."""

    subjects: frozenset[str]
    """`digest` of each."""
    moments: Moments
    lagged: PooledLags | None
    """Where patches were hidden."""


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """A trained model of one fold."""

    network: Network
    model: ModelSettings
    windows: WindowsSettings
    gains: dict[str, float]
    """Per modality and kind of mask (`neurofm.training.hidden_patches.key_of`)."""
    choices: CoreChoices
    priors: dict[str, Moments]
    """Per channel set, with the smoothing chosen for it, over all its training recordings."""
    lagged: dict[str, PooledLags] = field(default_factory=dict, kw_only=True)
    """The same of lagged products, of channel sets whose patches were hidden."""
    subject_sums: dict[str, tuple[SubjectSums, ...]] = field(default_factory=dict, kw_only=True)
    """Per channel set, of subjects with several recordings: a prior can be had without any of them."""
    acquisitions: tuple[Acquisition, ...]
    """Rates, atlases and montages of the training data."""
    prior_recordings: frozenset[str]
    """`digest` of the names of the recordings in the priors."""
    subjects: frozenset[str]
    """`digest` of every subject seen in training."""
    shards: frozenset[str] = frozenset()
    """SHA-256 of every shard that was learned from, where it was told."""
    roles: Mapping[str, str] = field(default_factory=dict)
    """By the `digest` of the name of each recording that was learned from, the digest of its roles in the split; empty
    where it had different ones at different times."""


def digest(name: str) -> str:
    """SHA-256 of a subject or a recording, so that a published model does not list them."""
    return hashlib.sha256(name.encode()).hexdigest()


def patch_samples(windows: WindowsSettings) -> dict[Modality, int]:
    """Return the samples in a patch, per modality."""
    return {modality: windows.of(modality).patch_samples for modality in windows.modalities}


def write_checkpoint(checkpoint: Checkpoint, folder: Path) -> None:
    """Write the three files; the one that describes the others is the last."""
    weights = {name: value.cpu().contiguous() for name, value in checkpoint.network.state_dict().items()}
    statistics = {}
    for name, prior in checkpoint.priors.items():
        statistics[f"{name}.samples"] = torch.tensor(prior.samples, dtype=torch.float64)
        statistics[f"{name}.ss"] = prior.ss.contiguous()
        statistics[f"{name}.xs"] = prior.xs.contiguous()
    for name, pooled in checkpoint.lagged.items():
        statistics.update(_lag_tensors(name, pooled))
    for name, groups in checkpoint.subject_sums.items():
        for number, group in enumerate(groups):
            statistics.update(_group_tensors(f"{name}.group{number}", group))
    for modality, bank in checkpoint.choices.banks.items():
        for name, value in bank.mixture.state_dict().items():
            statistics[f"mixture.{modality}.{name}"] = value.cpu().contiguous()
    files = {WEIGHTS: save(weights), STATISTICS: save(statistics)}
    for name, content in files.items():
        write_atomic(folder / name, content)
    config = {
        "schema": SCHEMA,
        "files": {name: describe_file(content) for name, content in files.items()},
        "model": checkpoint.model.model_dump(mode="json"),
        "windows": checkpoint.windows.model_dump(mode="json"),
        "residual_gain": checkpoint.gains,
        "core": {name: asdict(choice) for name, choice in checkpoint.choices.by_channel_set.items()},
        "core_of_new_channels": {name: asdict(choice) for name, choice in checkpoint.choices.by_modality.items()},
        "gates": dict(checkpoint.choices.gates),
        "lagged": sorted(checkpoint.lagged),
        "banks": {
            modality: [asdict(member) for member in bank.members] for modality, bank in checkpoint.choices.banks.items()
        },
        "subject_groups_sha256": {
            name: [sorted(group.subjects) for group in groups] for name, groups in checkpoint.subject_sums.items()
        },
        "acquisitions": [asdict(one) for one in checkpoint.acquisitions],
        "prior_recordings_sha256": sorted(checkpoint.prior_recordings),
        "subjects_sha256": sorted(checkpoint.subjects),
        "shards_sha256": sorted(checkpoint.shards),
        "roles_sha256": dict(checkpoint.roles),
        "versions": {"neurofm": neurofm.__version__, "torch": str(torch.__version__), "numpy": np.__version__},
    }
    write_json(folder / CONFIG, config)


def read_checkpoint(folder: Path) -> Checkpoint:
    """Read what `write_checkpoint` wrote.

    Raises
    ------
    UserError
        If a file is missing or damaged, holds a network of another size, or was written by another version of the
        schema.
    """
    config = read_config(folder)
    network = load_network(network_of, folder)
    statistics = read_tensors(folder, STATISTICS, config=config)
    try:
        return _build(config, network=network, statistics=statistics, where=str(folder / CONFIG))
    except (ValueError, KeyError, TypeError) as error:
        raise unreadable(folder, error) from None


def _build(
    config: Mapping[str, Any], *, network: Network, statistics: Mapping[str, torch.Tensor], where: str
) -> Checkpoint:
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
        model=ModelSettings.parse(config["model"], where=f"{where}: model", mend=MEND),
        windows=WindowsSettings.parse(config["windows"], where=f"{where}: windows", mend=MEND),
        gains=dict(config["residual_gain"]),
        choices=CoreChoices(
            by_channel_set=by_set,
            by_modality={Modality(name): _choice(plain) for name, plain in config["core_of_new_channels"].items()},
            banks={Modality(name): _bank(name, members, statistics) for name, members in config["banks"].items()},
            # Models from before there were gates kept all that the core says.
            gates={name: float(gain) for name, gain in config.get("gates", {}).items()},
        ),
        priors=priors,
        lagged={name: _lags(name, statistics) for name in config["lagged"]},
        # Models from before there were such sums leave out the recording alone.
        subject_sums={
            name: tuple(_group(f"{name}.group{number}", subjects, statistics) for number, subjects in enumerate(groups))
            for name, groups in config.get("subject_groups_sha256", {}).items()
        },
        acquisitions=tuple(Acquisition.parse(one) for one in config["acquisitions"]),
        prior_recordings=frozenset(config["prior_recordings_sha256"]),
        subjects=frozenset(config["subjects_sha256"]),
        shards=frozenset(config["shards_sha256"]),
        roles=dict(config.get("roles_sha256", {})),  # Models of before it was kept have none.
    )


def _group_tensors(prefix: str, group: SubjectSums) -> dict[str, torch.Tensor]:
    tensors = {
        f"{prefix}.samples": torch.tensor(group.moments.samples, dtype=torch.float64),
        f"{prefix}.ss": group.moments.ss.contiguous(),
        f"{prefix}.xs": group.moments.xs.contiguous(),
    }
    return tensors if group.lagged is None else tensors | _lag_tensors(prefix, group.lagged)


def _group(prefix: str, subjects: Sequence[str], statistics: Mapping[str, torch.Tensor]) -> SubjectSums:
    return SubjectSums(
        subjects=frozenset(subjects),
        moments=Moments(
            samples=float(statistics[f"{prefix}.samples"]),
            ss=statistics[f"{prefix}.ss"],
            xs=statistics[f"{prefix}.xs"],
        ),
        lagged=_lags(prefix, statistics) if f"{prefix}.{_INTERVALS}" in statistics else None,
    )


def _lag_tensors(prefix: str, pooled: PooledLags) -> dict[str, torch.Tensor]:
    """``<prefix>.lag_interval_s`` [interval]; of each interval ``<prefix>.lags<number>.pairs`` and ``.products``."""
    tensors = {f"{prefix}.{_INTERVALS}": torch.tensor(list(pooled.by_interval), dtype=torch.float64)}
    for number, sums in enumerate(pooled.by_interval.values()):
        tensors[f"{prefix}.lags{number}.pairs"] = sums.pairs.contiguous()
        tensors[f"{prefix}.lags{number}.products"] = sums.products.contiguous()
    return tensors


def _lags(prefix: str, statistics: Mapping[str, torch.Tensor]) -> PooledLags:
    """Read them again."""
    return PooledLags(
        by_interval={
            interval_s: LagSums(
                pairs=statistics[f"{prefix}.lags{number}.pairs"],
                products=statistics[f"{prefix}.lags{number}.products"],
            )
            for number, interval_s in enumerate(statistics[f"{prefix}.{_INTERVALS}"].tolist())
        }
    )


def _choice(plain: Mapping[str, Any]) -> CoreChoice:
    core = plain["core"]
    settings = CoreSettings(
        smoothing_samples=tuple(core["smoothing_samples"]), ridge=core["ridge"], prior_samples=core["prior_samples"]
    )
    if plain["kind"] not in get_args(CoreKind):
        msg = f"there is no core {plain['kind']!r}"
        raise ValueError(msg)
    return CoreChoice(core=settings, rate_floor=plain["rate_floor"], kind=plain["kind"])


def _bank(name: str, plain: Sequence[Mapping[str, Any]], statistics: Mapping[str, torch.Tensor]) -> ModalityBank:
    members = tuple(MemberSettings(**member) for member in plain)
    mixture = unlearned_mixture(members)
    prefix = f"mixture.{name}."
    weights = {key.removeprefix(prefix): value for key, value in statistics.items() if key.startswith(prefix)}
    try:
        mixture.load_state_dict(weights)
    except RuntimeError as error:
        msg = f"{prefix}*: {error}"
        raise ValueError(msg) from None
    return ModalityBank(members=members, mixture=mixture.requires_grad_(requires_grad=False))
