"""Run units as tasks of Slurm job arrays.

What counts is on the shared disk: a task writes down how each unit ended, and a unit has ended when that line is there.
Slurm is asked only whether a task may still come to its units. One that is gone, for whatever reason (a node died,
somebody typed `scancel`, the controller was killed and forgot it), leaves units without a receipt, and these are
submitted once more. Whoever submitted may be killed at any moment too: the tasks go on, and the next run takes them up.
"""

from __future__ import annotations

import queue
import sys
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Generic, Self, TypeVar

from pydantic import ValidationError

from neurofm.errors import UserError
from neurofm.recording import UnitStatus
from neurofm.units.attempt import receipt_of
from neurofm.units.receipt import Receipt
from neurofm.units.resources import Resources, SlurmSite
from neurofm.units.slurm_queue import SlurmSilentError, TaskState, longest_array, require_slurm, stop_tasks, task_states
from neurofm.units.slurm_submit import hand_over, ran_out_of_memory
from neurofm.units.submission import Submission, TaskPlan, remove_closed
from neurofm.units.unit import Outcome, Payload, Unit

T = TypeVar("T")

_TASKS_PER_PLACE = 2
"""Tasks per place: with one each, all would wait for the slowest; with many, starting Python would cost too much."""
_TRIES = 2
"""How often a unit is submitted whose tasks vanish while it is at work."""
_GATHER_S = 0.1
"""Units that are submitted within so short a time share an array."""
_LOOK_EVERY_S = (0.1, 2.0)
"""Pause between two looks at the receipts: the shortest while they come in, growing to the longest."""
_ASK_EVERY_S = (1.0, 15.0)
"""The same for questions to Slurm, whose controller is shared by everybody."""
_TELL_EVERY_S = 60.0
_STUCK = (
    "Held",
    "held",
    "PartitionTimeLimit",
    "PartitionNodeLimit",
    "PartitionDown",
    "PartitionInactive",
    "BadConstraints",
    "Never",
    "Invalid",
    "QOS",
    "Assoc",
)
"""Parts of Slurm's reasons for letting a task wait that do not pass by themselves, or may not."""


class _StoppedError(Exception):
    """The executor ends while its thread waits for Slurm."""


@dataclass(eq=False)
class _Wish(Generic[Payload]):
    """A unit that somebody waits for."""

    unit: Unit[Payload]
    memory_gb: float
    future: Future[Receipt] = field(default_factory=Future)
    lost: int = 0
    """How often it was at work in a task that vanished, or in one that vanished before it began."""


@dataclass(eq=False)
class _Task:
    """A task that may still come to its units."""

    submission: Submission
    index: int
    plan: TaskPlan
    ended: set[str] = field(default_factory=set)
    """Its units of which there is a receipt."""
    begun: bool = False
    missed: int = 0
    """How often in a row Slurm did not name it."""

    @property
    def key(self) -> tuple[str, int]:
        return self.submission.name, self.index

    @property
    def left(self) -> list[str]:
        return [unit for unit in self.plan.units if unit not in self.ended]


