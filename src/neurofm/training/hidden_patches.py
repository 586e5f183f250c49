"""Hidden patches: windows of fMRI and EEG of which patches or stretches of time are hidden, for all channels to fill.

Whole channels are hidden in `neurofm.training.batches`.
"""

from __future__ import annotations

import hashlib
from collections import Counter

import numpy as np
import torch
from torch import Tensor

from neurofm.model.core import smooth_scales
from neurofm.model.masks import MASKS, Surface
from neurofm.model.neurofm import Query, Visible
from neurofm.model.stationary_core import StationaryCore
from neurofm.recording import Modality
from neurofm.training.batches import Batch
from neurofm.training.contexts import Context
from neurofm.training.settings import CHANNELS, PretrainSettings
from neurofm.training.stationary import usable_of
from neurofm.windows import RecordingView

_DRAWN_BY = {"patches": "random", "block": "time", "region": "region", "forward": "forward"}
"""Kind of mask -> its name in `neurofm.model.masks`."""
_PATCHES_SHARE = 0.5
"""Of a window, where masks are fixed: as in the trials. Of a block it is one patch."""
_FEWEST_PATCHES = 3
"""In which a block has something before and after it; windows with fewer have single patches hidden instead."""


def key_of(modality: Modality | str, kind: str) -> str:
    """Name losses and gains of one kind of mask: ``fmri`` for whole channels, ``fmri patches`` for patches."""
    return str(modality) if kind == CHANNELS else f"{modality} {kind}"


def kind_at(step: int, modality: Modality, *, settings: PretrainSettings) -> str:
    """Draw what kind of mask a training step has, apart from what `neurofm.windows.sampling` draws."""
    shares = settings.masks.of(modality)
    weights = np.array(list(shares.values()))
    drawn = np.random.default_rng([settings.seed, step, 1]).random()
    return list(shares)[int((weights.cumsum() / weights.sum()).searchsorted(drawn, side="right"))]


def regions_of(view: RecordingView) -> Tensor | None:
    """Return numbers of the usable channels' regions, int64; 0 where none is known or no other channel is in it.

    None where no two channels share one, as in atlases that name every parcel: the neighbourhood is hidden then.
    """
    named = [view.region[index] for index in usable_of(view).tolist()]
    shared = sorted(name for name, count in Counter(named).items() if name and count > 1)
    if not shared:
        return None
    return torch.tensor([shared.index(name) + 1 if name in shared else 0 for name in named])


def draw_shown(
    kind: str, *, patches: int, features: Tensor, fraction: float, seed: int, region: Tensor | None = None
) -> Tensor:
    """Draw one window's mask.

    Parameters
    ----------
    kind
        Other than whole channels.
    patches
        Of the window.
    features
        [channel, IDENTITY_FEATURES] of the usable channels.
    fraction
        Share that is hidden; at least one patch, or channel of a region, and not all.
    seed
        Of the mask.
    region
        [channel] as `regions_of`.

    Returns
    -------
    [patch, channel] bool
    """
    kind = kind if patches >= _FEWEST_PATCHES else "patches"
    inside = slice(1, -1) if kind == "block" else slice(None)
    shown = torch.ones(patches, len(features), dtype=torch.bool)
    surface = Surface(patches=len(shown[inside]), features=features, region=region)
    shown[inside] = ~_drawn(kind, surface, fraction, torch.Generator().manual_seed(seed))
    return shown


def _drawn(kind: str, surface: Surface, fraction: float, generator: torch.Generator) -> Tensor:
    if kind == "block" and surface.patches == 1:  # The only one between two others.
        return torch.ones(1, surface.channels, dtype=torch.bool)
    return MASKS[_DRAWN_BY[kind]](surface, fraction, generator)


def training_masks(
    kind: str,
    *,
    starts: np.ndarray,
    patches: int,
    features: Tensor,
    step: int,
    settings: PretrainSettings,
    region: Tensor | None = None,
) -> Tensor:
    """[window, patch, channel] bool: a mask for each window; it depends on seed, step and where the window starts."""
    low, high = settings.hidden_fraction_min, settings.hidden_fraction_max
    masks = []
    for start in starts.tolist():
        rng = np.random.default_rng([settings.seed, step, start])
        fraction = low + (high - low) * float(rng.random())
        seed = int(rng.integers(2**62))
        masks.append(draw_shown(kind, patches=patches, features=features, fraction=fraction, seed=seed, region=region))
    return torch.stack(masks)


def fixed_masks(
    kind: str, *, windows: int, patches: int, features: Tensor, name: str, seed: int, region: Tensor | None = None
) -> Tensor:
    """[window, patch, channel] bool: the masks under which a recording is validated or scored, the same for all models.

    Half of the patches, one patch of all channels, or the channels of a region for good.
    """
    fraction = _PATCHES_SHARE if kind in ("patches", "region") else 1 / patches
    seeds = (
        int.from_bytes(hashlib.sha256(f"{seed}:{name}:{kind}:{window}".encode()).digest()[:7], "little")
        for window in range(windows)
    )
    return torch.stack(
        [
            draw_shown(kind, patches=patches, features=features, fraction=fraction, seed=one, region=region)
            for one in seeds
        ]
    )


def make_patch_batch(
    view: RecordingView,
    context: Context,
    core: StationaryCore,
    *,
    z: Tensor,
    valid: Tensor,
    shown: Tensor,
    asked: Tensor,
    gate: float,
) -> tuple[Batch, Tensor]:
    """Put together what the model predicts from.

    Parameters
    ----------
    view, context, core
        The recording and what is known of it.
    z
        [window, time, channel] float32 z units of all channels; what is hidden may be anything.
    valid
        [window, time] bool: what the core may take for measured.
    shown
        [window, patch, usable] bool
    asked
        int64 indices into the usable channels.
    gate
        What the core's estimate is multiplied with (`neurofm.training.gates`).

    Returns
    -------
    The batch, and what it hides of the channels asked for, [window, time, asked] bool.
    """
    usable = usable_of(view)
    patch = z.shape[1] // shown.shape[1]
    visible = shown.repeat_interleave(patch, dim=1)
    # Hidden values are gone from here on: of what follows nothing can depend on them.
    values = torch.where(visible, z[..., usable], 0.0)
    filled = core.fill(values, visible & valid.unsqueeze(-1)) if context.predicts else values
    if gate != 1.0:
        filled = torch.where(visible, filled, gate * filled)
    smoothed = smooth_scales(filled.double(), sds_samples=context.core.settings.smoothing_samples)
    who = usable[asked]
    linear = filled[..., asked]
    batch = Batch(
        seen=Visible(
            modality=view.modality,
            sampling_rate_hz=view.sampling_rate_hz,
            values=values,
            smoothed=smoothed.mean(dim=-2).float(),
            identity=context.identity[usable],
            scale=context.scale.of(usable),
            shown=shown,
        ),
        query=Query(linear=linear, identity=context.identity[who], correlations=context.core.correlations(usable, who)),
        linear=linear.double(),
        scale=context.scale.of(who),
    )
    return batch, ~visible[..., asked]
