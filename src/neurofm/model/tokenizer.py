"""Tokenizers: one patch of one visible channel becomes one token, in each modality's own way.

All take a patch as measured and as smoothed by the linear core, so that any of them fits any place.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurofm.recording import Modality

_MOST_COUNTS = 16
"""Counts per bin beyond this embed alike."""
_COUNT_WIDTH = 32
_MAD_TO_SD = 1.4826
_MAD_LIMIT = 5.0


def to_patches(x: Tensor, *, patch: int) -> Tensor:
    """[window, time, channel] -> [window, patches, channel, patch]."""
    windows, time, channels = x.shape
    return x.reshape(windows, time // patch, patch, channels).transpose(2, 3)


class PatchTokenizer(nn.Module):
    """Linear embedding of a patch of values, as measured and as smoothed by the linear core.

    Parameters
    ----------
    patch
        Samples in a patch.
    width
        Size of a token.
    """

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__()
        self.embed = nn.Linear(2 * patch, width)

    def forward(self, values: Tensor, smoothed: Tensor) -> Tensor:
        """[..., patch] z units, twice -> [..., width]."""
        tokens: Tensor = self.embed(torch.cat([values, smoothed], dim=-1))
        return tokens


class _Smoothed(nn.Module):
    """What the tokenizers below share: the smoothed patch is embedded linearly, and added."""

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__()
        self.smoothed = nn.Linear(patch, width)

    def forward(self, values: Tensor, smoothed: Tensor) -> Tensor:
        """[..., patch] in the modality's units and [..., patch] z units -> [..., width]."""
        tokens: Tensor = self.embed_values(values) + self.smoothed(smoothed)
        return tokens

    def embed_values(self, values: Tensor) -> Tensor:
        """[..., patch] -> [..., width]."""
        raise NotImplementedError


class BinnedTokenizer(_Smoothed):
    """Spike counts per bin (not z units): each count has an embedding, and the bins of a patch are joined linearly."""

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__(patch=patch, width=width)
        self.count = nn.Embedding(_MOST_COUNTS + 1, _COUNT_WIDTH)
        self.join = nn.Linear(patch * _COUNT_WIDTH, width)

    def embed_values(self, values: Tensor) -> Tensor:
        """[..., patch] counts -> [..., width]."""
        counts = values.round().clamp(0, _MOST_COUNTS).long()
        joined: Tensor = self.join(self.count(counts).flatten(-2))
        return joined


class CalciumTokenizer(_Smoothed):
    """Fluorescence in z units, and its rises: a transient starts fast and decays slowly."""

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__(patch=patch, width=width)
        self.level = nn.Linear(patch, width)
        self.rise = nn.Linear(patch - 1, width, bias=False) if patch > 1 else None

    def embed_values(self, values: Tensor) -> Tensor:
        """[..., patch] z units -> [..., width]."""
        embedded: Tensor = self.level(values)
        if self.rise is not None:
            embedded = embedded + self.rise(functional.relu(values.diff(dim=-1)))
        return embedded


class MiniscopeTokenizer(_Smoothed):
    """One-photon fluorescence against the median and MAD of its own patch, cut off where motion shows.

    What was taken out is given apart: the median, and the log of the MAD.
    """

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__(patch=patch, width=width)
        self.shape = nn.Linear(patch, width)
        self.level = nn.Linear(2, width, bias=False)

    def embed_values(self, values: Tensor) -> Tensor:
        """[..., patch] z units -> [..., width]."""
        median = values.median(dim=-1, keepdim=True).values
        centred = values - median
        spread = _MAD_TO_SD * centred.abs().median(dim=-1, keepdim=True).values + 1e-2
        shape = (centred / spread).clamp(-_MAD_LIMIT, _MAD_LIMIT)
        embedded: Tensor = self.shape(shape) + self.level(torch.cat([median, spread.log()], dim=-1))
        return embedded


class ROITokenizer(_Smoothed):
    """BOLD of a region of interest in z units, linearly."""

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__(patch=patch, width=width)
        self.wave = nn.Linear(patch, width)

    def embed_values(self, values: Tensor) -> Tensor:
        """[..., patch] z units -> [..., width]."""
        embedded: Tensor = self.wave(values)
        return embedded


class EEGTokenizer(_Smoothed):
    """The wave and its log amplitude spectrum, each linearly; EEG and MEG."""

    def __init__(self, *, patch: int, width: int) -> None:
        super().__init__(patch=patch, width=width)
        self.wave = nn.Linear(patch, width)
        self.spectrum = nn.Linear(patch // 2 + 1, width, bias=False)

    def embed_values(self, values: Tensor) -> Tensor:
        """[..., patch] z units -> [..., width]."""
        embedded: Tensor = self.wave(values) + self.spectrum(log_spectrum(values))
        return embedded


def log_spectrum(values: Tensor) -> Tensor:
    """[..., patch] -> [..., patch // 2 + 1]: log amplitude per frequency, with a floor that keeps silence finite."""
    # cuFFT has no bfloat16, and a log of rounded amplitudes is noise.
    amplitude = torch.fft.rfft(values.to(torch.promote_types(values.dtype, torch.float32)), dim=-1, norm="ortho").abs()
    return torch.log(amplitude + 1e-2).to(values.dtype)


TOKENIZERS: dict[Modality, type[nn.Module]] = {
    Modality.SPIKES: BinnedTokenizer,
    Modality.CALCIUM: CalciumTokenizer,
    Modality.MINISCOPE: MiniscopeTokenizer,
    Modality.FMRI: ROITokenizer,
    Modality.EEG: EEGTokenizer,
    Modality.MEG: EEGTokenizer,
}
"""Tokenizer per modality, where `tokens` in the settings is `modality`; `PatchTokenizer` everywhere otherwise."""
