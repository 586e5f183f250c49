"""Calcium and Miniscope protocol of `benchmarks.cores`: hidden ROIs of the sample's two-photon and one-photon movies.

One two-photon recording (pynapple's 2022_08_08, ROIs of constant fluorescence left out) and two Miniscope recordings of
ten cells (A0634, A6512). A recording is ten contiguous blocks: 4 and 9 are tested, 2 and 6 choose the penalties of each
estimator, the others train. Ten draws of 30 % of the ROIs are hidden in turn. Mean and SD are those of the training
blocks. The mixture of the bank is learned on cross-fitted episodes as for spikes, with Gaussian noise, one for each
modality, and kept where it is best on the validation blocks. Three recordings: indicative only.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.cores_scores import Scores
from neurofm.catalog import load_entry
from neurofm.fetch import fetch_dataset
from neurofm.model.bank import FLUORESCENCE_BANK, Bank, BankMixture, MemberSettings, smoothed_sums
from neurofm.model.statistics import channel_statistics
from neurofm.readers import ReaderInput, read_recording
from neurofm.sources import build_manifest
from neurofm.windows.normaliser import MIN_SD_FRACTION

PROJECT = Path(__file__).resolve().parents[1]
BLOCKS, TEST, VALIDATION = 10, (4, 9), (2, 6)
TRAIN = tuple(block for block in range(BLOCKS) if block not in (*TEST, *VALIDATION))
HIDDEN, DRAWS, STEPS = 0.3, 10, 200
LONGEST = 300
"""Frames of a block that a step learns from."""
SHRINKAGES = (0.02, 0.05, 0.1, 0.2, 0.4)
UNIT = "R2"
CASES = {"calcium, 30 % of the ROIs": "a0662-2p", "Miniscope, 30 % of the cells": "cnmfe-miniscope"}


@dataclass(frozen=True)
class Movie:
    """One recording."""

    z: Tensor
    """[block, time, channel] float64"""
    rate_hz: float

    def among(self, blocks: Iterable[int]) -> Tensor:
        """[block, time, channel]."""
        return self.z[list(blocks)]

    def masks(self) -> Tensor:
        """[draw, channel] bool: what is visible."""
        generator = np.random.default_rng(0)
        channels = self.z.shape[2]
        shown = np.ones((DRAWS, channels), dtype=bool)
        for row in shown:
            row[generator.permutation(channels)[: max(1, round(HIDDEN * channels))]] = False
        return torch.from_numpy(shown)


def scores(_: Path) -> Scores:
    """Score every estimator on every draw of hidden ROIs, averaged over recordings."""
    found: Scores = {}
    for case, dataset in CASES.items():
        movies = _load(dataset)
        mixture = _learn_mixture(movies)
        each = [_score(movie, mixture) for movie in movies]
        found[case, UNIT] = {who: np.mean([values[who] for values in each], axis=0).tolist() for who in each[0]}
    return found


def _score(movie: Movie, mixture: BankMixture) -> dict[str, list[float]]:
    sums = smoothed_sums(movie.among(TRAIN), members=FLUORESCENCE_BANK)
    bank = Bank.fit(sums, members=FLUORESCENCE_BANK)
    identity = _identity(movie, TRAIN, bank)
    low_rank = [
        Bank.fit(smoothed_sums(movie.among(TRAIN), members=(one,)), members=(one,))
        for one in (MemberSettings(rank=rank, smoothing_samples=0.0) for rank in (4, 8, 16, 32))
    ]
    full = [
        Bank.fit(smoothed_sums(movie.among(TRAIN), members=(one,)), members=(one,))
        for one in (MemberSettings(rank=None, smoothing_samples=0.0, shrinkage=share) for share in SHRINKAGES)
    ]

    def best(banks: list[Bank], visible: Tensor) -> Tensor:
        return max(
            (_estimates(movie, one, visible)[..., 0] for one in banks),
            key=lambda z: _r2(z, movie, visible, VALIDATION),
        )

    made: dict[str, list[float]] = {}
    for visible in movie.masks():
        estimates = _estimates(movie, bank, visible)
        with torch.no_grad():
            mixed = mixture(estimates, identity)
        for who, z in {
            "PPCA": best(low_rank, visible),
            "shrunk full covariance (ridge)": best(full, visible),
            "neurofm core, equal weights": estimates.mean(dim=-1),
            "neurofm core": mixed,
        }.items():
            made.setdefault(who, []).append(_r2(z, movie, visible, TEST))
    return made


def _estimates(movie: Movie, bank: Bank, visible: Tensor) -> Tensor:
    """[block, time, channel, member] of all blocks."""
    return bank.estimate(movie.z, visible.expand(len(movie.z), -1))


def _r2(z: Tensor, movie: Movie, visible: Tensor, blocks: Iterable[int]) -> float:
    wanted, got = (part[list(blocks)][..., ~visible] for part in (movie.z, z))
    return _r2_of(got, wanted)


def _r2_of(got: Tensor, wanted: Tensor) -> float:
    return 1 - float((got - wanted).square().sum() / wanted.square().sum())


def _identity(movie: Movie, blocks: Iterable[int], bank: Bank) -> Tensor:
    parts = [part.numpy().astype(np.float32) for part in movie.among(blocks)]
    statistics = channel_statistics(parts, counts=False, sampling_rate_hz=movie.rate_hz)
    return torch.cat([torch.from_numpy(statistics).double(), bank.communality().sqrt()], dim=1)


def _learn_mixture(movies: list[Movie]) -> BankMixture:
    """Learn the weights by identity on cross-fitted episodes."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    episodes = []
    for movie in movies:
        for fold in range(3):
            targets = TRAIN[2 * fold : 2 * fold + 2]
            seen = tuple(block for block in TRAIN if block not in targets)
            bank = Bank.fit(smoothed_sums(movie.among(seen), members=FLUORESCENCE_BANK), members=FLUORESCENCE_BANK)
            episodes.append((movie.among(targets), bank, _identity(movie, seen, bank)))
    mixture = BankMixture(members=len(FLUORESCENCE_BANK), features=episodes[0][2].shape[1]).double()
    optimiser = torch.optim.AdamW(mixture.parameters(), lr=3e-3, weight_decay=0.05)
    judged = [_judged(movie) for movie in movies]
    best = (-np.inf, mixture.state_dict())
    for step in range(STEPS + 1):
        if step % 20 == 0:
            with torch.no_grad():
                score = np.mean([_r2_of(mixture(estimates, who), truth) for estimates, who, truth in judged])
            if score > best[0]:
                best = (float(score), copy.deepcopy(mixture.state_dict()))
        blocks, bank, identity = episodes[int(torch.randint(len(episodes), (), generator=generator))]
        start = int(torch.randint(max(1, blocks.shape[1] - LONGEST), (), generator=generator))
        z = blocks[:, start : start + LONGEST]
        share = 0.15 + 0.35 * float(torch.rand((), generator=generator))
        visible = torch.rand(z.shape[2], generator=generator) > share
        if visible.all() or not visible.any():
            continue
        mixed = mixture(bank.estimate(z, visible.expand(len(z), -1)), identity)
        loss = (mixed - z)[..., ~visible].square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    mixture.load_state_dict(best[1])
    return mixture


