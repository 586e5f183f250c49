"""Pretraining: one model of all modalities per fold, by predicting hidden channels from visible ones."""

from __future__ import annotations

import hashlib
import math
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.model.core import Moments
from neurofm.model.neurofm import NeuroFM
from neurofm.progress import Progressing
from neurofm.recording import Modality
from neurofm.splits import Splits
from neurofm.training.batches import loss_of, make_batch
from neurofm.training.checkpoint import Checkpoint, digest, patch_samples, write_checkpoint
from neurofm.training.recordings import TrainingRecording, left_out, schedule_of, training_recordings
from neurofm.training.scoring import ValidationItem, choose_gains, losses, residuals, score_of, validation_items
from neurofm.training.settings import PretrainSettings
from neurofm.training.state import RunState, Weights, copy_of, load_state, save_state
from neurofm.training.tuning import CoreChoices, choose_cores, prior_of
from neurofm.units import code_digest
from neurofm.windows import RecordingView, WindowsSettings, load_views
from neurofm.windows.policy import StoreSite
from neurofm.windows.samples import Samples, refuse_damage
from neurofm.windows.sampling import refuse_absent
from neurofm.windows.store import Store


@dataclass(frozen=True, kw_only=True)
class FoldResult:
    """What `metrics/pretrain.json` says of one fold."""

    fold: int
    steps: int
    """Steps done, early stopping counted in."""
    best_step: int
    """0: the linear core alone was best."""
    parameters: int
    residual_gain: dict[str, float]
    curve: list[dict[str, Any]]
    """Per validation: step, train and validation loss per modality, relative to predicting the mean."""
    stopped_by: str | None = None
    """``max_hours`` if the limit on time ended it."""


def pretrain(
    views: Sequence[RecordingView],
    *,
    settings: PretrainSettings,
    windows: WindowsSettings,
    fold: int,
    run_dir: Path,
    out_dir: Path,
    site: StoreSite | None = None,
    side_by_side: int = 1,
) -> FoldResult:
    """Train the model of one fold and write it.

    Parameters
    ----------
    views
        All recordings of the fold; only train, calibration and validation segments are read.
    settings, windows
        Of params.yaml.
    fold
        Its number, for names only.
    run_dir
        Where the run's state is kept. A run that was killed goes on from its last validation and ends with the
        same bits.
    out_dir
        Where the finished model is written.
    site
        Where decoded samples lie meanwhile.
    side_by_side
        Folds that train at once on this machine.

    Raises
    ------
    UserError
        If nothing can be learned from, there is no room for samples, more of them is damaged than
        `settings.most_damaged`, or the loss becomes NaN; step and modality are named.
    """
    who = f"pretrain fold {fold}"
    refuse_absent(settings.dataset_shares, {view.dataset for view in views})
    with _reproducible():
        choices = choose_cores(views, settings=settings, windows=windows)
        recordings = training_recordings(views, choices=choices, settings=settings, windows=windows)
        if not recordings:
            raise UserError(
                f"pretrain: fold {fold} has no recording with train segments long enough for two patches.",
                mend="add recordings, or shorten the patches under `windows` in params.yaml",
            )
        for note in left_out(views, recordings, settings=settings):
            sys.stderr.write(f"{who}: {note}\n")
        items = validation_items(views, choices=choices, settings=settings, windows=windows)
        torch.manual_seed(settings.seed)
        network = NeuroFM(settings.model, patch_samples=patch_samples(windows))
        key = f"{fold} {settings.key()} {windows.model_dump_json()}"
        samples = [view.stored for view in views if isinstance(view.stored, Samples)]
        sys.stderr.write(refuse_damage(samples, most=settings.most_damaged, who=who))
        with Store(
            [recording.view.signal for recording in recordings],
            schedule_of(recordings, settings=settings),
            site=site or StoreSite(),
            bfloat16=settings.bfloat16,
            side_by_side=side_by_side,
            who=who,
        ) as store:
            state = _train(
                network, recordings, items, store, settings=settings, path=run_dir / "last.pt", key=key, fold=fold
            )
        refuse_damage(samples, most=settings.most_damaged, who=who)
        network.load_state_dict(state.best)
        gains = choose_gains(items, residuals(network, items), gains=settings.residual_gains)
        network.eval()
        write_checkpoint(
            _checkpoint(network, views, choices=choices, gains=gains, settings=settings, windows=windows), out_dir
        )
    return FoldResult(
        fold=fold,
        steps=state.step,
        best_step=state.best_step,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        residual_gain={str(modality): gain for modality, gain in gains.items()},
        curve=state.curve,
        stopped_by="max_hours" if state.step < settings.steps and state.stale < settings.patience else None,
    )


