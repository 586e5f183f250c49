"""Spikes protocol of `benchmarks.cores`: co-smoothing on the 13 shared sessions of Steinmetz 2019.

Bins of 20 ms, units with at least 20 training spikes, one fixed 30 % of the units hidden. The trials of a session are
ten contiguous blocks: 4 and 9 are tested, 2 and 6 choose smoothing, penalties and floors of each estimator, the others
train. Bits per spike are over the training mean of each unit. The mixture of the bank is learned over all sessions on
cross-fitted episodes: solutions from four of the six training blocks, targets from the other two.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from benchmarks.cores_scores import Scores
from neurofm.model.bank import (
    SPIKES_BANK,
    Bank,
    BankMixture,
    MemberSettings,
    log_rate,
    smooth_windows,
    smoothed_sums,
)
from neurofm.model.losses import poisson_deviance
from neurofm.model.statistics import channel_statistics
from neurofm.readers.shared.variables import load_variables

BLOCKS, TEST, VALIDATION = 10, (4, 9), (2, 6)
FEWEST_SPIKES = 20
HIDDEN = 0.3
BIN_S = 0.02
FLOORS = (0.02, 0.05, 0.1, 0.2, 0.3)
SMOOTHING = (0.5, 1.0)
UNIT = "bits/spike"
CASE = "spikes, 30 % of the units"
STEPS, TRIALS, TARGETS = 200, 16, 256


@dataclass(frozen=True)
class Session:
    """One session."""

    counts: Tensor
    """[trial, time, unit] float64"""
    block: Tensor
    """[trial] int64"""
    hidden: Tensor
    """[unit] bool"""
    mean: Tensor
    """[unit] counts per bin in training."""
    sd: Tensor

    @property
    def z(self) -> Tensor:
        """[trial, time, unit]."""
        return (self.counts - self.mean) / self.sd

    def among(self, blocks: Iterable[int]) -> Tensor:
        """[trial] bool."""
        return torch.isin(self.block, torch.tensor(sorted(blocks)))


TRAIN = tuple(block for block in range(BLOCKS) if block not in (*TEST, *VALIDATION))
Estimates = dict[str, Tensor]
"""Per candidate: rates [trial, time, hidden] of the validation blocks, then of the test blocks."""


def scores(data: Path) -> Scores:
    """Score every estimator on every session."""
    files = sorted((data / "ephys/steinmetz2019_rds").glob("session*.rds"), key=lambda file: int(file.stem[7:]))
    sessions = [_load(file) for file in files]
    started = time.process_time()
    mixture = _learn_mixture(sessions)
    print(f"spikes: the mixture took {time.process_time() - started:.0f} CPU-s to learn")
    found: dict[str, list[float]] = {}
    for session in sessions:
        rates = {
            "ridge": _best(session, _floored(session, _ridge(session))),
            "factor analysis (FA)": _best(session, _floored(session, _factor_analysis(session))),
            "Poisson GLM": _best(session, _glm(session)),
        }
        rates["FA + GLM"] = (rates["factor analysis (FA)"] + rates["Poisson GLM"]) / 2
        equal, mixed = _bank(session, mixture)
        rates["neurofm core, equal weights"] = equal
        rates["neurofm core"] = mixed
        for who, rate in rates.items():
            found.setdefault(who, []).append(_bits(session, rate[len(rate) - int(session.among(TEST).sum()) :], TEST))
        print("  ", *(f"{values[-1]:.3f}" for values in found.values()), flush=True)
    return {(CASE, UNIT): found}


def _load(file: Path) -> Session:
    variables = load_variables(file)
    fine = np.stack(variables["spks"])
    counts = torch.from_numpy(fine.reshape(*fine.shape[:2], -1, 2).sum(axis=-1).transpose(0, 2, 1))
    edges = np.linspace(0, len(counts), BLOCKS + 1).round().astype(int)
    block = torch.from_numpy(np.repeat(np.arange(BLOCKS), np.diff(edges)))
    training = counts[torch.isin(block, torch.tensor(TRAIN))]
    counts, training = (part[..., training.sum(dim=(0, 1)) >= FEWEST_SPIKES] for part in (counts, training))
    units = counts.shape[-1]
    hidden = torch.zeros(units, dtype=torch.bool)
    hidden[np.random.default_rng(0).permutation(units)[: round(HIDDEN * units)]] = True
    flat = training.flatten(0, 1)
    return Session(counts=counts, block=block, hidden=hidden, mean=flat.mean(dim=0), sd=flat.std(dim=0))


def _bits(session: Session, rate: Tensor, blocks: Iterable[int]) -> float:
    counts, mean = session.counts[session.among(blocks)][..., session.hidden], session.mean[session.hidden]
    rate = rate.clamp_min(1e-9)
    gained = (torch.xlogy(counts, rate / mean) - rate + mean).sum() / counts.sum()
    return float(gained / np.log(2))


def _best(session: Session, candidates: Estimates) -> Tensor:
    validated = int(session.among(VALIDATION).sum())
    return max(candidates.values(), key=lambda rate: _bits(session, rate[:validated], VALIDATION))


def _scored(session: Session) -> Tensor:
    """[trial, time, unit] z of the validation blocks, then of the test blocks."""
    return torch.cat([session.z[session.among(VALIDATION)], session.z[session.among(TEST)]])


def _floored(session: Session, estimates: Estimates) -> Estimates:
    mean, sd = session.mean[session.hidden], session.sd[session.hidden]
    return {
        f"{name} {floor}": torch.maximum(mean + z * sd, floor * mean)
        for (name, z), floor in product(estimates.items(), FLOORS)
    }


def _ridge(session: Session) -> Estimates:
    """Hidden from smoothed visible units; estimates in z units."""
    training, scored = session.z[session.among(TRAIN)], _scored(session)
    found = {}
    for sd in SMOOTHING:
        s, target = (
            part.flatten(0, 1) for part in (smooth_windows(training, sd_samples=sd)[..., ~session.hidden], training)
        )
        for penalty in (0.3, 1.0, 3.0):
            among = s.T @ s
            among += penalty * len(s) * among.diagonal().mean() / len(s) * torch.eye(len(among), dtype=among.dtype)
            weights = torch.linalg.solve(among, s.T @ target[:, session.hidden])
            found[f"{sd} {penalty}"] = smooth_windows(scored, sd_samples=sd)[..., ~session.hidden] @ weights
    return found


def _factor_analysis(session: Session) -> Estimates:
    """Posterior mean of the hidden units under factor analysis; estimates in z units."""
    from sklearn.decomposition import FactorAnalysis  # noqa: PLC0415

    training, scored = session.z[session.among(TRAIN)], _scored(session)
    found = {}
    for sd, rank in product(SMOOTHING, (8, 16)):
        model = FactorAnalysis(rank, svd_method="randomized", max_iter=60, random_state=0)
        model.fit(smooth_windows(training, sd_samples=sd).flatten(0, 1).numpy())
        loadings, noise = torch.from_numpy(model.components_.T), torch.from_numpy(model.noise_variance_)
        seen = loadings[~session.hidden] / noise[~session.hidden, None]
        among = torch.eye(rank, dtype=seen.dtype) + seen.T @ loadings[~session.hidden]
        latents = smooth_windows(scored, sd_samples=sd)[..., ~session.hidden] @ seen @ torch.linalg.inv(among)
        found[f"{sd} {rank}"] = latents @ loadings[session.hidden].T
    return found


def _glm(session: Session) -> Estimates:
    """Rates of Poisson regressions on the first principal components of the smoothed visible units."""
    training, scored = session.z[session.among(TRAIN)], _scored(session)
    counts = session.counts[session.among(TRAIN)].flatten(0, 1)[:, session.hidden]
    found = {}
    for sd in SMOOTHING:
        s = smooth_windows(training, sd_samples=sd)[..., ~session.hidden].flatten(0, 1)
        values, vectors = torch.linalg.eigh(s.T @ s / len(s))
        bias = session.mean[session.hidden].log()
        for rank, penalty in product((16, 32), (10.0, 30.0)):
            axes = vectors[:, -rank:] / values[-rank:].sqrt()
            weights = _poisson_regression(s @ axes, counts, bias=bias, penalty=penalty)
            log_rates = smooth_windows(scored, sd_samples=sd)[..., ~session.hidden] @ axes @ weights[1:] + weights[0]
            found[f"{sd} {rank} {penalty}"] = log_rates.clamp_max(5.0).exp()
    return found


def _poisson_regression(regressors: Tensor, counts: Tensor, *, bias: Tensor, penalty: float) -> Tensor:
    """[1 + regressor, unit]: one regression per unit, with a ridge on all but the bias."""
    weights = torch.cat([bias[None], torch.zeros(regressors.shape[1], counts.shape[1], dtype=bias.dtype)])
    weights.requires_grad_()
    optimiser = torch.optim.LBFGS([weights], max_iter=60, history_size=10, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimiser.zero_grad()
        log_rates = (regressors @ weights[1:] + weights[0]).clamp_max(5.0)
        loss = (log_rates.exp() - counts * log_rates).sum() + penalty * weights[1:].square().sum() / 2
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimiser.step(closure)  # type: ignore[no-untyped-call]
    return weights.detach()


def _bank_of(session: Session, blocks: Iterable[int], members: tuple[MemberSettings, ...] = SPIKES_BANK) -> Bank:
    return Bank.fit(smoothed_sums(session.z[session.among(blocks)], members=members), members=members)


def _identity(session: Session, blocks: Iterable[int], bank: Bank) -> Tensor:
    """Describe units by statistics and by what the latents explain of each, [unit, feature]."""
    known = session.counts[session.among(blocks)].flatten(0, 1).numpy().astype(np.float32)
    statistics = channel_statistics([known], counts=True, sampling_rate_hz=1 / BIN_S)
    return torch.cat([torch.from_numpy(statistics).double(), bank.communality().sqrt()], dim=1)


def _bank(session: Session, mixture: BankMixture) -> tuple[Tensor, Tensor]:
    """Rates with equal and with learned weights."""
    bank = _bank_of(session, TRAIN)
    scored = _scored(session)
    estimates = bank.estimate(scored, (~session.hidden).expand(len(scored), -1))
    with torch.no_grad():
        mixed = mixture(estimates, _identity(session, TRAIN, bank))
    mean, sd = session.mean[session.hidden], session.sd[session.hidden]
    equal, learned = (
        log_rate(z[..., session.hidden], mean=mean, sd=sd, sharpness=4.0).exp() for z in (estimates.mean(dim=-1), mixed)
    )
    return equal, learned


def _learn_mixture(sessions: list[Session]) -> BankMixture:
    """Learn the weights by identity on cross-fitted episodes; the best on the validation blocks."""
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    episodes = []
    for session in sessions:
        for fold in range(3):
            targets = TRAIN[2 * fold : 2 * fold + 2]
            seen = tuple(block for block in TRAIN if block not in targets)
            bank = _bank_of(session, seen)
            episodes.append((session, targets, bank, _identity(session, seen, bank)))
    mixture = BankMixture(members=len(SPIKES_BANK), features=episodes[0][3].shape[1]).double()
    optimiser = torch.optim.AdamW(mixture.parameters(), lr=3e-3, weight_decay=0.05)
    for _ in range(STEPS):
        session, targets, bank, identity = episodes[int(torch.randint(len(episodes), (), generator=generator))]
        pool = session.among(targets).nonzero()[:, 0]
        chosen = pool[torch.randint(len(pool), (TRIALS,), generator=generator)]
        units = session.counts.shape[-1]
        share = 0.15 + 0.35 * float(torch.rand((), generator=generator))
        hidden = torch.rand(units, generator=generator) < share
        asked = hidden.nonzero()[:, 0][:TARGETS]
        estimates = bank.estimate(session.z[chosen], (~hidden).expand(TRIALS, -1))[..., asked, :]
        mixed = mixture(estimates, identity[asked])
        log_rates = log_rate(mixed, mean=session.mean[asked], sd=session.sd[asked], sharpness=4.0)
        loss = poisson_deviance(log_rates, session.counts[chosen][..., asked]).mean()
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    return mixture
