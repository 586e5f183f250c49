"""The folders and the licence that a run of fMRIPrep needs: looked at before it starts."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError
from neurofm.fmriprep.options import FmriprepOptions
from neurofm.templates import templates_folder

LICENCE = "FS_LICENSE"
_SCRATCH = ("SLURM_TMPDIR", "TMPDIR")
"""Variables of the environment that name node-local disk, in this order."""
_SHARED = frozenset({"nfs", "nfs4", "cifs", "smb3", "lustre", "gpfs", "beegfs", "ceph", "afs", "9p", "fuse.sshfs"})
"""File systems that many machines share: fMRIPrep writes tens of thousands of small files into its work folder."""
_LICENCE_LINES = 3
_LICENCE_BYTES = 4096
_MOUNT_POINT, _AFTER_DASH = 4, " - "


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where a run finds and leaves things, on this machine; all paths are absolute."""

    bids: Path
    output: Path
    """One for each participant: FreeSurfer's folder in it is written by one run at a time."""
    work: Path
    """On node-local disk: 60 to 100 GB for a participant."""
    licence: Path
    templates: Path
    """TemplateFlow's."""


@dataclass(frozen=True, kw_only=True)
class Inside:
    """Where the container sees them."""

    bids: Path = Path("/data")
    output: Path = Path("/out")
    work: Path = Path("/scratch")
    licence: Path = Path("/license.txt")
    templates: Path = Path("/templateflow")
    filters: Path = Path("/bids_filters.json")
    derivatives: Path = Path("/derivatives")
    """In it, one folder for each name."""


def find_licence(environment: Mapping[str, str] = os.environ) -> Path:
    """Return FreeSurfer's licence: the file that `FS_LICENSE` names. What is in it is never shown.

    Raises
    ------
    UserError
        If it is not named, not there, no licence, or tracked by git.
    """
    get = "register at https://surfer.nmr.mgh.harvard.edu/registration.html (free) and name the file in FS_LICENSE"
    named = environment.get(LICENCE, "")
    if not named:
        raise UserError(f"FreeSurfer's licence: {LICENCE} is not set, and fMRIPrep needs it.", mend=get)
    path = Path(named).expanduser().absolute()
    try:
        with path.open("rb") as file:
            lines = file.read(_LICENCE_BYTES).split(b"\n")
    except OSError as error:
        if "@" in named and len(named.split()) >= _LICENCE_LINES:
            # As systems of continuous integration keep secrets. No message may show it.
            raise UserError(
                f"FreeSurfer's licence: {LICENCE} holds its text, and should hold the name of a file.",
                mend="write the text into a file outside the repository, and name that file",
            ) from None
        raise UserError(f"FreeSurfer's licence: {path} ({LICENCE}): {error.strerror}.", mend=get) from None
    # Its first line is an address, then a number and codes: whatever else is named by mistake has no such lines.
    if b"@" not in lines[0] or sum(bool(line.strip()) for line in lines) < _LICENCE_LINES:
        raise UserError(f"FreeSurfer's licence: {path} ({LICENCE}) is none.", mend=get)
    if _is_tracked(path):
        raise UserError(
            f"FreeSurfer's licence: {path} is tracked by git, and it is personal.",
            mend="take it out (`git rm --cached`), and keep it outside the repository",
        )
    return path


def find_work(*, name: str, environment: Mapping[str, str] = os.environ) -> Path:
    """Return where a run's intermediate files go: a folder of this name on node-local disk.

    Parameters
    ----------
    name
        Of the run; a run that is repeated goes on with what is there.
    environment
        `SLURM_TMPDIR` and `TMPDIR` are looked at; without them, ``/tmp`` is taken.

    Raises
    ------
    UserError
        If that is a file system that other machines share.
    """
    named = next((environment[one] for one in _SCRATCH if environment.get(one)), "/tmp")  # noqa: S108  # see above
    # Of this user: in /tmp, the first one's folder is closed to everybody else.
    folder = Path(named).absolute() / f"neurofm-fmriprep-{os.getuid()}" / name
    kind = file_system(folder)
    if kind in _SHARED:
        raise UserError(
            f"{folder}: fMRIPrep's work folder would lie on {kind}, which other machines share.",
            mend="name a folder on this machine's own disk in TMPDIR",
        )
    return folder


def find_templates(options: FmriprepOptions, *, environment: Mapping[str, str] = os.environ) -> Path:
    """Return TemplateFlow's folder, with every template that a run needs.

    Raises
    ------
    UserError
        If one is not there and the run may not fetch it, with the command that does.
    """
    folder = templates_folder(environment)
    lacking = [name for name in templates_for(options) if not _has_files(folder / f"tpl-{name}")]
    if lacking and not options.fetch_templates:
        command = f"TEMPLATEFLOW_HOME={folder} uvx templateflow get {{}}"
        raise UserError(
            f"{folder}: TemplateFlow's templates {', '.join(lacking)} are not there, and the run has no network.",
            mend=f"fetch them where there is one: `{' && '.join(command.format(name) for name in lacking)}`, or set "
            "`fetch_templates: true`",
        )
    return folder


def templates_for(options: FmriprepOptions) -> tuple[str, ...]:
    """Return the templates that a run reads, sorted: those of its spaces, and fMRIPrep's own."""
    names = {space.template for space in options.spaces if space.template} | {"MNI152NLin2009cAsym", "OASIS30ANTs"}
    if not options.fs_no_reconall:
        names |= {"fsaverage", "fsLR"}
    if options.cifti_output:
        names |= {"MNI152NLin6Asym"}
    return tuple(sorted(names))


def check_folders(folders: Folders) -> None:
    """Make sure that fMRIPrep may write where it is to write, and nowhere else.

    Raises
    ------
    UserError
        If an output or work folder lies in the BIDS folder or in the other, or one is the BIDS folder.
    """
    output, work, bids = (path.resolve() for path in (folders.output, folders.work, folders.bids))
    for what, path, other in (
        ("output", output, bids),
        ("work", work, bids),
        ("work", work, output),
        ("output", output, work),
    ):
        # Derivatives are usually kept in the BIDS folder; mounted over it, they are writable and it is not.
        derived = what == "output" and path.is_relative_to(bids / "derivatives") and path != bids / "derivatives"
        if path.is_relative_to(other) and not derived:
            raise UserError(f"the {what} folder {path} lies in {other}.", mend="choose one beside it")


def file_system(path: Path) -> str:
    """Return the kind of file system that a path lies on, or will lie on: ``ext4``, ``nfs4``...; empty if unknown."""
    real = path.resolve()
    best, kind = -1, ""
    try:
        mounts = Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    for line in mounts:
        before, _, after = line.partition(_AFTER_DASH)
        point = Path(before.split()[_MOUNT_POINT].replace("\\040", " "))
        # Later mounts lie over earlier ones.
        if real.is_relative_to(point) and len(point.parts) >= best:
            best, kind = len(point.parts), after.split()[0]
    return kind


def _has_files(folder: Path) -> bool:
    """Whether a template was fetched: TemplateFlow's skeleton has all names, with nothing in them."""
    return any(path.stat().st_size > 0 for path in folder.glob("**/*.gii")) or any(
        path.stat().st_size > 0 for path in folder.glob("**/*.nii.gz")
    )


def _is_tracked(path: Path) -> bool:
    git = shutil.which("git")
    if git is None:
        return False
    command = [git, "-C", str(path.parent), "ls-files", "--error-unmatch", "--", path.name]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0  # noqa: S603  # git itself
