"""Fold: one model of all modalities, by predicting hidden channels from visible ones, from views to a checkpoint."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from neurofm.errors import UserError
from neurofm.model.core import Moments
from neurofm.model.whole_channels import Network, network_of
from neurofm.training.acquisition import acquisitions
from neurofm.training.board import Board, board_of
from neurofm.training.checkpoint import Checkpoint, SubjectSums, digest, patch_samples, write_checkpoint
from neurofm.training.gates import choose_gates
from neurofm.training.guard import Guard
from neurofm.training.keeping import Keeper
from neurofm.training.kinds import choose_kinds
from neurofm.training.learner import learner_of
from neurofm.training.loop import Loop
from neurofm.training.processes import Processes, joined
from neurofm.training.recordings import chosen_of, left_out, schedule_of, training_recordings
from neurofm.training.reproducible import reproducible
from neurofm.training.scoring import choose_gains, residuals, score_of, validation_items
from neurofm.training.settings import PretrainSettings
from neurofm.training.site import TrainingSite
from neurofm.training.spending import Spending
from neurofm.training.state import RunState
from neurofm.training.stationary import StationaryCores
from neurofm.training.stopping import Stopping
from neurofm.training.subject_sums import subject_sums_of
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
    """0: the core alone was best."""
    parameters: int
    residual_gain: dict[str, float]
    curve: list[dict[str, Any]]
    """Per validation: step, train and validation loss per modality, relative to predicting the mean."""
    stopped_by: str | None = None
    """``max_hours`` or ``max_cost`` if that limit ended it."""
    skipped_steps: int | None = None
    """Steps whose loss was not a number, or exploded; None if there were none."""
    cores: list[dict[str, Any]] | None = None
    """Which core predicts, and the validation loss of each that could, per set of channels and per modality (for
    channels never met) where there is a bank; None without."""
    gates: list[dict[str, Any]] | None = None
    """How much of a stationary core's estimate is kept, and the validation loss of each gain, per set of channels and
    kind of mask; None where only whole channels are hidden."""


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
    shards_sha256: Mapping[str, str] | None = None,
    training: TrainingSite | None = None,
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
    shards_sha256
        Of each recording's shard, by the recording's name, for the checkpoint.
    training
        How many processes train it, if several do; all of them call this.

    Raises
    ------
    PeerGone
        If another of the processes ended; what was learned is kept.
    UserError
        If nothing can be learned from, there is no room for samples, more of them is damaged than
        `settings.most_damaged`, there is no memory for a single window, or the loss diverges again and again; step,
        modality, recording and learning rate are named.
    Stopped
        After SIGTERM or SIGUSR1; what was learned is kept.
    """
    refuse_absent(settings.dataset_shares, {view.dataset for view in views})
    where, who = training or TrainingSite(), f"pretrain fold {fold}"
    with (
        Stopping() as stopping,
        reproducible(),
        joined(where) as processes,
        processes.silent(),
        board_of(
            run_dir.parent / "tensorboard" / run_dir.name, is_wanted=where.tensorboard and processes.is_main, who=who
        ) as board,
    ):
        cores = processes.from_main(
            lambda: choose_kinds(
                choose_cores(views, settings=settings, windows=windows), views, settings=settings, windows=windows
            )
        )
        choices, gates = processes.from_main(
            lambda: choose_gates(cores.choices, views, settings=settings, windows=windows)
        )
        torch.manual_seed(settings.seed)
        network = network_of(settings.model, patch_samples=patch_samples(windows))
        learned = learn(
            network,
            views,
            choices=choices,
            settings=settings,
            windows=windows,
            keeper=Keeper(
                run_dir / "last.pt",
                key=f"{fold} {settings.key()} {windows.model_dump_json()}",
                who=who,
            ),
            stopping=stopping,
            site=site or StoreSite(),
            side_by_side=side_by_side,
            price_per_hour=price_per_hour,
            guard=guard or Guard(),
            processes=processes,
            board=board,
        )
        if processes.is_main:
            made = checkpoint_of(
                network, views, choices=choices, gains=learned.gains, settings=settings, windows=windows
            )
            save_model(replace(made, shards=learned_from(views, shards_sha256 or {})), out_dir)
    return learned.result(fold, network, cores=cores.report(), gates=[gate.row() for gate in gates])


@dataclass(frozen=True, kw_only=True)
class Learned:
    """What became of a training."""

    state: RunState
    gains: dict[str, float]
    stopped_by: str | None
    """The limit that ended it."""

    def result(
        self,
        fold: int,
        network: Network,
        *,
        cores: Sequence[dict[str, Any]] = (),
        gates: Sequence[dict[str, Any]] = (),
    ) -> FoldResult:
        """Say it for ``metrics/``."""
        return FoldResult(
            fold=fold,
            steps=self.state.step,
            best_step=self.state.best_step,
            parameters=sum(parameter.numel() for parameter in network.parameters()),
            residual_gain=self.gains,
            curve=self.state.curve,
            stopped_by=self.stopped_by,
            skipped_steps=self.state.skipped or None,
            cores=list(cores) or None,
            gates=list(gates) or None,
        )