class SlurmExecutor(Generic[Payload]):
    """An `Executor` of Slurm job arrays, submitted with submitit.

    Parameters
    ----------
    work
        Called as ``work(unit.payload)`` on a node; must be importable there.
    folder
        ``.neurofm/receipts/<dataset>/slurm``, on a disk that the nodes share.
    site
        How the cluster is to be used.
    resources
        What one unit is given.
    """

    def __init__(
        self, work: Callable[[Payload], Outcome], *, folder: Path, site: SlurmSite, resources: Resources
    ) -> None:
        self.at_once = site.at_once
        self._work = work
        self._folder = folder
        self._site = site
        self._resources = resources
        self._new: queue.SimpleQueue[_Wish[Payload]] = queue.SimpleQueue()
        self._wishes: dict[str, _Wish[Payload]] = {}
        """Who waits for which unit."""
        self._ready: list[_Wish[Payload]] = []
        """To be submitted."""
        self._tasks: dict[tuple[str, int], _Task] = {}
        self._read: dict[Path, int] = {}
        """Bytes that were read of each journal."""
        self._early: dict[str, Receipt] = {}
        """Receipts of tasks of an earlier run, before anybody waits for them here."""
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve, daemon=True, name="slurm")
        self._said_at = float("-inf")
        self._longest_array = 0

    def submit(self, unit: Unit[Payload]) -> Future[Receipt]:
        """Run one unit: in a task that an earlier run submitted for it, or in a new one."""
        wish = _Wish(unit, memory_gb=min(self._resources.memory_gb, self._site.most_memory_gb))
        self._new.put(wish)
        return wish.future

    def __enter__(self) -> Self:
        """Take up what an earlier run has left at work.

        Raises
        ------
        UserError
            If there is no Slurm, or it does not say what has become of that.
        """
        require_slurm()
        left = Submission.all_open(self._folder)
        remove_closed(self._folder)
        try:
            states = task_states(left)
        except SlurmSilentError as error:
            raise UserError(
                f"Slurm does not answer: {error}.", mend="try `squeue --me`, and run again when it answers"
            ) from None
        for submission in left:
            alive = False
            for index, plan in enumerate(submission.plan.tasks):
                task = _Task(submission, index, plan)
                state = states.get(task.key)
                if state is not None and not state.ended:
                    self._tasks[task.key] = task
                    alive = True
            if not alive:
                submission.close()
        # What is written down already is for whoever keeps the receipts; it answers nothing that is asked from now on.
        self._look()
        self._early.clear()
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()
        if error[0] is not None:
            if left := [task for task in self._tasks.values() if task.left]:
                names = ",".join(sorted({task.submission.name for task in left}))
                sys.stderr.write(
                    f"{len(left)} tasks go on in Slurm, and the next run takes them up; to stop them: "
                    f"scancel --name={names}\n"
                )
            return
        # What is still there was submitted by an earlier run for units that are no longer wanted, or has just ended.
        with suppress(SlurmSilentError):
            stop_tasks((task.submission, task.index) for task in self._tasks.values() if task.left)
        for submission in Submission.all_open(self._folder):
            submission.close()

    def _serve(self) -> None:
        """Submit, look and ask, until the executor ends; an error goes to all who wait."""
        pause, asked, ask_every = _LOOK_EVERY_S[0], time.monotonic(), _ASK_EVERY_S[0]
        try:
            while not self._stop.is_set():
                came = self._take_wishes(pause)
                if self._ready:
                    self._submit()
                came += self._look()
                pause = _LOOK_EVERY_S[0] if came else min(_LOOK_EVERY_S[1], 1.5 * pause)
                if self._wishes and time.monotonic() - asked >= ask_every:
                    lost = self._ask()
                    asked = time.monotonic()
                    ask_every = _ASK_EVERY_S[0] if lost else min(_ASK_EVERY_S[1], 1.3 * ask_every)
        except _StoppedError:
            pass
        except BaseException as error:  # noqa: BLE001  # raised where the results are taken
            self._fail(error)

    def _fail(self, error: BaseException) -> None:
        while not self._stop.is_set():
            for wish in self._wishes.values():
                if not wish.future.done():
                    wish.future.set_exception(error)
            with suppress(queue.Empty):
                wish = self._new.get(timeout=_LOOK_EVERY_S[1])
                self._wishes[wish.unit.id] = wish

    def _take_wishes(self, pause: float) -> int:
        """Wait for new wishes; returns how many came."""
        came: list[_Wish[Payload]] = []
        with suppress(queue.Empty):
            while True:
                came.append(self._new.get(timeout=_GATHER_S if came else pause))
        if not came:
            return 0
        holders = {unit: task for task in self._tasks.values() for unit in task.left}
        others: set[_Task] = set()
        for wish in came:
            unit, holder = wish.unit, holders.get(wish.unit.id)
            early = self._early.pop(unit.id, None)
            if early is not None and early.key == unit.key and not early.killed:
                wish.future.set_result(early)
                continue
            self._wishes[unit.id] = wish
            if holder is None or holder.plan.units[unit.id] != unit.key:
                self._ready.append(wish)
            if holder is not None and holder.plan.units[unit.id] != unit.key:
                others.add(holder)
        if others:
            self._drop(others)
        return len(came)

    def _drop(self, tasks: Iterable[_Task]) -> None:
        """Stop tasks that would write what their units no longer are; who else waits for them is served anew."""
        stopped = list(tasks)
        self._say(f"stopping {len(stopped)} tasks that were submitted for other inputs or settings")
        self._answer(lambda: stop_tasks((task.submission, task.index) for task in stopped))
        self._look()
        for task in stopped:
            del self._tasks[task.key]
            ready = set(self._ready)
            again = [self._wishes[unit] for unit in task.left if unit in self._wishes]
            self._ready += [wish for wish in again if wish not in ready]

    def _look(self, *, closely: bool = False) -> int:
        """Take what the tasks have written down since the last look; returns how many receipts that were.

        A network disk may show sizes and names that are a minute old: to look closely is to make it ask again.
        """
        count = 0
        for submission in {task.submission.folder: task.submission for task in self._tasks.values()}.values():
            for index, path, size in submission.journals(anew=closely):
                task = self._tasks.get((submission.name, index))
                if task is None:
                    continue
                task.begun = True
                if closely or size > self._read.get(path, 0):
                    for receipt in self._lines(path):
                        task.ended.add(receipt.unit)
                        self._end(receipt, task)
                        count += 1
        return count

    def _lines(self, path: Path) -> Iterable[Receipt]:
        """Return the receipts that were appended to a journal; half a line waits for its other half."""
        with path.open("rb") as file:
            file.seek(self._read.get(path, 0))
            content = file.read()
        whole = content.rfind(b"\n") + 1
        self._read[path] = self._read.get(path, 0) + whole
        receipts = []
        for line in content[:whole].splitlines():
            with suppress(ValidationError):  # Cut off by a kill: its unit has no receipt, then.
                receipts.append(Receipt.model_validate_json(line))
        return receipts

    def _end(self, receipt: Receipt, task: _Task) -> None:
        """Hand a receipt to who waits for it, unless its unit is to have more memory."""
        wish = self._wishes.get(receipt.unit)
        if wish is None:
            self._early[receipt.unit] = receipt
        elif receipt.key == wish.unit.key:
            if receipt.killed and self._more_memory(wish, task):
                return
            del self._wishes[receipt.unit]
            wish.future.set_result(receipt)

    def _more_memory(self, wish: _Wish[Payload], task: _Task) -> bool:
        """Submit a unit again with twice the memory it had; False if that is the most there is."""
        if task.submission.plan.memory_gb >= self._site.most_memory_gb:
            return False
        wish.memory_gb = min(2 * task.submission.plan.memory_gb, self._site.most_memory_gb)
        self._ready.append(wish)
        return True

    def _ask(self) -> int:
        """Ask Slurm which tasks may still come to their units, and see to the units of those that may not."""
        try:
            states = task_states(task.submission for task in self._tasks.values())
        except SlurmSilentError as error:
            self._say(f"Slurm does not answer ({error}); waiting for it")
            return 0
        gone = []
        for task in self._tasks.values():
            state = states.get(task.key)
            task.missed = 0 if state is not None and not state.ended else task.missed + 1
            if state is not None and state.state == "PENDING" and any(word in state.why for word in _STUCK):
                self._say(f"Slurm lets task {state.job} wait ({state.why}); ask it: scontrol show job {state.job}")
            # Twice: what a node wrote last may come to this one a moment later.
            if task.missed > 1:
                gone.append((task, state))
        self._look(closely=bool(gone))
        for task, state in gone:
            del self._tasks[task.key]
            if task.left:
                task.submission.revoke([task.index])
                self._lose(task, state)
        at_work = {task.submission.folder for task in self._tasks.values()}
        for task, _ in gone:
            if task.submission.folder not in at_work:
                task.submission.close()
        return len(gone)

    def _lose(self, task: _Task, state: TaskState | None) -> None:
        """See to the units that a task has left behind: the one at work may be why, the others only wait for a task."""
        log = task.submission.log_of(task.index)
        how = state.state if state else "forgotten by Slurm"
        if how == "FAILED" and ran_out_of_memory(log):
            how = "OUT_OF_MEMORY"
        left = [self._wishes[unit] for unit in task.left if unit in self._wishes]
        at_work = task.left[0] if task.begun else None
        for wish in left:
            if wish.unit.id == at_work and how == "OUT_OF_MEMORY":
                if not self._more_memory(wish, task):
                    self._give_up(
                        wish,
                        f"it ran out of memory with {task.submission.plan.memory_gb:g} GB, the most of site.yaml",
                        log,
                    )
            elif wish.unit.id == at_work and how == "TIMEOUT":
                self._give_up(wish, "its task hung past the walltime", log)
            else:
                wish.lost += at_work in {None, wish.unit.id}
                if wish.lost >= _TRIES:
                    self._give_up(wish, f"its task was lost {_TRIES} times, last: {how}", log)
                else:
                    self._ready.append(wish)

    def _give_up(self, wish: _Wish[Payload], reason: str, log: str) -> None:
        del self._wishes[wish.unit.id]
        wish.future.set_result(receipt_of(wish.unit, UnitStatus.INCOMPLETE, reason, log=log))

    def _submit(self) -> None:
        """Submit what is ready, those that need the same memory together."""
        ready, self._ready = self._ready, []
        for memory_gb in sorted({wish.memory_gb for wish in ready}):
            units = [wish.unit for wish in ready if wish.memory_gb == memory_gb]
            for tasks in self._arrays(units):
                self._submit_array(tasks, memory_gb)

    def _arrays(self, units: list[Unit[Payload]]) -> Iterable[list[list[Unit[Payload]]]]:
        """Part units into tasks, as few as keep every place busy, and these into arrays that Slurm takes.

        The walltime bounds no task: one that reaches its end has itself requeued.
        """
        count = min(len(units), _TASKS_PER_PLACE * self._site.at_once)
        tasks = [units[index::count] for index in range(count)]
        if count == 1:
            return [tasks]
        self._longest_array = self._longest_array or self._answer(longest_array)
        return [tasks[first : first + self._longest_array] for first in range(0, count, self._longest_array)]

    def _answer(self, question: Callable[[], T]) -> T:
        """Ask Slurm until it answers.

        Raises
        ------
        _StoppedError
            If this executor ends meanwhile.
        """
        while True:
            try:
                return question()
            except SlurmSilentError as error:
                self._say(f"Slurm does not answer ({error}); waiting for it")
            if self._stop.wait(_ASK_EVERY_S[0]):
                raise _StoppedError

    def _submit_array(self, tasks: list[list[Unit[Payload]]], memory_gb: float) -> None:
        """Submit one array; while Slurm is away it is tried again.

        Raises
        ------
        UserError
            If Slurm refuses it.
        """
        while True:
            submission = Submission.write(self._folder, tasks, memory_gb=memory_gb)
            try:
                hand_over(submission, self._work, site=self._site, resources=self._resources)
                break
            except SlurmSilentError as error:
                self._say(f"Slurm does not answer ({error}); waiting for it")
                # It may have taken the array all the same, without the lists that submitit puts in place afterwards.
                every = [(submission, index) for index in range(len(tasks))]
                self._answer(partial(stop_tasks, every))
                submission.close()
            except UserError as error:
                submission.close()
                if memory_gb <= self._resources.memory_gb and not self._tasks:
                    raise
                # The others are served all the same.
                for units in tasks:
                    for unit in units:
                        self._give_up(self._wishes[unit.id], f"with {memory_gb:g} GB: {error.problem}", "")
                return
        for index, plan in enumerate(submission.plan.tasks):
            task = _Task(submission, index, plan)
            self._tasks[task.key] = task

    def _say(self, text: str) -> None:
        """Tell the person who waits; not more often than once a minute."""
        if time.monotonic() - self._said_at >= _TELL_EVERY_S:
            self._said_at = time.monotonic()
            sys.stderr.write(f"{self._folder.parent.name}: {text}\n")
