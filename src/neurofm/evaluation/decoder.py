"""Decoder: a small recurrent network beside a linear read-out, over the patches of a window and in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]

_WIDTH = 64
_DROPOUT = 0.2
_LEARNING_RATE = 5e-3
_WEIGHT_DECAY = 1e-2
_BATCH = 32
_EVERY = 10
"""Steps between looks at the judging windows."""
_PATIENCE = 10
"""Looks without improvement after which training ends."""
_LEAST_SD = 1e-9
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)
"""Of the networks in what is decoded; the rest is the linear read-out's."""


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Windows to learn a decoder on, or to judge it by."""

    features: Floats
    """[window, patch, feature]"""
    values: Floats
    """[window, patch, column]"""
    counted: npt.NDArray[np.bool_]
    """[window, patch]"""


class _Network(nn.Module):
    """Reads a patch and those around it; says the mean at first."""

    def __init__(self, *, features: int, columns: int) -> None:
        super().__init__()
        self.dropout = nn.Dropout(_DROPOUT)
        self.recurrent = nn.GRU(features, _WIDTH, batch_first=True, bidirectional=True)
        self.out = nn.Linear(2 * _WIDTH, columns)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def forward(self, features: Tensor) -> Tensor:
        """[window, patch, feature] -> [window, patch, column]."""
        hidden, _ = self.recurrent(self.dropout(features))
        values: Tensor = self.out(self.dropout(hidden))
        return values


def decode_recurrently(
    fit: Patches, tried: Sequence[tuple[Patches, Patches]], asked: Floats, *, penalty: float, steps: int
) -> Floats:
    """Learn a network in each round, on one part and until the other is decoded best; decode `asked` with all of them.

    In each round everything is standardised by what is fitted on. The networks start from the mean, and not from what a
    ridge regression leaves: that is smaller on the windows it was fitted on than on others, so that they would learn to
    correct too little. How much is theirs and how much a ridge regression's on all of `fit` is what decodes the judging
    parts of all rounds best, each by its own round's; none of theirs where they do not help there. One block alone may
    be one of sleep, and a poor judge.

    Parameters
    ----------
    fit
        Windows whose values are known.
    tried
        Rounds: windows to fit on, and others that judge, whose values are known (`samples.rounds`).
    asked
        [window, patch, feature]
    penalty
        Of the ridge regression, per sample.
    steps
        Most steps of each network.

    Returns
    -------
    [window, patch, column]
    """
    learned = [_learn(fit, judge, penalty=penalty, steps=steps, seed=seed) for seed, (fit, judge) in enumerate(tried)]
    told = [
        (one.by.straight(judge.features), one.network(judge.features))
        for one, (_, judge) in zip(learned, tried, strict=True)
    ]

    def missed(share: float) -> float:
        """Return the squared error on the judging parts."""
        return sum(
            float(np.square(share * network + (1 - share) * straight - judge.values)[judge.counted].sum())
            for (straight, network), (_, judge) in zip(told, tried, strict=True)
        )

    share = min(_SHARES, key=missed)
    network = np.mean([one.network(asked) for one in learned], axis=0)
    decoded: Floats = share * network + (1 - share) * _Straight.of(fit, penalty=penalty).straight(asked)
    return decoded


@dataclass(frozen=True, kw_only=True)
class _Straight:
    """A ridge regression, and by what everything is standardised."""

    mean: Floats
    """[feature]"""
    sd: Floats
    middle: Floats
    """[column]"""
    scale: Floats
    linear: Ridge

    @classmethod
    def of(cls, fit: Patches, *, penalty: float) -> _Straight:
        """Learn it."""
        seen, target = fit.features[fit.counted], fit.values[fit.counted]
        mean, spread = seen.mean(axis=0), seen.std(axis=0)
        # What was constant may move in what is asked, and must not explode there.
        sd = np.where(spread > _LEAST_SD, spread, 1.0)
        middle, scale = target.mean(axis=0), np.maximum(target.std(axis=0), _LEAST_SD)
        linear = Ridge(alpha=penalty * len(seen)).fit((seen - mean) / sd, (target - middle) / scale)
        return cls(mean=mean, sd=sd, middle=middle, scale=scale, linear=linear)

    def standardised(self, features: Floats) -> Floats:
        """[window, patch, feature] in SDs."""
        return (features - self.mean) / self.sd

    def straight(self, features: Floats) -> Floats:
        """[window, patch, column] of the ridge regression."""
        z = self.standardised(features)
        said: Floats = self.linear.predict(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:2], -1)
        return said * self.scale + self.middle


@dataclass(frozen=True, kw_only=True)
class _Learned:
    """What one round has learned."""

    by: _Straight
    recurrent: _Network

    def network(self, features: Floats) -> Floats:
        """[window, patch, column] of the network."""
        z = torch.from_numpy(self.by.standardised(features)).float()
        with torch.no_grad():
            said: Floats = self.recurrent.eval()(z).double().numpy()
        return said * self.by.scale + self.by.middle


def _learn(fit: Patches, judge: Patches, *, penalty: float, steps: int, seed: int) -> _Learned:
    by = _Straight.of(fit, penalty=penalty)

    def known(patches: Patches) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, values, and which patches count."""
        z = torch.from_numpy(by.standardised(patches.features)).float()
        values = torch.from_numpy((patches.values - by.middle) / by.scale).float()
        return z, values, torch.from_numpy(patches.counted).float()[..., None]

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        network = _Network(features=fit.features.shape[-1], columns=fit.values.shape[-1])
        _train(network, known(fit), known(judge), steps=steps, seed=seed)
    return _Learned(by=by, recurrent=network)


def _train(
    network: _Network,
    fit: tuple[Tensor, Tensor, Tensor],
    judge: tuple[Tensor, Tensor, Tensor],
    *,
    steps: int,
    seed: int,
) -> None:
    """Train in place; ends with the weights that were best on `judge`, which may be the first."""
    optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    rng = np.random.default_rng(seed)
    best = {name: value.clone() for name, value in network.state_dict().items()}
    least, waited = _error(network, judge), 0
    for step in range(1, steps + 1):
        chosen = torch.from_numpy(rng.choice(len(fit[0]), size=min(_BATCH, len(fit[0])), replace=False))
        z, left, counted = (part[chosen] for part in fit)
        loss = ((network.train()(z) - left).square() * counted).sum() / counted.sum().clamp_min(1)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        if step % _EVERY:
            continue
        error = _error(network, judge)
        waited += 1
        if error < least:
            least, waited = error, 0
            best = {name: value.clone() for name, value in network.state_dict().items()}
        if waited == _PATIENCE:
            break
    network.load_state_dict(best)


def _error(network: _Network, judge: tuple[Tensor, Tensor, Tensor]) -> float:
    z, values, counted = judge
    with torch.no_grad():
        return float(((network.eval()(z) - values).square() * counted).sum())
