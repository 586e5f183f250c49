"""Package: fit both read-outs on a trained encoder, and pack what the organisers want."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch

from neurofm.errors import UserError
from neurofm.evaluation.challenge import TARGETS
from neurofm.files import write_atomic
from neurofm.model.core import LinearCore, Moments
from neurofm.operations.challenge.contract import CHANNELS, RATE_HZ, SAMPLES, SUBMISSION, WEIGHTS
from neurofm.operations.challenge.encoder import Regressor, WindowEncoder
from neurofm.operations.challenge.examples import Examples, Role, challenge_recordings, examples
from neurofm.operations.challenge.head import Head, Learned, fit_head
from neurofm.operations.challenge.program import program
from neurofm.progress import Progressing
from neurofm.recording import Modality
from neurofm.splits import FoldRecording, Splits
from neurofm.training.checkpoint import Checkpoint, read_checkpoint
from neurofm.training.contexts import identity_of
from neurofm.windows import load_view

MEND = (
    "take HBN recordings: add hbn-r1 (or others that `neurofm catalog list` has) to `datasets` in params.yaml with "
    "`eeg.tier: challenge` and 100 Hz, then `dvc repro pretrain`"
)
_DESCRIBED = 20
"""Most training recordings that say what the channels are like."""
_AT_ONCE = 32
_ZIP_DATE = (1980, 1, 1, 0, 0, 0)


@dataclass(frozen=True, kw_only=True)
class Packed:
    """A submission that was written."""

    path: Path
    heads: Mapping[str, Head]
    """By target."""
    windows: Mapping[str, int]
    """That each was fitted on."""
    subjects: Mapping[str, int]


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
        If the model knows no such recordings, the fold has none, or one of the challenges has nothing to learn from.
    """
    checkpoint = read_checkpoint(model)
    _refuse_other(checkpoint, model)
    entries = challenge_recordings(read_splits(splits), fold=fold, shards=shards)
    training = [entry for entry in entries if entry.train]
    if not training:
        raise UserError(
            f"challenge: {splits}: fold {fold} trains on no recording of {CHANNELS} channels at {RATE_HZ} Hz.",
            mend=MEND,
        )
    encoder = _encoder(checkpoint, training, shards=shards, model=model)
    heads, windows, subjects = {}, {}, {}
    content: dict[str, bytes] = {SUBMISSION: submission_source()}
    for challenge, target in TARGETS.items():
        fit = _learned(encoder, entries, target, shards=shards, role="train")
        if fit is None:
            raise UserError(f"challenge: no train recording of fold {fold} has {target}.", mend=_ABSENT[target])
        validation = _learned(encoder, entries, target, shards=shards, role="validation")
        head = fit_head(fit, validation, what=target)
        heads[target], windows[target] = head, len(fit.truth)
        subjects[target] = len(np.unique(fit.subject))
        regressor = Regressor(
            encoder, weight=torch.from_numpy(head.weight), bias=head.bias, low=head.low, high=head.high
        )
        content[WEIGHTS[challenge]] = program(regressor, channels=CHANNELS, samples=SAMPLES)
    write_atomic(out, packed(content))
    return Packed(path=out, heads=heads, windows=windows, subjects=subjects)


_ABSENT = {
    "response_time": "take recordings of contrastChangeDetection: add the task to `include` in data/catalog/hbn-*.yaml",
    "externalizing": "take recordings whose participants.tsv has the factors: `reader_options: {hbn: {}}`",
}


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


def read_splits(path: Path) -> Splits:
    """Read ``data/splits.json``.

    Raises
    ------
    UserError
        If it is not there, or damaged.
    """
    try:
        return Splits.read(path)
    except OSError as error:
        raise UserError(f"{path}: {error.strerror or error}.", mend="dvc repro split") from None
    except ValueError as error:
        raise UserError(
            f"{path}: damaged: {str(error).splitlines()[0]}.", mend="dvc checkout, or dvc repro split"
        ) from None


def _refuse_other(checkpoint: Checkpoint, model: Path) -> None:
    known = [one for one in checkpoint.acquisitions if one.modality is Modality.EEG]
    if any(one.channels == CHANNELS and round(one.sampling_rate_hz) == RATE_HZ for one in known):
        return
    told = " or ".join(f"{one.channels} channels at {one.rate}" for one in known) or "no EEG"
    raise UserError(
        f"{model}: has learned from {told}, and the challenges are {CHANNELS} channels at {RATE_HZ} Hz.", mend=MEND
    )


def _encoder(checkpoint: Checkpoint, training: Sequence[FoldRecording], *, shards: Path, model: Path) -> WindowEncoder:
    """Take from the training recordings what a single window does not tell."""
    identities = []
    channel_set = ""
    with Progressing("describe channels", total=min(len(training), _DESCRIBED), unit="recordings") as progress:
        for entry in training[:_DESCRIBED]:
            view = load_view(shards / entry.dataset / f"{entry.recording}.zarr.zip")
            channel_set = channel_set or view.channel_set
            if view.channel_set != channel_set:
                raise UserError(
                    f"challenge: {view.name} has other channels than {training[0].dataset}/{training[0].recording}.",
                    mend="train on one montage: `montage: GSN-HydroCel-129` in data/catalog",
                )
            identities.append(identity_of(view, entry.train))
            progress.advance()
    prior: Moments | None = checkpoint.priors.get(channel_set)
    if prior is None:
        raise UserError(f"{model}: has not learned from the channels of {training[0].dataset}.", mend=MEND)
    core = checkpoint.choices.by_channel_set[channel_set].core
    none = Moments.zero(channels=CHANNELS, scales=len(core.smoothing_samples))
    return WindowEncoder(
        checkpoint.network,
        identity=torch.stack(identities).mean(dim=0),
        core=LinearCore.fit(prior, none, settings=core),
        patch_samples=checkpoint.windows.of(Modality.EEG).patch_samples,
    ).eval()


def _learned(
    encoder: WindowEncoder, entries: Sequence[FoldRecording], target: str, *, shards: Path, role: Role
) -> Learned | None:
    """Encode all windows of a role; None where there are none."""
    features, truth, subject = [], [], []
    taking = [entry for entry in entries if getattr(entry, role)]
    with Progressing(f"{target}, {role}", total=len(taking), unit="recordings") as progress:
        for entry in taking:
            for part in examples([entry], target, shards=shards, roles=[role]):
                features.append(_encode(encoder, part))
                truth.append(part.truth)
                subject += [part.subject] * len(part.truth)
            progress.advance()
    if not truth:
        return None
    return Learned(features=np.concatenate(features), truth=np.concatenate(truth), subject=np.array(subject))


def _encode(encoder: WindowEncoder, part: Examples) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    batches = torch.split(torch.from_numpy(part.windows), _AT_ONCE)
    with torch.no_grad():
        return torch.cat([encoder(batch) for batch in batches]).double().numpy()
