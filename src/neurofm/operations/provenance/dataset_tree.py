"""One dataset, one recording and their files, as branches."""

from __future__ import annotations

from collections.abc import Sequence

from neurofm.operations.provenance.branches import Branches, folded, value_text
from neurofm.operations.provenance.dataset import DatasetFacts, FileFacts, Roles
from neurofm.operations.provenance.recording import RecordingFacts
from neurofm.operations.tables import count_text, counted, size_text

_KIND_TEXT = {
    "subject": "by subject",
    "session": "by session",
    "time": "by time",
    "train-only": "learned from only",
}


def add_recording(top: Branches, one: RecordingFacts) -> None:
    """Add what is known of a recording."""
    branch = top.add("recording", f"{one.id}, subject {one.subject}" if one.subject else one.id)
    branch.fact("status", f"{one.status}: {one.reason}" if one.reason else one.status)
    if one.files:
        add_files(branch.add("read from"), one.files)
    else:
        branch.fact("read from", ", ".join(f"{path} {digest}" for path, digest in one.inputs.items()))
    branch.fact("receipt", ", ".join(f"{name} sha256:{digest}" for name, digest in one.outputs.items()))
    branch.fact("key of inputs, settings, code and libraries", one.key)
    if one.cost:
        branch.add("worked on", f"host {one.cost['host']}, {one.cost['seconds']} s, {one.cost['peak_mb']} MiB at most")
    branch.fact("container", one.container)
    for step in one.steps:
        params = f": {value_text(step['params'])}" if step["params"] else ""
        branch.add("step", f"{step['name']} (version {step['version']}){params}")
    branch.fact("libraries", ", ".join(f"{name} {version}" for name, version in sorted(one.libraries.items())))
    for fold, roles in one.roles.items():
        branch.add(fold, ", ".join(roles))


def add_dataset(top: Branches, facts: DatasetFacts, *, files: bool, fold: int | None) -> None:
    """Add what is known of a dataset.

    Parameters
    ----------
    top
        Where to add it.
    facts
        What is known.
    files
        Whether to list its files.
    fold
        The only fold of interest; None for all.
    """
    branch = top.add("dataset", f"{facts.id}: {facts.title}")
    branch.add("archive", f"{facts.source}, version {facts.version}")
    kept = "" if facts.redistribute else " (raw files may not be passed on)"
    branch.add("licence", f"{facts.licence}{kept} {facts.licence_url}".rstrip())
    branch.add("citation", f"{facts.citation}{f' doi:{facts.doi}' if facts.doi else ''}")
    branch.fact("chosen", value_text(facts.chosen))
    if facts.files is None:
        branch.add(f"files: its manifest is not here: dvc pull data/manifests/{facts.id}.json", style="yellow")
    elif files:
        size = size_text(sum(file.size for file in facts.files))
        add_files(branch.add("files", f"{count_text(len(facts.files))}, {size}"), facts.files)
    _recordings(branch, facts)
    if facts.roles is None:
        branch.add("the split is not here: dvc pull data/splits.json", style="yellow")
    elif not facts.roles:
        branch.add("used in no fold")
    for roles in facts.roles or ():
        if fold in (None, roles.fold):
            _roles(branch, roles)


def add_files(branch: Branches, files: Sequence[FileFacts]) -> None:
    """Add files as the archive has them."""
    branch.many(
        [
            f"{file.path}, {size_text(file.size)}, {file.digest}, from {file.origin}"
            + (f" (version {file.version_id})" if file.version_id else "")
            for file in files
        ]
    )


def _recordings(branch: Branches, facts: DatasetFacts) -> None:
    if facts.recordings is not None:
        ended = ", ".join(f"{count_text(count)} {status}" for status, count in facts.statuses.items())
        branch.add("recordings", f"{count_text(len(facts.recordings))}{f': {ended}' if ended else ''}")
    branch.fact("hosts", folded(facts.hosts))
    branch.fact("containers", folded(facts.containers))
    if facts.left_out:
        out = branch.add("left out, or not scored", counted(len(facts.left_out), "recording"))
        out.many([f"{one.recording}: {one.consequence}: {one.reason}" for one in facts.left_out])
    else:
        branch.add("left out", "nothing")


def _roles(branch: Branches, roles: Roles) -> None:
    line = branch.add(f"fold {roles.fold}", _KIND_TEXT[roles.kind])
    for label, subjects in (("trained on", roles.train), ("chosen on", roles.validation), ("scored on", roles.test)):
        if subjects:
            below = line.add(label, f"{count_text(len(subjects))}: {folded(subjects, most=branch.most)}")
            if label == "scored on" and roles.kind == "time":
                below.add("at times that were not learned from")
