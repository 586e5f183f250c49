"""A participant's files, from the folder that an engine wrote into the dataset of derivatives: whole, or not there.

What belongs to one participant lies under their own names (``sub-01/``, ``sub-01.html``,
``sourcedata/freesurfer/sub-01/``). What every run writes anew for all (``dataset_description.json``, ``logs/``) is kept
for each in ``logs/sub-01/``, so that the one at the top can always be made again from those that succeeded.
"""

from __future__ import annotations

import filecmp
import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from neurofm.files import sync_folder, write_atomic
from neurofm.recording import Unreadable
from neurofm.units import Index, read_index

_FREESURFER = PurePosixPath("sourcedata/freesurfer")
_LOGS = "logs"
_INDEX = "files.json"
_PART = ".part"
_PEOPLE = ("participants.tsv", "participants.json")
"""Who the participants are, in raw BIDS; no engine hands it on, and ages and diagnoses are wanted later."""


def index_path(derivatives: Path, label: str) -> Path:
    """Return where the index of a participant's files is."""
    return derivatives / _LOGS / f"sub-{label}" / _INDEX


@dataclass(frozen=True, kw_only=True)
class Staged:
    """What an engine writes for one participant, before it is in its place.

    A run that is repeated goes on with what is there, so that the folders hold the unit's key: with other options or
    inputs, nothing of an earlier run may be taken for their result.
    """

    folder: Path
    """``.neurofm/derivatives/<id>``, of all participants."""
    label: str
    key: str

    @property
    def output(self) -> Path:
        """Where the engine writes."""
        return self.folder / self.name

    @property
    def name(self) -> str:
        """Of the participant and the key."""
        return f"sub-{self.label}-{self.key[:16]}"

    @property
    def log(self) -> Path:
        """What the engine said, last time."""
        return self.folder / f"sub-{self.label}.log"

    @property
    def _index(self) -> Path:
        return self.folder / f"{self.name}.json"

    def remove_others(self) -> None:
        """Remove what was begun for this participant with other keys: nobody will go on with it."""
        for path in self.folder.glob(f"sub-{self.label}-*"):
            if path.name.removesuffix(".json") != self.name:
                _remove(path)

    @property
    def is_complete(self) -> bool:
        """Whether the engine ended well, and only the moving was interrupted."""
        return read_index(self._index) is not None

    def complete(self) -> None:
        """Put the files under the names that they will have, make them durable, and write down that they are whole.

        Raises
        ------
        Unreadable
            If a file is another participant's.
        """
        for path in list(_walk(self.output)):
            _make_plain(path, inside=self.output)
        for path in list(_walk(self.output)):
            name = PurePosixPath(path.relative_to(self.output))
            if not _is_of(name, self.label) and _owner(name).startswith("sub-"):
                raise Unreadable(f"sub-{self.label}: the engine wrote {name}, which is another participant's.")
            if not _is_of(name, self.label) and not name.is_relative_to(_FREESURFER):
                kept = self.output / _LOGS / f"sub-{self.label}" / name
                kept.parent.mkdir(parents=True, exist_ok=True)
                path.replace(kept)
        names = [path.relative_to(self.output).as_posix() for path in _walk(self.output)]
        own = [one for one in names if _is_of(PurePosixPath(one), self.label)]
        for one in own:
            _sync(self.output / one)
        Index.of(own, root=self.output).write(self._index)

    def place(self, derivatives: Path) -> Index:
        """Put the files where they belong, too; whoever is interrupted goes on.

        They stay here until `remove`: what is staged can be placed again, whatever became of what was placed.

        Parameters
        ----------
        derivatives
            ``data/derivatives/<id>``. What was there of the participant before goes; their index comes last.

        Raises
        ------
        Unreadable
            If a file is whole in neither place; the engine makes it anew next time.
        """
        index = read_index(self._index)
        assert index is not None
        target = index_path(derivatives, self.label)
        target.unlink(missing_ok=True)
        wanted = {file.path for file in index.files}
        for path in list(_files_of(derivatives, self.label)):
            if path.relative_to(derivatives).as_posix() not in wanted:
                path.unlink()
        for file in index.files:
            source, there = self.output / file.path, derivatives / file.path
            if source.is_file():
                _put(source, there, label=self.label)
            elif any(Index(files=(file,)).wrong(derivatives)):
                self._index.unlink()
                raise Unreadable(f"sub-{self.label}: {file.path} was lost on its way to {derivatives}. Mend: run again")
        self._place_common(derivatives)
        for folder in {(derivatives / file.path).parent for file in index.files}:
            sync_folder(folder)
        index.write(target)
        return index

    def remove(self) -> None:
        """Remove all that was staged, the log too: the participant is in their place."""
        # The index last: whoever is interrupted in between has everything in its place, and no engine runs again.
        _remove(self.output)
        self._index.unlink(missing_ok=True)
        self.log.unlink(missing_ok=True)

    def _place_common(self, derivatives: Path) -> None:
        """Put what FreeSurfer shares among participants (``fsaverage``) there once: it is a copy out of the image."""
        for path in list(_walk(self.output / _FREESURFER)):
            there = derivatives / path.relative_to(self.output)
            if _owner(PurePosixPath(path.relative_to(self.output))).startswith("sub-"):
                continue
            if not there.is_file() or not filecmp.cmp(path, there, shallow=False):  # of an older image
                _put(path, there, label=self.label)


