"""Decoder: a small recurrent network on a linear read-out, over the patches of a window and in both directions."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from sklearn.linear_model import Ridge
from torch import Tensor, nn

Floats = npt.NDArray[np.float64]

SEEDS = (0, 1)
"""Networks that are averaged."""
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


@dataclass(frozen=True, kw_only=True)
class Patches:
    """Windows to learn a decoder on, or to judge it by."""

    features: Floats
    """[window, patch, feature]"""
    values: Floats
    """[window, patch, column]"""
    counted: npt.NDArray[np.bool_]
    """[window, patch]"""


class _Residual(nn.Module):
    """What the patches around add to a linear read-out; nothing at first."""

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
        added: Tensor = self.out(self.dropout(hidden))
        return added


def decode_recurrently(fit: Patches, judge: Patches, asked: Floats, *, penalty: float, steps: int) -> Floats:
    """Learn on `fit`, stop where `judge` is decoded best, decode `asked`.

    Everything is standardised by `fit`. A ridge regression comes first; the network learns what it leaves, from zero,
    so that a network that does not help on `judge` changes nothing. Two seeds are averaged.

    Parameters
    ----------
    fit, judge
        Windows whose values are known.
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
    seen, target = fit.features[fit.counted], fit.values[fit.counted]
    mean, spread = seen.mean(axis=0), seen.std(axis=0)
    sd = np.where(spread > _LEAST_SD, spread, 1.0)  # What was constant may move in `asked`, and must not explode there.
    middle, scale = target.mean(axis=0), np.maximum(target.std(axis=0), _LEAST_SD)
    linear = Ridge(alpha=penalty * len(seen)).fit((seen - mean) / sd, (target - middle) / scale)

    def tensors(features: Floats) -> tuple[Tensor, Tensor]:
        """Return standardised features, and what the linear read-out makes of them."""
        z = (features - mean) / sd
        read = linear.predict(z.reshape(-1, z.shape[-1])).reshape(*z.shape[:2], -1)
        return torch.from_numpy(z).float(), torch.from_numpy(read).float()

    def errors(patches: Patches) -> tuple[Tensor, Tensor, Tensor]:
        """Return features, what the linear read-out leaves, and which patches count."""
        z, read = tensors(patches.features)
        values = torch.from_numpy((patches.values - middle) / scale).float()
        return z, values - read, torch.from_numpy(patches.counted).float()[..., None]

    z, base = tensors(asked)
    added = torch.zeros_like(base)
    for seed in SEEDS:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            network = _Residual(features=z.shape[-1], columns=base.shape[-1])
            _train(network, errors(fit), errors(judge), steps=steps, seed=seed)
        with torch.no_grad():
            added += network.eval()(z) / len(SEEDS)
    decoded: Floats = (base + added).double().numpy() * scale + middle
    return decoded


def _train(
    network: _Residual,
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


def _error(network: _Residual, judge: tuple[Tensor, Tensor, Tensor]) -> float:
    z, left, counted = judge
    with torch.no_grad():
        return float(((network.eval()(z) - left).square() * counted).sum())