def pretrain_all_folds(
    splits: Splits,
    *,
    shards: Path,
    settings: PretrainSettings,
    windows: WindowsSettings,
    runs: Path,
    out: Path,
    workers: int,
    site: StoreSite | None = None,
) -> dict[str, Any]:
    """Train every fold's model, `workers` at a time; the results do not depend on how many.

    Parameters
    ----------
    splits
        Folds and roles.
    shards
        ``data/shards``.
    settings, windows
        Of params.yaml.
    runs
        ``.neurofm/runs``: a folder named by the digest of settings, splits and shards keeps the runs' states.
    out
        Each fold's model is written to ``fold-<n>`` in it.
    workers
        Processes.
    site
        Where decoded samples lie meanwhile.

    Returns
    -------
    Plain data for ``metrics/pretrain.json``.
    """
    one = partial(
        _pretrain_fold,
        splits=splits,
        shards=shards,
        settings=settings,
        windows=windows,
        run=runs / _run_digest(splits, shards=shards, settings=settings, windows=windows),
        out=out,
        site=site,
        side_by_side=min(workers, len(splits.folds)),
    )
    folds = range(len(splits.folds))
    if workers == 1 or len(folds) == 1:
        results = [one(fold) for fold in folds]
    else:
        with ProcessPoolExecutor(max_workers=min(workers, len(folds)), mp_context=get_context("spawn")) as pool:
            results = list(pool.map(one, folds))
    return {"folds": [{key: value for key, value in vars(result).items() if value is not None} for result in results]}


def _run_digest(splits: Splits, *, shards: Path, settings: PretrainSettings, windows: WindowsSettings) -> str:
    """Digest of everything that a run's state depends on."""
    digested = hashlib.sha256()
    code = code_digest("neurofm.training.pretrain")
    for text in (splits.model_dump_json(), settings.key(), windows.model_dump_json(), torch.__version__, code):
        digested.update(f"{text}\n".encode())
    for dataset, recording in sorted(
        {(one.dataset, one.recording) for fold in splits.folds for one in fold.recordings}
    ):
        digested.update(sha256_of(shards / dataset / f"{recording}.zarr.zip").encode())
    return digested.hexdigest()[:16]


def _pretrain_fold(
    fold: int,
    *,
    splits: Splits,
    shards: Path,
    settings: PretrainSettings,
    windows: WindowsSettings,
    run: Path,
    out: Path,
    site: StoreSite | None,
    side_by_side: int,
) -> FoldResult:
    return pretrain(
        load_views(splits, fold=fold, shards=shards, decoded=False),
        settings=settings,
        windows=windows,
        fold=fold,
        run_dir=run / f"fold-{fold}",
        out_dir=out / f"fold-{fold}",
        site=site,
        side_by_side=side_by_side,
    )


