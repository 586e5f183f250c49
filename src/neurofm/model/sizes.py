"""Sizes: tried settings, from what a laptop trains in minutes to what fills a node of GPUs."""

from __future__ import annotations

from typing import Literal

from neurofm.errors import UserError
from neurofm.model.settings import ModelSettings

Backbone = Literal["transformer", "mamba2", "gru"]

_ROWS: dict[tuple[str, Backbone], tuple[int, int, int, int, int, int, int, int, int]] = {
    # (size, backbone): width, heads, layers, state, slots, mix, latents, fusion layers, popt layers
    ("tiny", "transformer"): (128, 4, 3, 32, 4, 0, 16, 1, 1),
    ("tiny", "mamba2"): (128, 4, 4, 32, 4, 4, 16, 1, 1),
    ("small", "transformer"): (256, 8, 6, 64, 8, 0, 32, 2, 2),
    ("small", "mamba2"): (256, 8, 8, 64, 8, 4, 32, 2, 2),
    ("base", "transformer"): (640, 10, 13, 128, 8, 6, 64, 2, 1),
    ("base", "mamba2"): (768, 12, 12, 128, 8, 6, 64, 2, 1),
    ("large", "transformer"): (1280, 20, 20, 128, 16, 5, 128, 3, 2),
    ("large", "mamba2"): (1536, 24, 20, 128, 16, 5, 128, 3, 2),
}
"""Of the whole model. `nano`, the small network, is what params.yaml has."""


def size(name: str, *, backbone: Backbone = "transformer") -> ModelSettings:
    """Return the settings of a size.

    Parameters
    ----------
    name
        nano (0.1 million parameters), tiny (2), small (12), base (110) or large (650).
    backbone
        `transformer` is the fastest on a CPU up to some hundreds of patches, `mamba2` beyond; `gru` for nano only.

    Raises
    ------
    UserError
        For a size that is not in the table.
    """
    if name == "nano":
        return ModelSettings(backbone=backbone, width=64, layers=2, heads=4, dropout=0.1)
    if (name, backbone) not in _ROWS:
        known = ", ".join(f"{size} {kind}" for size, kind in _ROWS)
        raise UserError(f"model: no size {name} with backbone {backbone}.", mend=f"choose nano or one of {known}")
    width, heads, layers, state, slots, mix, latents, fusion_layers, popt_layers = _ROWS[name, backbone]
    return ModelSettings(
        backbone=backbone,
        width=width,
        heads=heads,
        layers=layers,
        state=state,
        slots=slots,
        mix=mix,
        latents=latents,
        fusion_layers=fusion_layers,
        popt_layers=popt_layers,
        readout="popt",
        tokens="modality",
        pooling="slots",
        dropout=0.1,
        expansion=4,
        fourier_bands=6,
        regions=256,
    )
