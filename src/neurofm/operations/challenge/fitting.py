"""Fitting: a trained encoder, the recordings that it may learn from, and a read-out of any target."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from neurofm.errors import UserError
from neurofm.evaluation.challenge import RESPONSE_TIME
from neurofm.model.core import LinearCore, Moments
from neurofm.operations.challenge.contract import CHANNELS, RATE_HZ
from neurofm.operations.challenge.encoder import WindowEncoder
from neurofm.operations.challenge.examples import Examples, Role, challenge_recordings, examples
from neurofm.operations.challenge.head import Head, Learned, fit_head
from neurofm.progress import Progressing
from neurofm.recording import Modality, Unreadable
from neurofm.splits import FoldRecording, Splits
from neurofm.training.checkpoint import Checkpoint, digest, read_checkpoint
from neurofm.training.contexts import identity_of
from neurofm.windows import load_view

MEND = (
    "take HBN recordings: add hbn-r1 (or others that `neurofm catalog list` has) to `datasets` in params.yaml with "
    "`eeg.tier: challenge` and 100 Hz, then `dvc repro pretrain`"
)
NOBODY = "give another --fold, or take as many people as `split.min_subjects` in params.yaml: fewer are split in time"
_NO_TRIALS = "take recordings of contrastChangeDetection: add the task to `include` in data/catalog/hbn-*.yaml"
_NO_FACTORS = "take recordings whose participants.tsv has the factors: `reader_options: {hbn: {}}` in data/catalog"
_DESCRIBED = 20
"""Most training recordings that say what the channels are like."""
_AT_ONCE = 32


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """A read-out, and what it was fitted on."""

    head: Head
    windows: int
    subjects: int


@dataclass(frozen=True, kw_only=True)
class Fitting:
    """An encoder and the recordings of its fold."""

    encoder: WindowEncoder
    entries: tuple[FoldRecording, ...]
    shards: Path
    fold: int

    def fit(self, target: str) -> Fitted:
        """Fit a read-out on train segments, its penalty chosen on validation segments.

        Raises
        ------
        UserError
            If there is nothing to learn from.
        """
        known, validation = self._learned(target, "train"), self._learned(target, "validation")
        if known is None:
            raise UserError(
                f"challenge: no train recording of fold {self.fold} has {target}.",
                mend=_NO_TRIALS if target == RESPONSE_TIME else _NO_FACTORS,
            )
        head = fit_head(known, validation, what=target)
        return Fitted(head=head, windows=len(known.truth), subjects=len(np.unique(known.subject)))

    def encode(self, part: Examples) -> npt.NDArray[np.float64]:
        """[window, feature] of some windows."""
        batches = torch.split(torch.from_numpy(part.windows), _AT_ONCE)
        with torch.no_grad():
            encoded: npt.NDArray[np.float64] = torch.cat([self.encoder(batch) for batch in batches]).double().numpy()
        return encoded

    def _learned(self, target: str, role: Role) -> Learned | None:
        """Encode all windows of a role; None where there are none."""
        features, truth, subject = [], [], []
        taking = [entry for entry in self.entries if getattr(entry, role)]
        with Progressing(f"{target}, {role}", total=len(taking), unit="recordings") as progress:
            for entry in taking:
                for part in examples([entry], target, shards=self.shards, roles=[role]):
                    features.append(self.encode(part))
                    truth.append(part.truth)
                    subject += [part.subject] * len(part.truth)
                progress.advance()
        if not truth:
            return None
        return Learned(features=np.concatenate(features), truth=np.concatenate(truth), subject=np.array(subject))


def fitting(model: Path, *, splits: Path, shards: Path, fold: int) -> Fitting:
    """Load an encoder, and find what it may learn from.

    Parameters
    ----------
    model
        A checkpoint that has learned from 129 channels at 100 Hz.
    splits, shards, fold
        ``data/splits.json``, ``data/shards``, and the fold that the checkpoint is of.

    Raises
    ------
    UserError
        If the model knows no such recordings, the fold has none to learn from, or the model has learned from a subject
        that the fold holds out.
    """
    checkpoint = read_checkpoint(model)
    _refuse_other(checkpoint, model)
    entries = challenge_recordings(read_splits(splits), fold=fold, shards=shards)
    held_out = {entry.subject for entry in entries if entry.kind == "subject" and entry.test}
    if seen := sorted(subject for subject in held_out if digest(subject) in checkpoint.subjects):
        raise UserError(
            f"{model}: has learned from {len(seen)} of {len(held_out)} subjects that fold {fold} holds out, "
            f"as {seen[0]}.",
            mend="give the --fold that the model is of",
        )
    training = [entry for entry in entries if entry.train]
    if not training:
        raise UserError(
            f"challenge: {splits}: fold {fold} trains on no recording of {CHANNELS} channels at {RATE_HZ} Hz.",
            mend=MEND,
        )
    encoder = _encoder(checkpoint, training, shards=shards, model=model)
    return Fitting(encoder=encoder, entries=tuple(entries), shards=shards, fold=fold)


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
            try:
                view = load_view(shards / entry.dataset / f"{entry.recording}.zarr.zip")
            except Unreadable as error:
                raise UserError(f"{error}.", mend="neurofm shards repair") from None
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
