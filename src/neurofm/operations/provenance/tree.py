"""An explanation as a tree that a person reads. Long lists are cut, unless all is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from rich.text import Text
from rich.tree import Tree

from neurofm.operations.explain import Explanation
from neurofm.operations.provenance.branches import SHOWN, Branches, folded, value_text
from neurofm.operations.provenance.commits import Commit
from neurofm.operations.provenance.dataset_tree import add_dataset, add_files, add_recording
from neurofm.operations.provenance.pipeline import State
from neurofm.operations.provenance.scores import Score
from neurofm.operations.provenance.stages import ArtefactFacts, StageFacts
from neurofm.operations.provenance.standing import Standing
from neurofm.operations.provenance.subject import printable
from neurofm.operations.tables import count_text, counted, size_text

_SHARDS, _MANIFESTS = "data/shards", "data/manifests"
"""Folders of what several stages made: told of where they were made."""
_STYLES = {State.AS_LOCKED: "green", State.PARTIAL: "yellow", State.CHANGED: "yellow", State.MISSING: "yellow"}
_SUBJECT = 60
"""Most letters of a commit's subject."""
_SCORE_FACTS = ("ci_low", "ci_high", "null", "n", "ci_unit", "split", "seed")


def explanation_tree(explanation: Explanation, *, everything: bool = False) -> Tree:
    """Render an explanation.

    Parameters
    ----------
    explanation
        What is known.
    everything
        List every file, recording and subject, however many there are.
    """
    row = f"#{explanation.row}" if explanation.row else ""
    title = Text(printable(f"{explanation.path}{row}"), style="bold", overflow="fold")
    top = Branches(Tree(title), most=None if everything else SHOWN)
    _standing(top, explanation.kind, explanation.standing)
    _scores(top, explanation.scores)
    if explanation.recording:
        add_recording(top, explanation.recording)
    if explanation.raw:
        add_files(top.add("in the manifest"), [explanation.raw.file])
        top.add("for recordings").many(explanation.raw.recordings)
    if len(explanation.made_by) == 1:
        _stage(top.add("made by", explanation.made_by[0].name), explanation.made_by[0], code=True)
    elif explanation.made_by:
        _makers(top.add("made by", f"{count_text(len(explanation.made_by))} stages"), explanation)
    if explanation.before:
        before = top.add("before that")
        made = {out.path for stage in explanation.before for out in stage.outputs} | {_SHARDS, _MANIFESTS}
        for stage in explanation.before:
            inputs = tuple(one for one in stage.inputs if one.path not in made)
            _stage(before.add(stage.name), replace(stage, inputs=inputs), code=False)
    listed = explanation.recording is None and explanation.raw is None
    for dataset in explanation.datasets:
        add_dataset(top, dataset, files=listed, fold=explanation.fold)
    _others(top, explanation)
    if explanation.read_by:
        top.add("read by", folded(explanation.read_by))
    _code_state(top, explanation)
    if explanation.missing:
        missing = top.add("not here", f"{count_text(len(explanation.missing))} of what was used")
        missing.many([f"{path}: {mend}" if mend else path for path, mend in explanation.missing.items()])
    return top.tree


def _standing(top: Branches, kind: str, standing: Standing) -> None:
    about = [kind]
    if standing.size is not None:
        about.append(size_text(standing.size))
    if standing.digest:
        about.append(standing.digest)
    line = top.add(", ".join(about))
    if standing.state is not None:
        told = f"{standing.state}: {standing.mend}" if standing.mend else _state(standing.state)
        line.add(told, style=_STYLES[standing.state])
    if standing.note:
        line.add(standing.note)
    if standing.change:
        line.add("last changed in", _commit(standing.change))
    if standing.uncommitted:
        line.add(f"not as committed: {', '.join(standing.uncommitted)}", style="yellow")


def _state(state: State) -> str:
    return {
        State.AS_LOCKED: "what lies on disk is what dvc.lock has",
        State.CHANGED: "what lies on disk has changed since: dvc.lock has another digest",
        State.PARTIAL: "only a part of it is here",
        State.MISSING: "not here",
    }[state]


