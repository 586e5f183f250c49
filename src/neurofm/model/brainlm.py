"""BrainLM's masked autoencoder on parcels, as a reference to compare with: small code of our own.

Caro et al. 2024, doi:10.1101/2023.09.12.557460; the autoencoder is that of He et al. 2021, arXiv:2111.06377::

    patches of 20 TR --linear--> tokens + linear(xyz of the parcel) + sine(number of the patch)
        --only those that are visible, and a class token--> encoder
        --linear, a mask token where one is hidden, xyz and time once more--> decoder over all tokens
        --two linear layers--> patches; mean squared error on the hidden ones

Compared with github.com/vandijklab/BrainLM as of 2024. **Agrees with** ``modeling_brainlm.py``: embeddings, masks
that hide a share of all tokens of a window at random, visible-only encoder, class token, the decoder's own projection
of xyz, head (D, D / 2, LeakyReLU 0.1, patch), loss, Xavier weights. **Differs from it**: attention is exact (SDPA)
where theirs is Nystroem's with 64 landmarks; layers are ViT's, with the norm before each; no dropout where theirs has
0.1 on attention; positions are in units of 100 mm, so that they do not drown the signal. The published 111M and 650M
models (``modeling_vit_mae_with_padding.py``) are Hugging Face's ViT-MAE base and huge on 424 parcels x 200 TR padded to
a square image, with patches of 16 x 16 or 14 x 14 parcels x TR and sines of parcel order. **Their widths, layers and
heads are those of** `SIZES`; tokens here are those of the paper, 424 x 10 where the image has 27 x 27.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from neurofm.errors import UserError

PATCH_SAMPLES = 20
"""TR in a patch."""
MASK_SHARES = (0.2, 0.75, 0.9)
"""Shares of tokens that the paper hides."""
_POSITION_UNIT_MM = 100.0
_NORM_EPS = 1e-12
_TOKEN_SD = 0.02


@dataclass(frozen=True, kw_only=True)
class BrainLMSize:
    """Sizes of encoder and decoder."""

    width: int
    layers: int
    heads: int
    decoder_width: int
    decoder_layers: int
    decoder_heads: int


SIZES = {
    "tiny": BrainLMSize(width=160, layers=4, heads=4, decoder_width=128, decoder_layers=3, decoder_heads=4),
    "111M": BrainLMSize(width=768, layers=12, heads=12, decoder_width=512, decoder_layers=8, decoder_heads=16),
    "650M": BrainLMSize(width=1280, layers=32, heads=16, decoder_width=512, decoder_layers=8, decoder_heads=16),
}
"""1.9, 111 and 655 million parameters: the last two are ViT-MAE base and huge."""


@dataclass(frozen=True, kw_only=True)
class TokenMask:
    """Which tokens of each window are visible. A token's number is parcel * patches + patch."""

    order: Tensor
    """[window, token] int64: tokens of each window, visible ones first."""
    visible: int
    """How many are visible, the same for all windows."""

    @classmethod
    def draw(cls, *, windows: int, tokens: int, share: float, generator: torch.Generator) -> Self:
        """Hide a share of the tokens of each window at random.

        Raises
        ------
        UserError
            If no token would stay visible or none would be hidden.
        """
        visible = int(tokens * (1 - share))
        if not 0 < visible < tokens:
            raise UserError(
                f"brainlm: a mask share of {share} leaves {visible} of {tokens} tokens visible.",
                mend="choose a share between 0 and 1 that leaves at least one token visible and one hidden",
            )
        noise = torch.rand(windows, tokens, generator=generator, device=generator.device)
        return cls(order=noise.argsort(dim=1), visible=visible)

    @classmethod
    def of_parcels(cls, hidden: Tensor, *, windows: int, patches: int) -> Self:
        """Hide whole parcels, the same ones in all windows.

        Parameters
        ----------
        hidden
            [parcel] bool
        windows, patches
            How many there are.
        """
        order = hidden.repeat_interleave(patches).int().argsort(stable=True)
        return cls(order=order.expand(windows, -1), visible=int((~hidden).sum()) * patches)

    @property
    def hidden(self) -> Tensor:
        """[window, token] bool."""
        hidden = torch.ones_like(self.order, dtype=torch.bool)
        return hidden.scatter(1, self.order[:, : self.visible], value=False)


