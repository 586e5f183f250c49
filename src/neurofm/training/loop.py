"""Loop: steps and validations, until the last step, until nothing gets better, or until time or money is up."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Mapping, Sequence

from neurofm.model.whole_channels import Network
from neurofm.progress import Progressing
from neurofm.training.board import Board
from neurofm.training.divergence import Trouble, go_back, is_sound, skip, usual_loss
from neurofm.training.guard import Guard
from neurofm.training.keeping import Keeper
from neurofm.training.learner import Learner
from neurofm.training.learning_rate import learning_rate
from neurofm.training.paired import Partners, pairs_said
from neurofm.training.processes import Processes
from neurofm.training.recordings import TrainingRecording
from neurofm.training.scoring import ValidationItem, losses, residuals, score_of
from neurofm.training.settings import PretrainSettings
from neurofm.training.spending import Spending
from neurofm.training.state import RunState, Weights, copy_of
from neurofm.training.step import Drawn, Gradients, Taken, cut_gradient, take_gradient
from neurofm.training.stopping import PeerGone, Stopped, Stopping
from neurofm.windows.store import Store

_UPDATE_S = 5.0
"""Longest that an update of the weights is waited for before it counts as hung."""


class Loop:
    """The training of one fold, from the state that was kept, or from the start.

    Parameters
    ----------
    network
        To be trained; its weights are the start, where nothing was kept.
    recordings, store
        What is learned from, and its samples.
    items
        What is validated on.
    settings
        Of params.yaml.
    keeper
        Keeps the state at every validation, and when a signal ends the training; says for whom messages are.
    stopping
        Hears signals.
    spending
        Limits on time and money.
    guard
        Is told that training goes on.
    start_score
        What the network is validated with before its first step; an untrained one is its linear core.
    learner
        Learns; the network as it is, in this process alone, unless given.
    board
        Shows losses while training goes on.
    """

    def __init__(
        self,
        network: Network,
        recordings: Sequence[TrainingRecording],
        store: Store,
        items: Sequence[ValidationItem],
        *,
        settings: PretrainSettings,
        keeper: Keeper,
        stopping: Stopping,
        spending: Spending,
        guard: Guard,
        start_score: float = 1.0,
        learner: Learner | None = None,
        board: Board | None = None,
    ) -> None:
        self._network, self._recordings, self._store, self._items = network, recordings, store, items
        self._settings, self._keeper, self._stopping, self._spending = settings, keeper, stopping, spending
        self._guard, self._who = guard, keeper.who
        self._partners = Partners(recordings, settings=settings, patch_samples=network.patch_samples)
        self._learner = learner or Learner(network, settings=settings, processes=Processes(), who=keeper.who)
        self._processes = self._learner.processes
        self._board = board or Board()
        self._began = time.monotonic()
        self._windows = 0
        """Learned from since then."""
        self._validating = False
        self._start_score = start_score
        self.state = self._processes.from_main(lambda: keeper.latest() or self._fresh(network.state_dict()))
        self._resume(self.state)

    def run(self) -> RunState:
        """Train.

        Raises
        ------
        Stopped
            After a signal; the state is kept.
        PeerGone
            If another process that trains the same model ended; the state is kept.
        UserError
            If the loss diverges again and again, or memory holds no window.
        """
        if self._spending.is_of_interest:
            sys.stderr.write(f"{self._who}: {self._spending.rules()}\n")
        if self._settings.paired:
            sys.stderr.write(pairs_said([recording.view for recording in self._recordings], who=self._who))
        self._guard.can_keep(self._keep_meanwhile)
        try:
            with (
                self._stopping.noted(self._processes.count > 1),
                Progressing(self._who, total=self._settings.steps, unit="steps") as progress,
            ):
                progress.advance(self.state.step)
                self._run(progress)
        except Stopped as stopped:
            whole = self._keep()
            said = "" if whole else f" ({self._keeper.complaint})"
            sys.stderr.write(f"{self._who}: ended by {stopped.name}; {self._keeper.what_is_kept}{said}\n")
            raise
        except PeerGone:
            if self._learner.can_keep_alone:
                self._keep()
            raise
        self._guard.rest()
        if self._keeper.complaint:
            sys.stderr.write(
                f"{self._who}: the last state was never kept ({self._keeper.complaint}): if the model cannot be "
                f"written either, training goes on from there: {self._keeper.what_is_kept}\n"
            )
        return self.state

    def _run(self, progress: Progressing) -> None:
        while True:
            before, safeguards = self.state.step, self._settings.safeguards
            self._agree()
            if self.state.bad_in_row >= safeguards.skips:
                with self._stopping.held():  # What is kept must not be the old weights as the new state.
                    self.state = go_back(self.state, self._back(), settings=safeguards, who=self._who)
                    self._count_time()  # It was spent all the same; of the main process, or limits would part them.
                    self.state.seconds = self._processes.from_main(lambda: self.state.seconds)
                    self._resume(self.state)
            elif self._is_due():
                self._validate()
            elif self._is_done():
                return
            else:
                self._step()
            progress.advance(self.state.step - before, note=self._note())

    def _agree(self) -> None:
        """End if a signal was heard, by any process: one that ended alone would leave the others waiting."""
        if heard := self._processes.most(self._stopping.signum or 0):
            raise Stopped(heard)

    def _is_due(self) -> bool:
        """Whether this step ends with a validation that is not done yet."""
        step, settings = self.state.step, self._settings
        return (
            not self._is_validated()
            and bool(step)
            and (step % settings.validate_every_steps == 0 or step == settings.steps)
        )

    def _is_validated(self) -> bool:
        return bool(self.state.curve) and bool(self.state.curve[-1]["step"] == self.state.step)

    def _is_done(self) -> bool:
        """Whether it ends here; but for the last step that is decided at validations."""
        state, settings = self.state, self._settings
        if state.step >= settings.steps:
            return True
        return self._is_validated() and (
            state.stale >= settings.patience or self._spending.used_up(state.seconds) is not None
        )

    def _step(self) -> None:
        state, settings = self.state, self._settings
        step = state.step
        self._guard.beat(step, f"step {step}")
        sums = Gradients(self._learner.network, Processes())
        taken = []
        for number in range(step * settings.accumulate, (step + 1) * settings.accumulate):
            taken.append(self._take(step, number))
            if settings.accumulate > 1:
                sums.keep()
        if settings.accumulate > 1:
            sums.give(share=1 / settings.accumulate)
        norm = cut_gradient(self._learner.network)
        with self._stopping.held():
            state.step += 1
            for drawn, one in taken:
                self._windows += len(drawn.z)
                if one.micro_windows < -(-len(drawn.z) // settings.slices):
                    state.micro_windows[str(drawn.recording.view.modality)] = one.micro_windows
            bad = [
                (drawn, one)
                for drawn, one in taken
                if not is_sound(one.loss, norm, usual=usual_loss(state, one.key), settings=settings.safeguards)
            ]
            if bad:
                skip(self._trouble(*bad[0], norm=norm, step=step), state, who=self._who)
                return
            state.bad_in_row = 0
            for _, one in taken:
                state.seen.setdefault(one.key, []).append(one.loss)
            self._learner.update(step, rate=self._rate(step))
        losses_of = {f"train/{one.key}": one.loss for _, one in taken}
        self._board.show(
            state.step, losses_of | {"gradient": norm, "learning rate": self._rate(step), "windows/s": self._pace()}
        )

    def _take(self, step: int, number: int) -> tuple[Drawn, Taken]:
        """Take the gradient of one draw."""
        draw, z, counts = self._store.at(number)
        drawn = Drawn(recording=self._recordings[draw.source], draw=draw, z=z, counts=counts)
        drawn = self._partners.joined(drawn, number=number)
        modality, name = str(drawn.recording.view.modality), drawn.recording.source.name
        self._guard.beat(step, f"step {step} ({modality}, {name})")
        return drawn, take_gradient(
            self._learner,
            drawn,
            number=number,
            settings=self._settings,
            micro_windows=self.state.micro_windows.get(modality, -(-len(z) // self._settings.slices)),
            who=self._who,
        )

    def _trouble(self, drawn: Drawn, taken: Taken, *, norm: float, step: int) -> Trouble:
        return Trouble(
            step=step,
            modality=drawn.recording.view.modality,
            recording=drawn.recording.source.name,
            loss=taken.loss,
            norm=norm,
            rate=self._rate(step),
        )

    def _rate(self, step: int) -> float:
        return self.state.rate * learning_rate(step, settings=self._settings)

    def _validate(self) -> None:
        """Validate the averaged weights, keep them if they are the best yet, and the state on disk."""
        state, settings = self.state, self._settings
        self._guard.beat(state.step, f"validation at step {state.step}")
        with self._stopping.held():
            self._snapshot()
            self._validating = True
        if not self._processes.is_main:
            self._guard.rest()  # The main one tells that it goes on.
        found, score, state.seconds = self._processes.from_main(self._judge)
        self._guard.beat(state.step, f"validation at step {state.step}")
        with self._stopping.held():
            self._validating = False
            if self._has_diverged(found):
                return
            train = {modality: sum(values) / len(values) for modality, values in sorted(state.seen.items())}
            validation = dict(sorted(found.items()))
            state.curve.append({"step": state.step, "train": train, "validation": validation})
            spent = {"hours": state.seconds / 3600}
            self._board.show(state.step, {f"validation/{m}": value for m, value in validation.items()} | spent)
            if score < state.best_score:
                state.best, state.best_step, state.best_score = copy_of(state.average), state.step, score
                state.stale = 0
            else:
                state.stale += 1
            state.seen = {}
            if not state.bad_in_row:  # Else there would be no state from before the trouble to go back to.
                self._save(is_validated=True)
            if self._spending.is_of_interest:
                said = self._spending.report(seconds=state.seconds, step=state.step, steps=settings.steps)
                sys.stderr.write(f"{self._who}: {said}\n")
            if settings.phases:
                parted = self._spending.report_phases(state.phase_seconds, step=state.step, steps=settings.steps)
                sys.stderr.write(f"{self._who}: {parted}\n")

    def _judge(self) -> tuple[dict[str, float], float, float]:
        """Return the averaged weights' loss per modality and mask, their score, and the time that was spent so far."""
        state = self.state

        def each() -> None:
            self._guard.beat(state.step, "validation")
            self._stopping.heed()

        self._network.load_state_dict(state.average)
        corrections = residuals(self._network, self._items, each=each)
        self._network.load_state_dict(state.weights)
        score = score_of(self._items, corrections, gains=self._settings.residual_gains)
        return losses(self._items, corrections, gain=1.0), score, state.seconds

    def _has_diverged(self, found: Mapping[str, float]) -> bool:
        """Whether validation shows that the weights are beyond rescue; the loop goes back then."""
        state = self.state
        rate = self._rate(state.step - 1)
        for modality, loss in found.items():
            if not math.isfinite(loss):
                trouble = Trouble(
                    step=state.step, modality=modality, recording="validation", loss=loss, norm=0.0, rate=rate
                )
                state.trouble, state.bad_in_row = str(trouble), self._settings.safeguards.skips
                return True
        return False

    def _keep(self) -> bool:
        """Write down what was learned up to the last whole step."""
        if not self._validating:
            self._snapshot()
        return self._save(is_validated=False)

    def _save(self, *, is_validated: bool) -> bool:
        """Keep the state, if this process does so."""
        return self._processes.is_main and self._keeper.save(self.state, is_validated=is_validated)

    def _keep_meanwhile(self) -> bool:
        """Do so in another thread, while this one hangs; not in the middle of an update."""
        if not self._learner.can_keep_alone or not self._stopping.unchanged.acquire(timeout=_UPDATE_S):
            return False
        try:
            return self._keep()
        finally:
            self._stopping.unchanged.release()

    def _snapshot(self) -> None:
        """Take weights and time into the state."""
        self._learner.store(self.state)
        self._count_time()

    def _count_time(self) -> None:
        state, before = self.state, self.state.seconds
        state.seconds = time.monotonic() - self._started
        if phase := self._spending.phase(max(0, state.step - 1), steps=self._settings.steps):
            state.phase_seconds[phase] = state.phase_seconds.get(phase, 0.0) + state.seconds - before

    def _back(self) -> RunState | None:
        """Return the state of the latest validation, or the start, where there was none; None if it was not kept."""
        kept = self._processes.from_main(self._keeper.validated)
        return self._fresh(self.state.best) if kept is None and self.state.best_step == 0 else kept

    def _fresh(self, start: Weights) -> RunState:
        return RunState(
            step=0,
            weights=copy_of(start),
            average=copy_of(start),
            optimizer=self._learner.untrained,
            best=copy_of(start),
            best_step=0,
            best_score=self._start_score,
            stale=0,
        )

    def _resume(self, state: RunState) -> None:
        """Put weights where they are used."""
        self._learner.load(state)
        self._started = time.monotonic() - state.seconds

    def _pace(self) -> float:
        """Windows a second."""
        return self._windows / max(time.monotonic() - self._began, 1e-9)

    def _note(self) -> str:
        """Windows a second, and the mean loss of each modality since the last validation."""
        means = [f"{modality} {sum(seen) / len(seen):.3f}" for modality, seen in sorted(self.state.seen.items())]
        return f"{self._pace():.3g} windows/s" + (f", loss {', '.join(means)}" if means else "")
