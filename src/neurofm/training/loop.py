"""Loop: steps and validations, until the last step, until nothing gets better, or until the time is up."""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import torch

from neurofm.model.neurofm import NeuroFM
from neurofm.progress import Progressing
from neurofm.recording import Modality
from neurofm.training.learning_rate import move_average
from neurofm.training.recordings import TrainingRecording
from neurofm.training.scoring import ValidationItem, losses, residuals, score_of
from neurofm.training.settings import PretrainSettings
from neurofm.training.state import RunState, copy_of, load_state, save_state
from neurofm.training.step import take_step
from neurofm.windows.store import Store


def train(
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
            modality, loss = take_step(network, optimizer, recordings, store, step=state.step, settings=settings)
            seen[modality].append(loss)
            state.step += 1
            move_average(state.average, network.state_dict(), step=state.step, decay=settings.ema_decay)
            progress.advance(note=f"loss {loss:.3f}")
            if state.step % settings.validate_every_steps == 0 or state.step == settings.steps:
                state.weights = copy_of(network.state_dict())
                state.optimizer = optimizer.state_dict()
                state.seconds = time.monotonic() - started
                _validate(state, network, items, gains=settings.residual_gains, train=seen)
                save_state(state, path, key=key)
                seen.clear()
    return state


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