def _scores(top: Branches, scores: Sequence[Score]) -> None:
    lines = []
    for score in scores:
        facts = score.facts
        more = ""
        if all(name in facts for name in _SCORE_FACTS):
            more = (
                f" [{facts['ci_low']}, {facts['ci_high']}], null {facts['null']}, n {facts['n']} ({facts['ci_unit']}), "
                f"{facts['split']}, seed {facts['seed']}"
            )
        lines.append(f"{score}: {score.value:g}{more}")
    if lines:
        top.add("score" if len(lines) == 1 else "scores").many(lines)


def _stage(branch: Branches, stage: StageFacts, *, code: bool) -> None:
    branch.add("command", stage.command)
    changed = [one for one in stage.code if one.state is not State.AS_LOCKED]
    commit = _commit(stage.commit) if stage.commit else "no commit is known"
    line = branch.add("code", f"{_parts(stage.code)}, last changed in {commit}")
    for one in stage.code if code else changed:
        _artefact(line, one)
    if stage.uncommitted:
        line.add(f"not as committed: {folded(stage.uncommitted)}", style="yellow")
    branch.fact("container of its last run on this machine", stage.container)
    if stage.params:
        params = branch.add("settings")
        for name, value in stage.params.items():
            line = params.add(name, value_text(value))
            if name in stage.changed_params:
                line.add(State.CHANGED, style=_STYLES[State.CHANGED])
    for label, group in (("read", stage.inputs), ("wrote", stage.outputs)):
        if group:
            below = branch.add(label)
            for one in group:
                _artefact(below, one)


def _makers(branch: Branches, explanation: Explanation) -> None:
    """List the stages whose outputs lie in a folder, with these outputs."""
    for stage in explanation.made_by:
        line = branch.add(stage.name, stage.command)
        for one in stage.outputs:
            if one.path.startswith(f"{explanation.path}/") or explanation.path == ".":
                _artefact(line, one)


def _parts(code: Sequence[ArtefactFacts]) -> str:
    changed = sum(one.state is not State.AS_LOCKED for one in code)
    count = sum(one.files or 1 for one in code)
    return f"{counted(count, 'file')}, {f'{changed} of its parts changed since' if changed else 'all as locked'}"


def _artefact(branch: Branches, one: ArtefactFacts) -> None:
    about = [one.path]
    if one.files is not None:
        about.append(counted(one.files, "file"))
    if one.size is not None:
        about.append(size_text(one.size))
    about.append(one.digest)
    line = branch.add(", ".join(about))
    if one.state is not State.AS_LOCKED:
        line.add(f"{one.state}: {one.mend}" if one.mend else one.state, style=_STYLES[one.state])


def _others(top: Branches, explanation: Explanation) -> None:
    if not explanation.others:
        return
    label = "trained with" if explanation.datasets else "datasets"
    branch = top.add(label, count_text(len(explanation.others)))
    lines = []
    for facts in explanation.others:
        used = ""
        if facts.roles is not None:
            shown = [roles for roles in facts.roles if explanation.fold in (None, roles.fold)]
            subjects = {one for roles in shown for one in (*roles.train, *roles.validation, *roles.test)}
            used = f", {counted(len(subjects), 'subject')} used" if subjects else ", not used"
        out = f", {count_text(len(facts.left_out))} left out or not scored" if facts.left_out else ""
        source = f"{facts.archive} {facts.source_id}" if facts.source_id else facts.source
        lines.append(f"{facts.id}: {source}, version {facts.version}, {facts.licence}{used}{out}")
    branch.many(lines)


def _code_state(top: Branches, explanation: Explanation) -> None:
    if explanation.head is None:
        top.add("git", "there is no commit here")
        return
    line = top.add("checked out", _commit(explanation.head))
    if explanation.lock:
        kept = "" if explanation.lock_is_committed else "; what lies here is not committed"
        line.add("dvc.lock", f"last changed in {_commit(explanation.lock)}{kept}")


def _commit(commit: Commit) -> str:
    subject = commit.subject if len(commit.subject) <= _SUBJECT else f"{commit.subject[: _SUBJECT - 1].rstrip()}…"
    return f"{commit.sha[:12]} of {commit.date[:10]} ({subject})"