def learn(
    network: Network,
    views: Sequence[RecordingView],
    *,
    choices: CoreChoices,
    settings: PretrainSettings,
    windows: WindowsSettings,
    keeper: Keeper,
    stopping: Stopping,
    site: StoreSite,
    side_by_side: int,
    price_per_hour: float,
    guard: Guard,
    is_trained: bool = False,
    processes: Processes | None = None,
    board: Board | None = None,
    learn_from: frozenset[str] | None = None,
) -> Learned:
    """Train a network; its best weights are in it afterwards.

    Parameters
    ----------
    network
        Where it starts from, if nothing was kept.
    views, settings, windows, site, side_by_side, price_per_hour, guard
        As in `pretrain`.
    choices
        Which cores, and their settings.
    keeper
        Keeps the state.
    stopping
        Hears signals.
    is_trained
        Whether the network has learned before: then it must get better than it is to be changed.
    learn_from
        Datasets that are learned from and validated on; the others are in priors only. All without.

    Raises
    ------
    UserError, Stopped
        As `pretrain` does.
    """
    who = keeper.who
    spending = Spending(
        max_hours=settings.max_hours,
        max_cost=settings.max_cost,
        price_per_hour=price_per_hour,
        side_by_side=side_by_side,
        phases=settings.phases,
    )
    cores = StationaryCores(views, settings=settings, windows=windows)
    recordings = training_recordings(
        views, choices=choices, settings=settings, windows=windows, cores=cores, learn_from=learn_from
    )
    if not recordings:
        raise UserError(
            f"{who} has no recording with train segments long enough for two patches.",
            mend="add recordings, or shorten the patches under `windows` in params.yaml",
        )
    for note in left_out(chosen_of(views, learn_from), recordings, settings=settings):
        sys.stderr.write(f"{who}: {note}\n")
    joint = processes or Processes()
    network.to(joint.device)
    items = (
        validation_items(views, choices=choices, settings=settings, windows=windows, cores=cores, learn_from=learn_from)
        if joint.is_main
        else []
    )
    samples = [view.stored for view in views if isinstance(view.stored, Samples)]
    known = refuse_damage(samples, most=settings.most_damaged, who=who)
    sys.stderr.write(known)
    with Store(
        [recording.view.signal for recording in recordings],
        schedule_of(recordings, settings=settings),
        site=site,
        bfloat16=settings.bfloat16,
        side_by_side=side_by_side * joint.here,
        who=who,
        each_block=lambda: guard.beat(0, "decoding"),
    ) as store:
        state = Loop(
            network,
            recordings,
            store,
            items,
            settings=settings,
            keeper=keeper,
            stopping=stopping,
            spending=spending,
            guard=guard,
            start_score=score_of(items, residuals(network, items), gains=settings.residual_gains)
            if is_trained
            else 1.0,
            learner=learner_of(network, settings=settings, processes=joint, who=who),
            board=board,
        ).run()
    found = refuse_damage(samples, most=settings.most_damaged, who=who)
    sys.stderr.write(found if found != known else "")
    if joint.is_main:
        network.load_state_dict(state.best)
    gains = joint.from_main(
        lambda: choose_gains(items, residuals(network, items), settings=settings, modalities=network.patch_samples)
    )
    network.eval()
    cut_short = state.step < settings.steps and state.stale < settings.patience
    return Learned(state=state, gains=gains, stopped_by=spending.used_up(state.seconds) if cut_short else None)


def save_model(checkpoint: Checkpoint, folder: Path) -> None:
    """Write a finished model.

    Raises
    ------
    UserError
        If there is no place for it.
    """
    try:
        write_checkpoint(checkpoint, folder)
    except OSError as error:
        raise UserError(
            f"{folder}: the finished model cannot be written: {error.strerror or error}.",
            mend="free space and run it again: training goes on from its last kept state",
        ) from None


def checkpoint_of(
    network: Network,
    views: Sequence[RecordingView],
    *,
    choices: CoreChoices,
    gains: dict[str, float],
    settings: PretrainSettings,
    windows: WindowsSettings,
) -> Checkpoint:
    """Put together what a model is, beside its weights: from train segments only."""
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
    lagged = StationaryCores(trained, settings=settings, windows=windows).totals()
    return Checkpoint(
        network=network,
        model=settings.model,
        windows=windows,
        gains=gains,
        choices=choices,
        priors=priors,
        lagged=lagged,
        subject_sums=_subject_sums(trained, choices=choices, names=priors, lagged=lagged),
        acquisitions=acquisitions(trained),
        prior_recordings=frozenset(digest(view.name) for view in trained if view.channel_set in priors),
        subjects=frozenset(digest(view.subject) for view in trained),
        roles={digest(view.name): view.roles.digest() for view in trained},
    )


def _subject_sums(
    views: Sequence[RecordingView], *, choices: CoreChoices, names: Collection[str], lagged: Collection[str]
) -> dict[str, tuple[SubjectSums, ...]]:
    """Sum up subjects with several recordings, per set of channels that has any."""
    found = {
        name: subject_sums_of(
            [view for view in views if view.channel_set == name],
            sds_samples=choices.by_channel_set[name].core.smoothing_samples,
            lagged=name in lagged,
        )
        for name in names
    }
    return {name: groups for name, groups in found.items() if groups}


def learned_from(views: Sequence[RecordingView], shards_sha256: Mapping[str, str]) -> frozenset[str]:
    """Return the SHA-256 of every shard that is learned from, where it is told."""
    return frozenset(shards_sha256[view.name] for view in views if view.roles.train and view.name in shards_sha256)
