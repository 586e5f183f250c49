"""An explanation as a tree that a person reads. Long lists are cut, unless all is asked for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from rich.text import Text
from rich.tree import Tree

from neurofm.operations.explain import Explanation
from neurofm.operations.provenance.commits import Commit
from neurofm.operations.provenance.dataset import DatasetFacts, FileFacts, Roles
from neurofm.operations.provenance.pipeline import State
from neurofm.operations.provenance.recording import RecordingFacts
from neurofm.operations.provenance.scores import Score
from neurofm.operations.provenance.stages import ArtefactFacts, StageFacts
from neurofm.operations.provenance.standing import Standing
from neurofm.operations.provenance.subject import printable
from neurofm.operations.tables import count_text, size_text

_SHOWN = 8
"""Most entries of a list that are shown."""
_SHARDS, _MANIFESTS = "data/shards", "data/manifests"
"""Folders of what several stages made: told of where they were made."""
_STYLES = {State.AS_LOCKED: "green", State.PARTIAL: "yellow", State.CHANGED: "yellow", State.MISSING: "yellow"}
_KIND_TEXT = {"subject": "by subject", "time": "by time", "train-only": "learned from only"}
_SCORE_FACTS = ("ci_low", "ci_high", "null", "n", "ci_unit", "split", "seed")


class _Branches:
    """Adds lines below a branch, with whatever other people named made harmless."""

    def __init__(self, tree: Tree, *, most: int | None) -> None:
        self.tree = tree
        self._most = most

    def add(self, label: str, text: str = "", *, style: str = "") -> _Branches:
        line = Text(printable(label), style="bold" if text else style, overflow="fold")
        if text:
            line.append(f"  {printable(text)}", style=f"not bold {style}")
        return _Branches(self.tree.add(line), most=self._most)

    def many(self, lines: Sequence[str], *, where: str = "") -> None:
        """Add a line for each, as many as are to be shown, and say how many more there are."""
        for line in lines[: self._most]:
            self.add(line)
        if self._most is not None and len(lines) > self._most:
            rest = f"and {count_text(len(lines) - self._most)} more{f' in {where}' if where else ''}: --all lists them"
            self.add(rest, style="dim")


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
    top = _Branches(Tree(title), most=None if everything else _SHOWN)
    _standing(top, explanation.kind, explanation.standing)
    _scores(top, explanation.scores)
    if explanation.recording:
        _recording(top, explanation.recording)
    for number, stage in enumerate(explanation.made_by):
        _stage(top.add("made by", stage.name), stage, code=number == 0)
    if explanation.before:
        before = top.add("before that")
        made = {out.path for stage in explanation.before for out in stage.outputs} | {_SHARDS, _MANIFESTS}
        for stage in explanation.before:
            inputs = tuple(one for one in stage.inputs if one.path not in made)
            _stage(before.add(stage.name), replace(stage, inputs=inputs), code=False)
    for dataset in explanation.datasets:
        _dataset(top, dataset, recording=explanation.recording is not None, fold=explanation.fold)
    _others(top, explanation)
    if explanation.read_by:
        top.add("read by", ", ".join(_folded(explanation.read_by)))
    _code_state(top, explanation)
    if explanation.missing:
        missing = top.add("not here", f"{count_text(len(explanation.missing))} of what was used")
        missing.many([f"{path}: {mend}" if mend else path for path, mend in explanation.missing.items()])
    return top.tree


def _standing(top: _Branches, kind: str, standing: Standing) -> None:
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


def _scores(top: _Branches, scores: Sequence[Score]) -> None:
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


def _recording(top: _Branches, one: RecordingFacts) -> None:
    branch = top.add("recording", f"{one.id}, subject {one.subject}" if one.subject else one.id)
    if one.status:
        branch.add("status", f"{one.status}: {one.reason}" if one.reason else one.status)
    if one.files:
        _files(branch.add("read from"), one.files)
    for path, digest in one.inputs.items() if not one.files else ():
        branch.add("read from", f"{path} {digest}")
    for name, digest in one.outputs.items():
        branch.add("receipt", f"{name} sha256:{digest}")
    if one.key:
        branch.add("key of inputs, settings, code and libraries", one.key)
    if one.cost:
        branch.add("worked on", f"host {one.cost['host']}, {one.cost['seconds']} s, {one.cost['peak_mb']} MiB at most")
    if one.container:
        branch.add("container", one.container)
    for step in one.steps:
        branch.add("step", f"{step['name']} (version {step['version']}){_inline(step['params'])}")
    if one.libraries:
        branch.add("libraries", ", ".join(f"{name} {version}" for name, version in sorted(one.libraries.items())))
    for fold, roles in one.roles.items():
        branch.add(fold, ", ".join(roles))


def _stage(branch: _Branches, stage: StageFacts, *, code: bool) -> None:
    branch.add("command", stage.command)
    changed = [one for one in stage.code if one.state is not State.AS_LOCKED]
    commit = _commit(stage.commit) if stage.commit else "no commit is known"
    line = branch.add("code", f"{_parts(stage.code)}, last changed in {commit}")
    for one in stage.code if code else changed:
        _artefact(line, one)
    if stage.uncommitted:
        line.add(f"not as committed: {', '.join(_folded(stage.uncommitted))}", style="yellow")
    if stage.params:
        params = branch.add("settings")
        for name, value in stage.params.items():
            params.add(name, _value(value))
    for label, group in (("read", stage.inputs), ("wrote", stage.outputs)):
        if group:
            below = branch.add(label)
            for one in group:
                _artefact(below, one)


def _parts(code: Sequence[ArtefactFacts]) -> str:
    changed = sum(one.state is not State.AS_LOCKED for one in code)
    count = sum(one.files or 1 for one in code)
    return f"{_counted(count, 'file')}, {f'{changed} of its parts changed since' if changed else 'all as locked'}"


def _artefact(branch: _Branches, one: ArtefactFacts) -> None:
    about = [one.path]
    if one.files is not None:
        about.append(_counted(one.files, "file"))
    if one.size is not None:
        about.append(size_text(one.size))
    about.append(one.digest)
    line = branch.add(", ".join(about))
    if one.state is not State.AS_LOCKED:
        line.add(f"{one.state}: {one.mend}" if one.mend else one.state, style=_STYLES[one.state])


def _dataset(top: _Branches, facts: DatasetFacts, *, recording: bool, fold: int | None) -> None:
    branch = top.add("dataset", f"{facts.id}: {facts.title}")
    branch.add("archive", f"{facts.source}, version {facts.version}")
    kept = "" if facts.redistribute else " (raw files may not be passed on)"
    branch.add("licence", f"{facts.licence}{kept} {facts.licence_url}".rstrip())
    branch.add("citation", f"{facts.citation}{f' doi:{facts.doi}' if facts.doi else ''}")
    if facts.chosen:
        branch.add("chosen", _value(facts.chosen))
    if facts.files is None:
        branch.add(f"files: its manifest is not here: dvc pull data/manifests/{facts.id}.json", style="yellow")
    elif not recording:
        size = size_text(sum(file.size for file in facts.files))
        _files(branch.add("files", f"{count_text(len(facts.files))}, {size}"), facts.files)
    if facts.recordings is not None:
        ended = ", ".join(f"{count_text(count)} {status}" for status, count in facts.statuses.items())
        branch.add("recordings", f"{count_text(len(facts.recordings))}{f': {ended}' if ended else ''}")
    if facts.hosts:
        branch.add("hosts", ", ".join(_folded(facts.hosts)))
    if facts.containers:
        branch.add("containers", ", ".join(facts.containers))
    if facts.left_out:
        out = branch.add("left out, or not scored", count_text(len(facts.left_out)))
        out.many([f"{one.recording}: {one.consequence}: {one.reason}" for one in facts.left_out])
    else:
        branch.add("left out", "nothing")
    if facts.roles is None:
        branch.add("the split is not here: dvc pull data/splits.json", style="yellow")
    for roles in facts.roles or ():
        if fold in (None, roles.fold):
            _roles(branch, roles)
    if facts.roles == ():
        branch.add("used in no fold")


def _roles(branch: _Branches, roles: Roles) -> None:
    line = branch.add(f"fold {roles.fold}", _KIND_TEXT[roles.kind])
    for label, subjects in (("trained on", roles.train), ("chosen on", roles.validation), ("scored on", roles.test)):
        if subjects:
            below = line.add(label, f"{count_text(len(subjects))}: {', '.join(_folded(subjects))}")
            if label == "scored on" and roles.kind == "time":
                below.add("at times that were not learned from")


def _files(branch: _Branches, files: Sequence[FileFacts]) -> None:
    branch.many(
        [
            f"{file.path}, {size_text(file.size)}, {file.digest}, from {file.origin}"
            + (f" (version {file.version_id})" if file.version_id else "")
            for file in files
        ]
    )


def _others(top: _Branches, explanation: Explanation) -> None:
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
            used = f", {_counted(len(subjects), 'subject')} used" if subjects else ", not used"
        out = f", {count_text(len(facts.left_out))} left out or not scored" if facts.left_out else ""
        source = f"{facts.archive} {facts.source_id}" if facts.source_id else facts.source
        lines.append(f"{facts.id}: {source}, version {facts.version}, {facts.licence}{used}{out}")
    branch.many(lines)


def _code_state(top: _Branches, explanation: Explanation) -> None:
    if explanation.head is None:
        top.add("git", "there is no commit here")
        return
    line = top.add("checked out", _commit(explanation.head))
    if explanation.lock:
        kept = "" if explanation.lock_is_committed else "; what lies here is not committed"
        line.add("dvc.lock", f"last changed in {_commit(explanation.lock)}{kept}")


def _commit(commit: Commit) -> str:
    subject = commit.subject if len(commit.subject) <= 60 else f"{commit.subject[:59].rstrip()}…"
    return f"{commit.sha[:12]} of {commit.date[:10]} ({subject})"


def _counted(count: int, noun: str) -> str:
    return f"{count_text(count)} {noun}{'' if count == 1 else 's'}"


def _folded(names: Iterable[str]) -> list[str]:
    known = list(names)
    return known if len(known) <= _SHOWN else [*known[:_SHOWN], f"and {count_text(len(known) - _SHOWN)} more"]


def _inline(params: Mapping[str, Any]) -> str:
    return f": {_value(params)}" if params else ""


def _value(value: Any) -> str:
    """Write a setting in one line."""
    if isinstance(value, Mapping):
        return ", ".join(
            f"{name} {{{_value(one)}}}" if isinstance(one, Mapping) else f"{name} {_value(one)}"
            for name, one in value.items()
        )
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_value, value))}]"
    return str(value)
