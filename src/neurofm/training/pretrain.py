"""Pretraining: one model of all modalities per fold, by predicting hidden channels from visible ones."""

from __future__ import annotations

import math
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
from neurofm.model import Moments, NeuroFM
from neurofm.progress import Progressing
from neurofm.recording import Modality
from neurofm.splits import Splits
from neurofm.training.batches import cut, loss_of, make_batch, null_loss, residual_of
from neurofm.training.checkpoint import Checkpoint, digest, patch_samples, write_checkpoint
from neurofm.training.contexts import Context, make_context, scale_of
from neurofm.training.scoring import ValidationItem, choose_gains, losses, residuals, validation_items
from neurofm.training.settings import PretrainSettings
from neurofm.training.state import RunState, Weights, copy_of, load_state, save_state
from neurofm.training.tuning import CoreChoices, choose_cores, prior_of
from neurofm.windows import RecordingView, WindowsSettings, load_views
from neurofm.windows.sampling import Source, draw, source_of


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

    def metrics(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return dict(vars(self))


@dataclass(frozen=True, kw_only=True)
class TrainingRecording:
    """One recording that is learned from."""

    view: RecordingView
    source: Source
    contexts: tuple[Context, ...]
    """Per episode, from samples outside its targets."""
    null: float
    """Loss of predicting the mean."""


def training_recordings(
    views: Sequence[RecordingView], *, choices: CoreChoices, settings: PretrainSettings, windows: WindowsSettings
) -> list[TrainingRecording]:
    """Describe every training recording once per episode, never from the episode's targets.

    The recording's normaliser is the exception: its mean and SD come from all its calibration samples.
    """
    made = []
    for view in views:
        source = source_of(
            view.roles, usable=view.usable, window=windows.of(view.modality), episodes=settings.episodes
        )
        if source is None:
            continue
        choice = choices.of(view)
        prior = prior_of(
            views,
            channel_set=view.channel_set,
            without=view.name,
            sd_samples=choice.core.smoothing_samples,
            channels=len(view.channel_ids),
        )
        contexts = tuple(
            make_context(view, calibration=episode.calibration, prior=prior, choice=choice)
            for episode in source.episodes
        )
        z = np.concatenate([view.z(s.start, s.stop)[view.valid[s.start : s.stop]] for s in view.roles.train])
        null = null_loss(view, torch.from_numpy(z), scale=scale_of(view, rate_floor=1.0))
        made.append(TrainingRecording(view=view, source=source, contexts=contexts, null=null))
    return made


def pretrain(
    views: Sequence[RecordingView],
    *,
    settings: PretrainSettings,
    windows: WindowsSettings,
    fold: int,
    run_dir: Path,
    out_dir: Path,
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

    Raises
    ------
    UserError
        If nothing can be learned from, or the loss becomes NaN; step and modality are named.
    """
    with _reproducible():
        choices = choose_cores(views, settings=settings, windows=windows)
        recordings = training_recordings(views, choices=choices, settings=settings, windows=windows)
        if not recordings:
            raise UserError(
                f"pretrain: fold {fold} has no recording with train segments long enough for two patches.",
                mend="add recordings, or shorten the patches under `windows` in params.yaml",
            )
        items = validation_items(views, choices=choices, settings=settings, windows=windows)
        torch.manual_seed(settings.seed)
        network = NeuroFM(settings.model, patch_samples=patch_samples(windows))
        key = f"{fold} {settings.model_dump_json()} {windows.model_dump_json()}"
        state = _train(network, recordings, items, settings=settings, path=run_dir / "last.pt", key=key, fold=fold)
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
    )


def pretrain_all_folds(
    splits: Splits,
    *,
    shards: Path,
    settings: PretrainSettings,
    windows: WindowsSettings,
    run_dir: Path,
    out_dir: Path,
    workers: int,
) -> list[FoldResult]:
    """Train every fold's model, `workers` at a time; the results do not depend on how many.

    Parameters
    ----------
    splits
        Folds and roles.
    shards
        ``data/shards``.
    settings, windows
        Of params.yaml.
    run_dir, out_dir
        Each fold works in ``fold-<n>`` of both.
    workers
        Processes.
    """
    one = partial(
        _pretrain_fold, splits=splits, shards=shards, settings=settings, windows=windows, run_dir=run_dir,
        out_dir=out_dir,
    )
    folds = range(len(splits.folds))
    if workers == 1:
        return [one(fold) for fold in folds]
    with ProcessPoolExecutor(max_workers=min(workers, len(folds)), mp_context=get_context("spawn")) as pool:
        return list(pool.map(one, folds))


def _pretrain_fold(
    fold: int,
    *,
    splits: Splits,
    shards: Path,
    settings: PretrainSettings,
    windows: WindowsSettings,
    run_dir: Path,
    out_dir: Path,
) -> FoldResult:
    return pretrain(
        load_views(splits, fold=fold, shards=shards),
        settings=settings,
        windows=windows,
        fold=fold,
        run_dir=run_dir / f"fold-{fold}",
        out_dir=out_dir / f"fold-{fold}",
    )


def _train(
    network: NeuroFM,
    recordings: Sequence[TrainingRecording],
    items: Sequence[ValidationItem],
    *,
    settings: PretrainSettings,
    path: Path,
    key: str,
    fold: int,
) -> RunState:
    """Train until the last step, or until validation stops getting better."""
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, weight_decay=settings.weight_decay
    )
    state = load_state(path, key=key)
    if state is None:
        start = copy_of(network.state_dict())
        state = RunState(
            step=0, weights=start, average=copy_of(start), optimizer=optimizer.state_dict(), best=copy_of(start),
            best_step=0, best_score=1.0, stale=0,
        )
    network.load_state_dict(state.weights)
    optimizer.load_state_dict(state.optimizer)
    core = losses(items, [torch.zeros_like(item.batch.linear) for item in items], gain=0.0)
    network.train()
    seen: defaultdict[Modality, list[float]] = defaultdict(list)
    with Progressing(f"pretrain fold {fold}", total=settings.steps, unit="steps") as progress:
        progress.advance(state.step)
        while state.step < settings.steps and state.stale < settings.patience:
            modality, loss = _step(network, optimizer, recordings, step=state.step, settings=settings)
            seen[modality].append(loss)
            state.step += 1
            _average(state.average, network.state_dict(), step=state.step, decay=settings.ema_decay)
            progress.advance(note=f"loss {loss:.3f}")
            if state.step % settings.validate_every_steps == 0 or state.step == settings.steps:
                state.weights = copy_of(network.state_dict())
                state.optimizer = optimizer.state_dict()
                _validate(state, network, items, core=core, train=seen)
                save_state(state, path, key=key)
                seen.clear()
    return state


def _step(
    network: NeuroFM,
    optimizer: torch.optim.Optimizer,
    recordings: Sequence[TrainingRecording],
    *,
    step: int,
    settings: PretrainSettings,
) -> tuple[Modality, float]:
    """Learn from one draw; returns its modality and loss."""
    drawn = draw(
        [recording.source for recording in recordings],
        seed=settings.seed,
        step=step,
        shares=settings.shares.of(),
        windows=settings.batch_windows,
        hidden_fraction=(settings.hidden_fraction_min, settings.hidden_fraction_max),
    )
    recording = recordings[drawn.source]
    z, counts = cut(recording.view, drawn.starts, window_samples=recording.source.window_samples)
    visible, hidden = torch.from_numpy(drawn.visible), torch.from_numpy(drawn.hidden)
    batch = make_batch(
        recording.view, recording.contexts[drawn.episode], seen=z[..., visible], visible=visible, hidden=hidden
    )
    # Dropout depends on seed and step only, so that a resumed run repeats it.
    torch.manual_seed(int(np.random.SeedSequence([settings.seed, step]).generate_state(1)[0]))
    loss = loss_of(batch, residual=residual_of(network, batch), truth=z[..., hidden], counts=counts) / recording.null
    if not torch.isfinite(loss):
        raise UserError(
            f"pretrain: the loss of {batch.modality} ({recording.source.name}) is {float(loss)} at step {step}.",
            mend="lower pretrain.learning_rate in params.yaml",
        )
    for group in optimizer.param_groups:
        group["lr"] = _learning_rate(step, settings=settings)
    optimizer.zero_grad()
    torch.autograd.backward(loss)
    torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
    optimizer.step()
    return batch.modality, float(loss)


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
    core: dict[Modality, float],
    train: dict[Modality, list[float]],
) -> None:
    """Validate the averaged weights; keep them if the mean over modalities of loss / core loss is the lowest yet."""
    network.load_state_dict(state.average)
    found = losses(items, residuals(network, items), gain=1.0)
    network.load_state_dict(state.weights)
    score = sum(found[modality] / core[modality] for modality in found) / max(len(found), 1)
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
                sd_samples=choices.of(view).core.smoothing_samples,
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


