"""Channel identity: who a channel is, from its position and its statistics, never from its number."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from neurofm.model.statistics import STATISTICS

_PLACE = 3 + 1
"""Position, and whether it is known."""
IDENTITY_FEATURES = _PLACE + len(STATISTICS)
"""Position, whether it is known, statistics."""


def identity_features(position: npt.NDArray[np.float32], statistics: npt.NDArray[np.float32]) -> Tensor:
    """Put together what the identity is made of.

    Parameters
    ----------
    position
        [channel, 3] in any unit; NaN where unknown. Centred and scaled by the recording's own extent (5th to
        95th percentile), since units and spaces differ between recordings.
    statistics
        [channel, len(STATISTICS)]

    Returns
    -------
    [channel, IDENTITY_FEATURES] float32; unknown positions are 0 and flagged.
    """
    known = np.asarray(np.isfinite(position).all(axis=1))
    scaled = np.zeros_like(position, dtype=np.float32)
    if known.any():
        low, middle, high = np.percentile(position[known], [5, 50, 95], axis=0)
        extent = max(float((high - low).max()) / 2, 1e-6)
        scaled[known] = np.clip((position[known] - middle) / extent, -3, 3)
    return torch.from_numpy(np.concatenate([scaled, known[:, None], statistics], axis=1).astype(np.float32))


def table_index(names: Sequence[str], *, size: int) -> Tensor:
    """Find the rows of regions or units in a table of learned terms, the same in every run and on every machine.

    Parameters
    ----------
    names
        A region's name, or ``<recording>/<channel>``; empty where unknown.
    size
        Rows of the table. Names may share a row: a table much larger than the number of names keeps that rare.

    Returns
    -------
    [name] int64; 0 is unknown.
    """
    digests = [hashlib.sha256(name.encode()).digest() if name else b"" for name in names]
    return torch.tensor([1 + int.from_bytes(d[:8], "little") % (size - 1) if d else 0 for d in digests])


class FourierPosition(nn.Module):
    """Sines and cosines of a position, octave by octave, so that near channels can be told apart.

    Mildenhall et al. 2020, "NeRF", doi:10.1007/978-3-030-58452-8_24.

    Parameters
    ----------
    bands
        Octaves; the lowest has a period of 8 half extents of the recording.
    """

    def __init__(self, bands: int) -> None:
        super().__init__()
        self.register_buffer("frequency", math.pi / 4 * 2.0 ** torch.arange(bands), persistent=False)

    def forward(self, position: Tensor) -> Tensor:
        """[..., 3] scaled position -> [..., 6 * bands]."""
        angle = (position.unsqueeze(-1) * self.get_buffer("frequency")).flatten(-2)
        return torch.cat([angle.sin(), angle.cos()], dim=-1)


class ChannelIdentity(nn.Module):
    """Embed channels from their identity features, and from what is known by name where there are tables.

    Parameters
    ----------
    width
        Size of the embedding.
    bands
        Octaves of the position; 0 gives the position alone.
    regions
        Rows of the table of regions; 0 is no table.
    units
        Rows of the table of single channels; 0 is no table.
    unit_dropout
        Share of windows whose single channels are taken for unknown in training. So the model works where they are
        unknown (zero-shot), and a new recording can be learned by fitting its rows alone (few-shot).
    position, statistics
        False takes these features for unknown.
    """

    told: Tensor | None

    def __init__(
        self,
        width: int,
        *,
        bands: int = 0,
        regions: int = 0,
        units: int = 0,
        unit_dropout: float = 0.5,
        position: bool = True,
        statistics: bool = True,
    ) -> None:
        super().__init__()
        told = [position] * _PLACE + [statistics] * len(STATISTICS)
        self.register_buffer("told", None if all(told) else torch.tensor(told), persistent=False)
        self.position = FourierPosition(bands) if bands else None
        features = IDENTITY_FEATURES + 6 * bands
        self.layers = nn.Sequential(nn.Linear(features, width), nn.GELU(), nn.Linear(width, width))
        self.region = _table(regions, width) if regions else None
        self.unit = _table(units, width) if units else None
        self.unit_dropout = unit_dropout

    def forward(self, features: Tensor, region: Tensor | None = None, unit: Tensor | None = None) -> Tensor:
        """Embed channels.

        Parameters
        ----------
        features
            [..., channel, IDENTITY_FEATURES]
        region, unit
            [..., channel] int64 rows of the tables (`table_index`), 0 or absent where unknown.

        Returns
        -------
        [..., channel, width]
        """
        if self.told is not None:
            features = features * self.told
        if self.position is not None:
            # An unknown position is not the centre: its waves are 0 like itself.
            waves = self.position(features[..., :3]) * features[..., 3:4]
            embedded = self.layers(torch.cat([features, waves], dim=-1))
        else:
            embedded = self.layers(features)
        if self.region is not None and region is not None:
            embedded = embedded + self.region(region)
        if self.unit is not None and unit is not None:
            embedded = embedded + self.unit(self._some_unknown(unit))
        result: Tensor = embedded
        return result

    def _some_unknown(self, unit: Tensor) -> Tensor:
        """[..., channel], with all channels of some windows unknown."""
        if not self.training:
            return unit
        known = torch.rand(unit.shape[:-1], device=unit.device).unsqueeze(-1) >= self.unit_dropout
        return unit * known


def _table(rows: int, width: int) -> nn.Embedding:
    """All rows at zero, so that one that training never met adds nothing."""
    table = nn.Embedding(rows, width, padding_idx=0)
    nn.init.zeros_(table.weight)
    return table