def _judged(movie: Movie) -> tuple[Tensor, Tensor, Tensor]:
    """Hidden ROIs of the validation blocks: estimates [block, time, hidden, member], identity and truth."""
    bank = Bank.fit(smoothed_sums(movie.among(TRAIN), members=FLUORESCENCE_BANK), members=FLUORESCENCE_BANK)
    z, identity = movie.among(VALIDATION), _identity(movie, TRAIN, bank)
    estimates, who, truth = [], [], []
    for visible in movie.masks()[:4]:
        estimates.append(bank.estimate(z, visible.expand(len(z), -1))[..., ~visible, :])
        who.append(identity[~visible])
        truth.append(z[..., ~visible])
    return torch.cat(estimates, dim=2), torch.cat(who), torch.cat(truth, dim=2)


def _load(dataset: str) -> list[Movie]:
    """Read the recordings of one of the sample's datasets; they are fetched first."""
    entry = load_entry(dataset, root=PROJECT)
    manifest = build_manifest(entry, root=PROJECT)
    raw = PROJECT / ".neurofm" / "test-raw" / dataset
    fetch_dataset(entry, manifest, raw=raw, work=PROJECT / ".neurofm")
    found = []
    for each in manifest.recordings:
        source = ReaderInput(dataset=dataset, modality=entry.modality, species=entry.species, root=raw, entry=each)
        signal = read_recording(entry.reader, source, entry.reader_options).signal
        assert signal is not None
        values = torch.from_numpy(np.asarray(signal.values, dtype=np.float64))
        length = len(values) // BLOCKS
        blocks = values[: BLOCKS * length].reshape(BLOCKS, length, -1)
        training = blocks[list(TRAIN)].flatten(0, 1)
        spread = training.std(dim=0)
        varies = spread > MIN_SD_FRACTION * spread.median()
        z = (blocks - training.mean(dim=0)) / spread
        found.append(Movie(z=z[..., varies], rate_hz=signal.sampling_rate_hz))
    return found
