"""How a dataset's files make recordings: the catalogue's rule applied to a list of paths."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from neurofm.catalog import RecordingRule
from neurofm.errors import UserError
from neurofm.recording import ManifestRecording

_SHORT = {"subject": "sub", "session": "ses"}
_SAFE_LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]*")
_SHOWN_PATHS = 3


@dataclass(frozen=True, kw_only=True)
class _Found:
    """One main file and what its path says of the recording."""

    path: str
    labels: Mapping[str, str]

    @property
    def id(self) -> str:
        """BIDS-like name, such as ``sub-A2929_ses-200711``."""
        return "_".join(f"{_SHORT.get(name, name)}-{label}" for name, label in self.labels.items())


def recordings_of(
    paths: Sequence[str], rule: RecordingRule, *, namespace: str, where: str
) -> tuple[ManifestRecording, ...]:
    """Group a dataset's files into recordings.

    Parameters
    ----------
    paths
        Every file of the dataset, relative to its root.
    rule
        The catalogue's ``recordings``.
    namespace
        Who numbered the subjects; ``subject`` of a recording is ``<namespace>:<label>``.
    where
        The catalogue file, for errors.

    Returns
    -------
    tuple of ManifestRecording
        In the order of their ids.

    Raises
    ------
    UserError
        If nothing matches, a label is not fit for a file name, a recording has no subject, two files make the same
        recording, or a file that a role names is not there.
    """
    found = _main_files(paths, rule, where=where)
    known = frozenset(paths)
    side_files = _SideFiles(paths, rule.extra)
    recordings = []
    for main in found:
        files = {"main": main.path} | {
            role: _role_file(role, template, main, known=known, where=where) for role, template in rule.roles.items()
        }
        recordings.append(
            ManifestRecording(
                id=main.id,
                subject=f"{namespace}:{_respelt(main.labels['subject'], rule)}",
                session=main.labels.get("session", ""),
                run=main.labels.get("run", ""),
                task=main.labels.get("task", ""),
                files=files,
                extra=side_files.of(main.labels, but=frozenset(files.values())),
            )
        )
    return tuple(recordings)


def _main_files(paths: Sequence[str], rule: RecordingRule, *, where: str) -> list[_Found]:
    by_id: dict[str, _Found] = {}
    for path in sorted(paths):
        match = re.fullmatch(rule.pattern, path)
        if match is None:
            continue
        main = _Found(path=path, labels=_labels(match, rule, path=path, where=where))
        if main.id in by_id:
            raise UserError(
                f"{where}: `recordings.pattern` makes one recording, {main.id}, of two files: "
                f"{by_id[main.id].path} and {path}.",
                mend="narrow the pattern to one of them, or add a named group that tells them apart, as (?P<run>..)",
            )
        by_id[main.id] = main
    if not by_id:
        seen = ", ".join(sorted(paths)[:_SHOWN_PATHS]) or "none"
        raise UserError(
            f"{where}: `recordings.pattern` {rule.pattern!r} matches none of the {len(paths)} files (seen: {seen}).",
            mend="correct the pattern: it must match a main file's whole path, relative to the dataset's root",
        )
    return [by_id[name] for name in sorted(by_id)]


def _respelt(label: str, rule: RecordingRule) -> str:
    """Put in what stands for each text: the longest first, and numbers whole, so that `mouse1` is not in `mouse12`."""
    if not rule.respell:
        return label
    texts = [
        ("(?<![0-9])" if text[:1].isdigit() else "") + re.escape(text) + ("(?![0-9])" if text[-1:].isdigit() else "")
        for text in sorted(rule.respell, key=len, reverse=True)
    ]
    return re.sub("|".join(texts), lambda found: rule.respell[found[0]], label)


def _labels(match: re.Match[str], rule: RecordingRule, *, path: str, where: str) -> dict[str, str]:
    """Return the labels of one path, in the order in which they stand in the recording's id."""
    stated = {"subject": rule.subject, "session": rule.session, "task": rule.task}
    in_path = {name: label for name, label in match.groupdict().items() if label}
    labels = {name: in_path.pop(name, label) for name, label in stated.items()} | in_path
    labels = {name: label for name, label in labels.items() if label}
    if "subject" not in labels:
        raise UserError(
            f"{where}: no subject for {path}.",
            mend="name a group (?P<subject>..) in `recordings.pattern`, or state `recordings.subject`",
        )
    for name, label in labels.items():
        if not _SAFE_LABEL.fullmatch(label):
            raise UserError(
                f"{where}: the {name} {label!r} of {path} is not fit for a file name.",
                mend=f"let the group (?P<{name}>..) match letters, digits and _ . + - only, beginning with one of the "
                "first two, or rename the file",
            )
    return labels


def _role_file(role: str, template: str, main: _Found, *, known: frozenset[str], where: str) -> str:
    try:
        path = template.format_map(main.labels)
    except (KeyError, ValueError, IndexError, AttributeError):
        raise UserError(
            f"{where}: `recordings.roles.{role}`: {template!r} cannot be filled in for {main.path}.",
            mend=f"use the names in braces that its path has: {', '.join(main.labels)}",
        ) from None
    if path not in known:
        raise UserError(
            f"{where}: `recordings.roles.{role}`: {main.path} needs {path}, which is not among the dataset's files.",
            mend="correct the template, or add the file",
        )
    return path


class _SideFiles:
    """Side files by the labels that their paths carry: each path is matched once, however many recordings there are."""

    def __init__(self, paths: Sequence[str], pattern: str) -> None:
        self._by_labels: dict[tuple[str, ...], dict[tuple[str, ...], list[str]]] = {}
        compiled = re.compile(pattern)
        for path in paths if pattern else ():
            match = compiled.fullmatch(path)
            if match is not None:
                labels = {name: value for name, value in match.groupdict().items() if value is not None}
                with_names = self._by_labels.setdefault(tuple(labels), {})
                with_names.setdefault(tuple(labels.values()), []).append(path)

    def of(self, labels: Mapping[str, str], *, but: frozenset[str]) -> tuple[str, ...]:
        """Return the side files of one recording: those whose named groups, where they match, agree with its labels."""
        found = {
            path
            for names, with_names in self._by_labels.items()
            for path in with_names.get(tuple(labels.get(name, "") for name in names), ())
        }
        return tuple(sorted(found - but))