def merge_common(derivatives: Path, labels: Iterable[str]) -> None:
    """Make the files at the top that are common to all, from those of the first participant that has each.

    Parameters
    ----------
    derivatives
        ``data/derivatives/<id>``.
    labels
        Of those that succeeded, sorted.
    """
    done: set[str] = set()
    for label in labels:
        kept = index_path(derivatives, label).parent
        for path in _walk(kept):
            name = path.relative_to(kept).as_posix()
            if name == _INDEX or name in done:
                continue
            done.add(name)
            there, content = derivatives / name, path.read_bytes()
            if not there.is_file() or there.read_bytes() != content:
                write_atomic(there, content)


def hand_on_people(bids: Path, derivatives: Path) -> None:
    """Copy the table of participants, as it is in the raw dataset by now."""
    for name in _PEOPLE:
        source, there = bids / name, derivatives / name
        if not source.is_file():
            there.unlink(missing_ok=True)
        elif not there.is_file() or there.read_bytes() != source.read_bytes():
            write_atomic(there, source.read_bytes())


def remove_strangers(derivatives: Path, labels: Iterable[str]) -> None:
    """Remove what belongs to nobody that succeeded: a persisted output keeps what earlier runs left.

    Parameters
    ----------
    derivatives, labels
        As in `merge_common`.
    """
    wanted: set[str] = set()
    for label in labels:
        path = index_path(derivatives, label)
        index = read_index(path)
        wanted |= {file.path for file in index.files} if index else set()
        wanted.add(path.relative_to(derivatives).as_posix())
        wanted |= {found.relative_to(path.parent).as_posix() for found in _walk(path.parent) if found != path}
    for path in list(_walk(derivatives)):
        name = path.relative_to(derivatives)
        is_part = name.name.startswith(".") and name.suffix == _PART
        is_common = name.is_relative_to(_FREESURFER) and not name.parts[2].startswith("sub-") and bool(wanted)
        is_common = is_common and not is_part
        if name.as_posix() not in {*wanted, *_PEOPLE} and not is_common:
            path.unlink()
    for here, _, _ in os.walk(derivatives, topdown=False):
        if Path(here) != derivatives and not any(Path(here).iterdir()):
            Path(here).rmdir()


def _is_of(name: PurePosixPath, label: str) -> bool:
    """Whether a file is one participant's; ``sub-1`` is not ``sub-10``."""
    first, sub = _owner(name), f"sub-{label}"
    return first in {sub, f"{sub}.html"} or first.startswith(f"{sub}_")


def _owner(name: PurePosixPath) -> str:
    """Return the part of a file's path that says whose it is."""
    below = name.relative_to(_FREESURFER) if name.is_relative_to(_FREESURFER) else name
    return below.parts[1] if below.parts[0] == _LOGS and len(below.parts) > 1 else below.parts[0]


def _files_of(derivatives: Path, label: str) -> Iterator[Path]:
    """Yield what is there of one participant, without going through everybody's."""
    for folder in (derivatives, derivatives / _FREESURFER, derivatives / _LOGS):
        for path in folder.iterdir() if folder.is_dir() else ():
            if _is_of(PurePosixPath(path.relative_to(derivatives)), label):
                yield from _walk(path) if path.is_dir() else (path,)


def _walk(folder: Path) -> Iterator[Path]:
    for here, _, names in os.walk(folder):
        yield from (Path(here, name) for name in sorted(names))


def _make_plain(path: Path, *, inside: Path) -> None:
    """Put a copy of the file in the place of a link to it; a link that leads nowhere goes.

    So does one that leads out of the folder: in the container, another file was there than here. FreeSurfer links some
    surfaces to others; what is in DVC's care, and in a folder that is read as a dataset, is plain.
    """
    if not path.is_symlink():
        return
    real = path.resolve()
    path.unlink()
    if real.is_file() and real.is_relative_to(inside.resolve()):
        shutil.copyfile(real, path)


def _put(source: Path, there: Path, *, label: str) -> None:
    """Let a file be in its place too: the same one where the disk can do that, else a copy."""
    there.parent.mkdir(parents=True, exist_ok=True)
    part = there.with_name(f".{there.name}.{label}{_PART}")
    part.unlink(missing_ok=True)
    try:
        os.link(source, part)
    except OSError:
        shutil.copyfile(source, part)
        _sync(part)
    part.replace(there)
    part.unlink(missing_ok=True)  # It is still there where both were one file already.


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Remove a file or folder, read-only folders in it too."""
    if path.is_dir() and not path.is_symlink():
        for here, _, _ in os.walk(path):
            Path(here).chmod(0o700)
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
