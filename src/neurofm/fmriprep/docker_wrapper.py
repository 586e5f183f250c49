"""fMRIPrep through its authors' own wrapper, ``fmriprep-docker``: the same run as `fmriprep_job`, where Docker is.

The wrapper (version 25.2.7) writes a line of `docker run` and waits for it. What it cannot pass on is not there: limits
of memory and cores, a name by which the container could be stopped, TemplateFlow's folder (the image has its own).
"""

from __future__ import annotations

import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

from neurofm.containers import Ending, Image
from neurofm.containers.command import Caller
from neurofm.containers.ending import code_of, reason_of
from neurofm.errors import UserError
from neurofm.fmriprep.command import arguments, write_filters
from neurofm.fmriprep.folders import Folders, check_folders
from neurofm.fmriprep.options import FmriprepOptions
from neurofm.fmriprep.participants import Participant

_MODULE = "fmriprep_docker"
_KNOWN = frozenset(
    {
        *("MNI152Lin", "MNI152NLin2009cAsym", "MNI152NLin6Asym", "MNI152NLin6Sym", "MNIInfant", "MNIPediatricAsym"),
        *("NKI", "OASIS30ANTs", "PNC", "UNCInfant", "fsLR", "fsaverage", "fsaverage5", "fsaverage6"),
        *("anat", "T1w", "run", "func", "sbref", "fsnative"),
    }
)
"""Output spaces by their first part; the wrapper takes any other for a folder of a template of one's own."""
_OF_WRAPPER = {"--fs-license-file": 1, "--work-dir": 1, "--bids-filter-file": 1, "--output-spaces": 0}
"""Arguments of fMRIPrep's that name what is mounted, with how many words follow; 0 for all up to the next argument.
The wrapper has its own of these names, and writes them anew for the inside."""
_ENVIRONMENT = {
    "HOME": "/tmp",  # noqa: S108  # of the container: one that can be written, whoever runs it
    "TEMPLATEFLOW_HOME": "/home/fmriprep/.cache/templateflow",
    "TEMPLATEFLOW_AUTOUPDATE": "off",
}
"""The templates are those of the image, where the wrapper has them."""
_LAST_BYTES = 4096


def require_fmriprep_docker(options: FmriprepOptions) -> None:
    """Make sure that the wrapper is here, and can do what is wanted.

    Raises
    ------
    UserError
        If it is not installed, or cannot pass an option on.
    """
    if find_spec(_MODULE) is None:
        raise UserError(
            "fmriprep-docker is not installed.", mend="make env, or leave `fmriprep_docker` out of site.yaml"
        )
    problems = {
        "`fetch_templates`: the image's templates would be written to, and are thrown away": options.fetch_templates,
        "`derivatives`: fmriprep-docker 25.2.7 loses their names": bool(options.derivatives),
    } | {
        f"the output space {text!r}: it is taken for a folder": text.partition(":")[0] not in _KNOWN
        for text in options.output_spaces
    }
    for problem, holds in problems.items():
        if holds:
            raise UserError(
                f"fmriprep-docker cannot do this: {problem}.", mend="leave `fmriprep_docker` out of site.yaml"
            )


def fmriprep_docker_command(
    participant: Participant,
    options: FmriprepOptions,
    *,
    folders: Folders,
    image: str,
    caller: Caller,
) -> tuple[str, ...]:
    """Return the wrapper's command line for one participant. It asks nothing.

    It would ask before it fetches an image for ``--help``, which is not said, and when the machine has less than 8 GB,
    which it does not where it finds ``--mem_mb`` in this spelling.

    Parameters
    ----------
    participant, options, folders
        As for `fmriprep_job`; the filter is written into the work folder by the caller.
    image
        Repository and digest, or id: what ``docker run`` is told.
    caller
        Whom the outputs belong to.
    """
    bids, output, level, *rest = arguments(participant.label, options)
    del bids, output
    passed = ["--mem_mb" if word == "--mem-mb" else word for word in _without(rest, _OF_WRAPPER)]
    line = [sys.executable, "-m", _MODULE, str(folders.bids), str(folders.output), level]
    line += ["--image", image, "--user", f"{caller.uid}:{caller.gid}", "--network", "none", "--no-tty"]
    line += ["--fs-license-file", str(folders.licence), "--work-dir", str(folders.work)]
    line += ["--bids-filter-file", str(folders.work / "bids_filters.json")] if options.bids_filters else []
    for name, value in _ENVIRONMENT.items():
        line += ["--env", name, value]
    return (*line, "--output-spaces", *options.output_spaces, *passed)


def run_fmriprep_docker(
    participant: Participant, options: FmriprepOptions, *, folders: Folders, image: Image, address: str, log: Path
) -> Ending:
    """Run one participant through the wrapper, to its end.

    A wrapper that is killed leaves its container at work, unlike `neurofm.containers.run`.

    Parameters
    ----------
    participant, options, folders
        As for `fmriprep_job`.
    image, address
        What was found and verified, and how ``docker run`` is told of it.
    log
        Gets all that is written; made anew.
    """
    check_folders(folders)
    for folder in (folders.output, folders.work):
        folder.mkdir(parents=True, exist_ok=True)
    if options.bids_filters:
        write_filters(folders.work, options)
    command = fmriprep_docker_command(participant, options, folders=folders, image=address, caller=Caller.here())
    started = time.monotonic()
    with log.open("wb") as file:
        done = subprocess.run(  # noqa: S603  # the line above
            command, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT, check=False
        )
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LAST_BYTES))
        last = file.read().decode(errors="replace")
    code = code_of(done.returncode, last)
    return Ending(
        code=code,
        reason=reason_of(code, program=_MODULE, last=last, out_of_memory=False, memory_gb=None),
        seconds=round(time.monotonic() - started, 3),
        image=image.digest,
        log=log,
        container="",
    )


def _without(words: list[str], flags: dict[str, int]) -> list[str]:
    """Leave out arguments with what follows them."""
    kept: list[str] = []
    dropping = -1
    for word in words:
        if word.startswith("--"):
            dropping = {0: 10**6}.get(flags[word], flags[word]) if word in flags else 0
            if word in flags:
                continue
        elif dropping > 0:
            dropping -= 1
            continue
        kept.append(word)
    return kept
