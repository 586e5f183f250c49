"""Package: fit both read-outs on a trained encoder, and pack what the organisers want."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import torch

from neurofm.evaluation.challenge import TARGETS
from neurofm.files import write_atomic
from neurofm.operations.challenge.contract import CHANNELS, SAMPLES, SUBMISSION, WEIGHTS
from neurofm.operations.challenge.encoder import Regressor
from neurofm.operations.challenge.fitting import Fitted, fitting
from neurofm.operations.challenge.program import program

_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A submission that was written."""

    path: Path
    fitted: Mapping[str, Fitted]
    """By target."""


def package(model: Path, *, out: Path, splits: Path, shards: Path, fold: int) -> Packed:
    """Fit the read-outs and write a submission: whole, or not at all.

    Fitted on the train segments of the fold alone, tuned on its validation: what is held out stays so.

    Parameters
    ----------
    model
        A checkpoint that has learned from 129 channels at 100 Hz.
    out
        The zip.
    splits, shards, fold
        ``data/splits.json``, ``data/shards``, and the fold that the checkpoint is of.

    Raises
    ------
    UserError
        As `fitting`; or one of the challenges has nothing to learn from.
    """
    on = fitting(model, splits=splits, shards=shards, fold=fold)
    fitted = {target: on.fit(target) for target in TARGETS.values()}
    content: dict[str, bytes] = {SUBMISSION: submission_source()}
    for challenge, target in TARGETS.items():
        head = fitted[target].head
        regressor = Regressor(
            on.encoder, weight=torch.from_numpy(head.weight), bias=head.bias, low=head.low, high=head.high
        )
        content[WEIGHTS[challenge]] = program(regressor, channels=CHANNELS, samples=SAMPLES)
    write_atomic(out, packed(content))
    return Packed(path=out, fitted=fitted)


def submission_source() -> bytes:
    """Return ``submission.py``: the module beside this one, byte for byte."""
    return (files("neurofm.operations.challenge") / SUBMISSION).read_bytes()


def packed(content: Mapping[str, bytes]) -> bytes:
    """Pack files without folders; the same bytes for the same files."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", compression=zipfile.ZIP_DEFLATED) as archive:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name, date_time=_ZIP_DATE)
            entry.compress_type = zipfile.ZIP_DEFLATED
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, content[name])
    return file.getvalue()
