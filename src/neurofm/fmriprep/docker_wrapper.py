"""fMRIPrep through its authors' own wrapper, ``fmriprep-docker``: the same run as `fmriprep_job`, where Docker is.

The wrapper (version 25.2.7) writes a line of `docker run` and waits for it. It finds a `docker` of ours first, which
adds what the wrapper cannot pass on: limits of memory and cores, and a name, by which the container is stopped whatever
becomes of the wrapper. TemplateFlow's folder is the one in the image.
"""

from __future__ import annotations

import os
import shlex
import sys
from importlib.util import find_spec
from pathlib import Path

from neurofm.containers import Ending, Engine, Image, Job, Mount, run
from neurofm.containers.command import Caller, container_options
from neurofm.containers.run import Client
from neurofm.errors import UserError
from neurofm.fmriprep.command import arguments, limits_of, write_filters
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
_DOCKER = """#!/bin/sh
[ "$1" = run ] || exec {program} "$@"
shift
case " $* " in
*" --entrypoint=free "*) exec {program} run {options} "$@" ;;
*) exec {program} run --name {name} {options} "$@" ;;
esac
"""
"""The wrapper first runs ``free`` in the image, to see how much memory there is: two containers cannot share a name."""


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
    participant: Participant, options: FmriprepOptions, *, folders: Folders, image: Image
) -> tuple[str, ...]:
    """Return the wrapper's command line for one participant. It asks nothing.

    It would ask before it fetches an image for ``--help``, which is not said, and when the machine has less than 8 GB,
    which it does not where it finds ``--mem_mb`` in this spelling.

    Parameters
    ----------
    participant, options, folders, image
        As for `fmriprep_job`; the filter is written into the work folder by the caller.
    """
    bids, output, level, *rest = arguments(participant.label, options)
    del bids, output
    passed = ["--mem_mb" if word == "--mem-mb" else word for word in _without(rest, _OF_WRAPPER)]
    line = [sys.executable, "-m", _MODULE, str(folders.bids), str(folders.output), level]
    line += ["--image", image.run_by, "--no-tty"]
    line += ["--fs-license-file", str(folders.licence), "--work-dir", str(folders.work)]
    line += ["--bids-filter-file", str(folders.work / "bids_filters.json")] if options.bids_filters else []
    for name, value in _ENVIRONMENT.items():
        line += ["--env", name, value]
    return (*line, "--output-spaces", *options.output_spaces, *passed)


def run_fmriprep_docker(
    participant: Participant,
    options: FmriprepOptions,
    *,
    folders: Folders,
    image: Image,
    engine: Engine,
    log: Path,
) -> Ending:
    """Run one participant through the wrapper, to its end. Whatever ends this call, nothing is left at work.

    Parameters
    ----------
    participant, options, folders, image
        As for `fmriprep_job`.
    engine
        Docker's program, or podman's in its name.
    log
        Gets all that is written; made anew.

    Raises
    ------
    UserError
        As `fmriprep_job`; or if temporary files cannot be executed here.
    """
    check_folders(folders)
    for folder in (folders.output, folders.work):
        folder.mkdir(parents=True, exist_ok=True)
    if options.bids_filters:
        write_filters(folders.work, options)
    command = fmriprep_docker_command(participant, options, folders=folders, image=image)
    mounts = tuple(Mount(source=path) for path in (folders.bids, folders.output, folders.work, folders.licence))
    job = Job(image=image, command=(_MODULE,), keep_entrypoint=True, mounts=mounts, limits=limits_of(options))

    def wrapper(name: str, scratch: Path) -> Client:
        docker = _write_docker(scratch / "bin", job, engine=engine, name=name)
        path = f"{docker.parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
        # Without a buffer, what the wrapper says stands in the log before what it has run.
        return Client(command=command, environment={**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"})

    return run(job, engine=engine, log=log, through=wrapper)


def _write_docker(folder: Path, job: Job, *, engine: Engine, name: str) -> Path:
    """Write the program that the wrapper takes for docker."""
    folder.mkdir()
    docker = folder / "docker"
    options = shlex.join(container_options(job, engine=engine, caller=Caller.here()))
    docker.write_text(_DOCKER.format(program=shlex.quote(engine.program), options=options, name=name))
    docker.chmod(0o700)
    if not os.access(docker, os.X_OK):
        raise UserError(
            f"{folder.parent.parent}: nothing can be executed there, and fmriprep-docker needs it.",
            mend="name another folder in TMPDIR, or leave `fmriprep_docker` out of site.yaml",
        )
    return docker


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
