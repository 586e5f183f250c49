"""Embed: what a trained model makes of a recording, window by window, as Zarr."""

from __future__ import annotations

import math
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import zarr

from neurofm.errors import UserError
from neurofm.files import sha256_of, sync_folder
from neurofm.model.pretrained import WEIGHTS
from neurofm.progress import Progressing
from neurofm.recording import Unreadable
from neurofm.shards import read_shard
from neurofm.splits import Segment
from neurofm.training.batches import cut
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView, Tile, load_view, tiles

SCHEMA = "neurofm-embedding/1"
_AT_ONCE = 32
"""Windows that are encoded together."""
_LEAST_CHANNELS = 2


@dataclass(frozen=True, kw_only=True)
class Embedding:
    """What was written."""

    path: Path
    windows: int
    patches: int
    """Per window."""
    features: int
    trained_on: bool
    """Whether the model has learned from this subject."""


def embed(shard: Path, *, model: Path, out: Path, calibration_s: float | None = None, strict: bool = True) -> Embedding:
    """Encode a recording and write what comes out: whole, or not at all.

    Parameters
    ----------
    shard
        ``data/shards/<dataset>/<recording>.zarr.zip``.
    model
        A checkpoint, as ``models/pretrained/fold-0``.
    out
        Zarr group to be made: ``embedding`` [window, patch, feature] float32, ``time_s`` [window, patch] where each
        patch begins on the recording's clock, ``valid`` [window, patch] share of samples that were fit for use, and
        ``fresh``, which is 0 for those patches of the last window that are in the one before.
    calibration_s
        Seconds at the recording's beginning that it is normalised and described by; all of it without.
    strict
        Whether a recording of another rate, atlas or montage than those of the training is refused.

    Raises
    ------
    UserError
        If `out` exists, the shard or the model cannot be read, they do not fit, or the recording is shorter than a
        patch.
    """
    if out.exists():
        raise UserError(f"{out} exists.", mend="choose another --out, or remove it")
    if calibration_s is not None and not 0 < calibration_s < math.inf:
        raise UserError(f"embed: --calibration-s is {calibration_s:g}.", mend="give seconds, more than 0")
    predictor = Predictor.load(model, strict=strict)
    try:
        view, start_s = load_view(shard, calibration_s=calibration_s), read_shard(shard, signal=False).start_s
    except Unreadable as error:
        raise UserError(f"{error}.", mend="neurofm shards repair") from None
    cuts, patch = _cuts(view, predictor)
    if np.count_nonzero(view.usable) < _LEAST_CHANNELS:
        raise UserError(
            f"{view.name}: has {np.count_nonzero(view.usable)} channels that vary where it is described from.",
            mend="a longer --calibration-s, or none",
        )
    predictor.prepare(view)
    part = out.with_name(f".{out.name}.{os.getpid()}-{secrets.token_hex(3)}.part")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        group = zarr.open_group(part, mode="w-", zarr_format=3)
        array = _write(group, view, predictor, cuts, patch=patch, start_s=start_s)
        group.attrs.update(
            {
                "schema": SCHEMA,
                "model_sha256": sha256_of(model / WEIGHTS),
                "shard_sha256": sha256_of(shard),
                "dataset": view.dataset,
                "recording": view.recording,
                "subject": view.subject,
                "subject_was_trained_on": predictor.trained_on(view.subject),
                "modality": str(view.modality),
                "patch_s": patch / view.sampling_rate_hz,
                "calibration_s": [segment.stop / view.sampling_rate_hz for segment in view.roles.calibration],
                "features": predictor.feature_names(),
            }
        )
        part.rename(out)
        sync_folder(out.parent)
    except OSError as error:
        raise UserError(
            f"{out}: cannot be written: {error.strerror or error}.", mend="free space, or choose another place"
        ) from None
    finally:
        shutil.rmtree(part, ignore_errors=True)
    windows, patches, features = array.shape
    return Embedding(
        path=out,
        windows=windows,
        patches=patches,
        features=features,
        trained_on=predictor.trained_on(view.subject),
    )


def _cuts(view: RecordingView, predictor: Predictor) -> tuple[tuple[Tile, ...], int]:
    """Windows of a recording, one shorter than usual where it is shorter; and the samples of a patch."""
    window = predictor.checkpoint.windows.of(view.modality)
    samples, patch = len(view.stored), window.patch_samples
    length = min(window.window_samples, samples - samples % patch)
    if not length:
        raise UserError(
            f"{view.name}: has {samples} samples, and a patch of the model takes {patch}.",
            mend="take a longer recording",
        )
    return tiles([Segment(start=0, stop=samples)], window_samples=length), patch


def _write(
    group: zarr.Group, view: RecordingView, predictor: Predictor, cuts: tuple[Tile, ...], *, patch: int, start_s: float
) -> zarr.Array[Any]:
    """Encode some windows at a time."""
    length = cuts[0].stop - cuts[0].start
    patches, features = length // patch, len(predictor.feature_names())
    array = group.create_array(
        "embedding",
        shape=(len(cuts), patches, features),
        chunks=(min(_AT_ONCE, len(cuts)), patches, features),
        dtype="float32",
        dimension_names=("window", "patch", "feature"),
    )
    starts = np.array([tile.start for tile in cuts], dtype=np.int64)
    with Progressing(f"embed {view.name}", total=len(cuts), unit="windows") as progress:
        for first in range(0, len(cuts), _AT_ONCE):
            z, _ = cut(view, starts[first : first + _AT_ONCE], window_samples=length)
            array[first : first + len(z)] = predictor.encode(view, z.numpy())
            progress.advance(len(z))
    begins = starts[:, None] + patch * np.arange(patches)
    within = begins[..., None] + np.arange(patch)
    _put(group, "time_s", start_s + begins / view.sampling_rate_hz)
    _put(group, "valid", view.valid[within].mean(axis=-1, dtype=np.float32))
    fresh = begins + patch > np.array([tile.score_from for tile in cuts])[:, None]
    _put(group, "fresh", fresh.astype(np.uint8))
    return array


def _put(group: zarr.Group, name: str, values: npt.NDArray[Any]) -> None:
    array = group.create_array(name, shape=values.shape, dtype=values.dtype, dimension_names=("window", "patch"))
    array[...] = values
