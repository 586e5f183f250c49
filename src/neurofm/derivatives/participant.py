"""The unit of work: one participant, preprocessed and put into their place."""

from __future__ import annotations

from neurofm.derivatives.methods import method_of
from neurofm.derivatives.task import ParticipantTask
from neurofm.units import Outcome


def process(task: ParticipantTask) -> Outcome:
    """Preprocess one participant. Nothing of a run that did not go well reaches the dataset.

    Raises
    ------
    Unreadable
        If the engine failed for what was given to it.
    MemoryError
        If this machine lacked memory or time.
    UserError
        If this machine lacks what the engine needs.
    """
    method, staged = method_of(task.settings), task.staged
    staged.folder.mkdir(parents=True, exist_ok=True)
    staged.remove_others()
    if not staged.is_complete:
        staged.output.mkdir(exist_ok=True)
        method.process(task)
        staged.complete()
    index = staged.place(task.derivatives)
    staged.remove()
    method.clean(task)
    return Outcome(
        facts={
            "engine": task.settings.engine,
            "files": len(index.files),
            "mb": round(sum(file.size for file in index.files) / 1e6, 3),
            "runs": len(task.participant.runs),
        }
    )