class ViTLayer(nn.Module):
    """Pre-norm self-attention and feed-forward of 4 times the width, each added to its input."""

    def __init__(self, *, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm_attention = nn.LayerNorm(width, eps=_NORM_EPS)
        self.project_in = nn.Linear(width, 3 * width)
        self.project_out = nn.Linear(width, width)
        self.feed_forward = nn.Sequential(
            nn.LayerNorm(width, eps=_NORM_EPS), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """[window, token, width] -> the same."""
        parts = self.project_in(self.norm_attention(x)).chunk(3, dim=-1)
        query, key, value = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in parts)
        attended = functional.scaled_dot_product_attention(query, key, value)
        x = x + self.project_out(attended.transpose(1, 2).flatten(2))
        result: Tensor = x + self.feed_forward(x)
        return result


class ViT(nn.Sequential):
    """A stack of layers and a norm."""

    def __init__(self, *, width: int, layers: int, heads: int) -> None:
        stack = [ViTLayer(width=width, heads=heads) for _ in range(layers)]
        super().__init__(*stack, nn.LayerNorm(width, eps=_NORM_EPS))


class BrainLM(nn.Module):
    """Masked autoencoder of windows of parcels.

    Parameters
    ----------
    size
        One of `SIZES`.
    patch
        Samples in a patch.
    """

    def __init__(self, size: BrainLMSize, *, patch: int = PATCH_SAMPLES) -> None:
        super().__init__()
        inner = size.decoder_width
        self.patch = patch
        self.signal = nn.Linear(patch, size.width)
        self.position = nn.Linear(3, size.width)
        self.encoder = ViT(width=size.width, layers=size.layers, heads=size.heads)
        self.decoder_in = nn.Linear(size.width, inner)
        self.decoder_position = nn.Linear(3, inner)
        self.decoder = ViT(width=inner, layers=size.decoder_layers, heads=size.decoder_heads)
        self.head = nn.Sequential(nn.Linear(inner, inner // 2), nn.LeakyReLU(0.1), nn.Linear(inner // 2, patch))
        self.class_token = nn.Parameter(torch.zeros(1, 1, size.width))
        self.mask_token = nn.Parameter(torch.zeros(1, 1, inner))
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        for token in (self.class_token, self.mask_token):
            nn.init.normal_(token, std=_TOKEN_SD)

    def forward(self, values: Tensor, position: Tensor, mask: TokenMask) -> Tensor:
        """Reconstruct all patches from the visible ones.

        Parameters
        ----------
        values
            [window, parcel, time] float32, z units; time in whole patches. Hidden values are not read.
        position
            [parcel, 3] float32 mm.
        mask
            What is visible.

        Returns
        -------
        [window, parcel, time]; at visible tokens it means nothing, since the loss does not ask for them.

        Raises
        ------
        UserError
            If shapes do not fit each other.
        """
        self._refuse(values, position, mask)
        patches = _patches(values, patch=self.patch)
        shape = patches.shape[:3]
        visible = _pick(self._placed(self.signal(patches), self.position(position / _POSITION_UNIT_MM)), mask)
        encoded = self.encoder(torch.cat([self.class_token.expand(len(values), -1, -1), visible], dim=1))
        inner = self.decoder_in(encoded)
        # Visible tokens back to where they were, mask tokens everywhere else.
        index = mask.order[:, : mask.visible, None].expand(-1, -1, inner.shape[2])
        tokens = self.mask_token.to(inner.dtype).expand(len(values), mask.order.shape[1], -1)
        tokens = tokens.scatter(1, index, inner[:, 1:]).reshape(*shape, -1)
        placed = self._placed(tokens, self.decoder_position(position / _POSITION_UNIT_MM)).flatten(1, 2)
        decoded = self.decoder(torch.cat([inner[:, :1], placed], dim=1))[:, 1:]
        reconstructed: Tensor = self.head(decoded).reshape(values.shape)
        return reconstructed

    def _placed(self, tokens: Tensor, position: Tensor) -> Tensor:
        """[window, parcel, patch, width] with the parcel's place, [parcel, width], and the patch's time added."""
        return tokens + position.unsqueeze(1) + _sine(tokens)

    def _refuse(self, values: Tensor, position: Tensor, mask: TokenMask) -> None:
        windows, parcels, time = values.shape
        if time % self.patch:
            raise UserError(
                f"brainlm: a window of {time} samples is not a multiple of the patch of {self.patch}.",
                mend=f"cut windows of {time // self.patch * self.patch} samples, or give another patch",
            )
        if position.shape != (parcels, 3):
            raise UserError(
                f"brainlm: positions are {list(position.shape)} for {parcels} parcels.",
                mend=f"give one x, y, z per parcel: [{parcels}, 3]",
            )
        tokens = parcels * (time // self.patch)
        if mask.order.shape != (windows, tokens):
            raise UserError(
                f"brainlm: the mask is for {list(mask.order.shape)} windows and tokens, not [{windows}, {tokens}].",
                mend="draw the mask for these windows",
            )


def masked_error(reconstructed: Tensor, values: Tensor, mask: TokenMask) -> Tensor:
    """Mean squared error over hidden tokens.

    Parameters
    ----------
    reconstructed, values
        [window, parcel, time]
    mask
        What was visible.
    """
    error = (reconstructed - values).square().flatten(1)
    each = error.reshape(*mask.order.shape, -1).mean(dim=-1)
    return each.gather(1, mask.order[:, mask.visible :]).mean()


def refuse_not_finite(values: Tensor, position: Tensor) -> None:
    """Refuse windows and positions that would make the loss NaN; apart from the model, since a GPU must wait for it.

    Parameters
    ----------
    values
        [window, parcel, time]
    position
        [parcel, 3]

    Raises
    ------
    UserError
        Naming the first parcel.
    """
    for what, finite in (
        ("position", position.isfinite().all(dim=1)),
        ("values", values.isfinite().all(dim=2).all(dim=0)),
    ):
        if not finite.all():
            first = int((~finite).nonzero()[0])
            raise UserError(
                f"brainlm: {what} of parcel {first} ({int((~finite).sum())} parcels in all) are not finite.",
                mend="leave these parcels out",
            )


def _patches(values: Tensor, *, patch: int) -> Tensor:
    """[window, parcel, time] -> [window, parcel, patch, sample]."""
    return values.reshape(*values.shape[:2], -1, patch)


def _pick(tokens: Tensor, mask: TokenMask) -> Tensor:
    """[window, parcel, patch, width] -> [window, visible, width]."""
    index = mask.order[:, : mask.visible, None].expand(-1, -1, tokens.shape[3])
    return tokens.flatten(1, 2).gather(1, index)


def _sine(tokens: Tensor) -> Tensor:
    """[patch, width] sines and cosines of the patch's number (Vaswani et al. 2017, arXiv:1706.03762)."""
    count, width = tokens.shape[2:]
    number = torch.arange(count, device=tokens.device, dtype=torch.float32)
    even = torch.arange(0, width, 2, device=tokens.device, dtype=torch.float32)
    angle = number.unsqueeze(1) * torch.exp(even * (-math.log(10_000.0) / width))
    return torch.stack([angle.sin(), angle.cos()], dim=-1).flatten(1).to(tokens.dtype)
