"""Fold: one model of all modalities, by predicting hidden channels from visible ones, from views to a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from neurofm.errors import UserError
from neurofm.model.core import Moments
from neurofm.model.neurofm import NeuroFM
from neurofm.recording import Modality
from neurofm.training.checkpoint import Checkpoint, digest, patch_samples, write_checkpoint
from neurofm.training.guard import Guard
from neurofm.training.keeping import Keeper
from neurofm.training.loop import Loop
from neurofm.training.recordings import left_out, schedule_of, training_recordings
from neurofm.training.scoring import choose_gains, residuals, validation_items
from neurofm.training.settings import PretrainSettings
from neurofm.training.spending import Spending
from neurofm.training.stopping import Stopping
from neurofm.training.tuning import CoreChoices, choose_cores, prior_of
from neurofm.windows import RecordingView, WindowsSettings
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
    """``max_hours`` or ``max_cost`` if that limit ended it."""
    skipped_steps: int | None = None
    """Steps whose loss was not a number, or exploded; None if there were none."""


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
    price_per_hour: float = 0.0,
    guard: Guard | None = None,
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
    price_per_hour
        Of the machine.
    guard
        Is told that training goes on.

    Raises
    ------
    UserError
        If nothing can be learned from, there is no room for samples, more of them is damaged than
        `settings.most_damaged`, there is no memory for a single window, or the loss diverges again and again; step,
        modality, recording and learning rate are named.
    Stopped
        After SIGTERM or SIGUSR1; what was learned is kept.
    """
    spending = Spending(
        max_hours=settings.max_hours,
        max_cost=settings.max_cost,
        price_per_hour=price_per_hour,
        side_by_side=side_by_side,
    )
    who = f"pretrain fold {fold}"
    refuse_absent(settings.dataset_shares, {view.dataset for view in views})
    with Stopping() as stopping, _reproducible():
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
        known = refuse_damage(samples, most=settings.most_damaged, who=who)
        sys.stderr.write(known)
        with Store(
            [recording.view.signal for recording in recordings],
            schedule_of(recordings, settings=settings),
            site=site or StoreSite(),
            bfloat16=settings.bfloat16,
            side_by_side=side_by_side,
            who=who,
        ) as store:
            state = Loop(
                network,
                recordings,
                store,
                items,
                settings=settings,
                keeper=Keeper(run_dir / "last.pt", key=key, who=who),
                stopping=stopping,
                spending=spending,
                guard=guard or Guard(),
                who=who,
            ).run()
        found = refuse_damage(samples, most=settings.most_damaged, who=who)
        sys.stderr.write(found if found != known else "")
        network.load_state_dict(state.best)
        gains = choose_gains(items, residuals(network, items), gains=settings.residual_gains)
        network.eval()
        made = _checkpoint(network, views, choices=choices, gains=gains, settings=settings, windows=windows)
        try:
            write_checkpoint(made, out_dir)
        except OSError as error:
            raise UserError(
                f"{out_dir}: the finished model cannot be written: {error.strerror or error}.",
                mend="free space and run it again: training goes on from its last kept state",
            ) from None
    cut_short = state.step < settings.steps and state.stale < settings.patience
    return FoldResult(
        fold=fold,
        steps=state.step,
        best_step=state.best_step,
        parameters=sum(parameter.numel() for parameter in network.parameters()),
        residual_gain={str(modality): gain for modality, gain in gains.items()},
        curve=state.curve,
        stopped_by=spending.used_up(state.seconds) if cut_short else None,
        skipped_steps=state.skipped or None,
    )


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