def _train(
    network: NeuroFM,
    recordings: Sequence[TrainingRecording],
    items: Sequence[ValidationItem],
    store: Store,
    *,
    settings: PretrainSettings,
    path: Path,
    key: str,
    fold: int,
) -> RunState:
    """Train until the last step, until validation stops getting better, or until the time is up."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay)
    state = load_state(path, key=key)
    if state is None:
        start = copy_of(network.state_dict())
        state = RunState(
            step=0,
            weights=start,
            average=copy_of(start),
            optimizer=optimizer.state_dict(),
            best=copy_of(start),
            best_step=0,
            best_score=1.0,
            stale=0,
        )
    network.load_state_dict(state.weights)
    optimizer.load_state_dict(state.optimizer)
    network.train()
    seen: defaultdict[Modality, list[float]] = defaultdict(list)
    limit_s = math.inf if settings.max_hours is None else settings.max_hours * 3600
    started = time.monotonic() - state.seconds
    with Progressing(f"pretrain fold {fold}", total=settings.steps, unit="steps") as progress:
        progress.advance(state.step)
        while state.step < settings.steps and state.stale < settings.patience and state.seconds < limit_s:
            modality, loss = _step(network, optimizer, recordings, store, step=state.step, settings=settings)
            seen[modality].append(loss)
            state.step += 1
            _average(state.average, network.state_dict(), step=state.step, decay=settings.ema_decay)
            progress.advance(note=f"loss {loss:.3f}")
            if state.step % settings.validate_every_steps == 0 or state.step == settings.steps:
                state.weights = copy_of(network.state_dict())
                state.optimizer = optimizer.state_dict()
                state.seconds = time.monotonic() - started
                _validate(state, network, items, gains=settings.residual_gains, train=seen)
                save_state(state, path, key=key)
                seen.clear()
    return state


def _step(
    network: NeuroFM,
    optimizer: torch.optim.Optimizer,
    recordings: Sequence[TrainingRecording],
    store: Store,
    *,
    step: int,
    settings: PretrainSettings,
) -> tuple[Modality, float]:
    """Learn from one draw; returns its modality and loss."""
    drawn, z, counts = store.at(step)
    recording = recordings[drawn.source]
    visible, hidden = torch.from_numpy(drawn.visible), torch.from_numpy(drawn.hidden)
    context = recording.contexts[drawn.block.episode]
    batch = make_batch(recording.view, context, values=z[..., visible], visible=visible, hidden=hidden)
    # Dropout depends on seed and step only, so that a resumed run repeats it.
    torch.manual_seed(int(np.random.SeedSequence([settings.seed, step]).generate_state(1)[0]))
    residual = network(batch.seen, batch.query)
    loss = loss_of(batch, residual=residual, truth=z[..., hidden], counts=counts) / recording.null
    if not torch.isfinite(loss):
        raise UserError(
            f"pretrain: the loss of {batch.modality} ({recording.source.name}) is {loss.item()} at step {step}.",
            mend="lower pretrain.learning_rate in params.yaml",
        )
    for group in optimizer.param_groups:
        group["lr"] = _learning_rate(step, settings=settings)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return batch.modality, loss.item()


def _learning_rate(step: int, *, settings: PretrainSettings) -> float:
    """Linear warm-up, then a cosine to zero."""
    if step < settings.warmup_steps:
        return settings.learning_rate * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(settings.steps - settings.warmup_steps, 1)
    return settings.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def _average(average: Weights, weights: Weights, *, step: int, decay: float) -> None:
    """Move the running average towards the weights; quickly at first, when it is mostly the start."""
    share = 1 - min(decay, (1 + step) / (10 + step))
    for name, value in weights.items():
        average[name].lerp_(value, share)


def _validate(
    state: RunState,
    network: NeuroFM,
    items: Sequence[ValidationItem],
    *,
    gains: Sequence[float],
    train: dict[Modality, list[float]],
) -> None:
    """Validate the averaged weights and keep them if they are the best yet."""
    network.load_state_dict(state.average)
    corrections = residuals(network, items)
    network.load_state_dict(state.weights)
    found = losses(items, corrections, gain=1.0)
    score = score_of(items, corrections, gains=gains)
    state.curve.append(
        {
            "step": state.step,
            "train": {str(modality): sum(values) / len(values) for modality, values in sorted(train.items())},
            "validation": {str(modality): value for modality, value in sorted(found.items())},
        }
    )
    if score < state.best_score:
        state.best, state.best_step, state.best_score, state.stale = copy_of(state.average), state.step, score, 0
    else:
        state.stale += 1


def _checkpoint(
    network: NeuroFM,
    views: Sequence[RecordingView],
    *,
    choices: CoreChoices,
    gains: dict[Modality, float],
    settings: PretrainSettings,
    windows: WindowsSettings,
) -> Checkpoint:
    trained = [view for view in views if view.roles.train]
    priors: dict[str, Moments] = {}
    for view in trained:
        if view.channel_set in choices.by_channel_set and view.channel_set not in priors:
            priors[view.channel_set] = prior_of(
                views,
                channel_set=view.channel_set,
                without="",
                sds_samples=choices.of(view).core.smoothing_samples,
                channels=len(view.channel_ids),
            )
    return Checkpoint(
        network=network,
        model=settings.model,
        windows=windows,
        gains=gains,
        choices=choices,
        priors=priors,
        prior_recordings=frozenset(digest(view.name) for view in trained if view.channel_set in priors),
        subjects=frozenset(digest(view.subject) for view in trained),
    )


@contextmanager
def _reproducible() -> Iterator[None]:
    """Deterministic kernels on one thread, as it was before afterwards."""
    threads, strict = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(mode=True)
    try:
        with torch.random.fork_rng():
            yield
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(mode=strict)
