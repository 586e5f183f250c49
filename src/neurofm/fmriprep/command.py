"""fMRIPrep's command line for one participant, and the container that runs it."""

from __future__ import annotations

import json
import os
from pathlib import Path

from neurofm.containers import Image, Job, Limits, Mount
from neurofm.files import write_json
from neurofm.fmriprep.folders import Folders, Inside, check_folders
from neurofm.fmriprep.options import FmriprepOptions
from neurofm.fmriprep.participants import Participant
from neurofm.templates import TEMPLATEFLOW_HOME

IMAGE = "fmriprep"
"""In ``containers/images.yaml``."""
_MEMORY_MARGIN = 1.2
"""fMRIPrep plans with `mem_mb` and overshoots it."""
_MB, _GB = 10**6, 2**30
_GRACE_S = 30.0
_INSIDE = Inside()


def arguments(participant: str, options: FmriprepOptions, *, inside: Inside = _INSIDE) -> tuple[str, ...]:
    """Return fMRIPrep's arguments for one participant, as its version 25.2 reads them.

    Parameters
    ----------
    participant
        Label, without ``sub-``.
    options
        What is wanted.
    inside
        Where the container sees the folders.
    """
    line = [str(inside.bids), str(inside.output), "participant", "--participant-label", participant]
    line += ["--fs-license-file", str(inside.licence), "--work-dir", str(inside.work)]
    line += ["--level", "full"]
    # What is checked here is said in our words; the validator is another program, and nothing is sent home.
    line += ["--skip-bids-validation", "--notrack", "--stop-on-first-crash"]
    line += ["--output-spaces", *options.output_spaces]
    values = {
        "--cifti-output": options.cifti_output,
        "--task-id": options.task,
        "--dummy-scans": options.dummy_scans,
        "--bids-filter-file": inside.filters if options.bids_filters else None,
        "--nthreads": options.nthreads,
        "--omp-nthreads": options.omp_nthreads,
        "--mem-mb": options.mem_mb,
        "--random-seed": options.random_seed,
    }
    for flag, value in values.items():
        line += [flag, str(value)] if value is not None else []
    line += ["--skull-strip-fixed-seed"]
    line += ["--fs-no-reconall"] if options.fs_no_reconall else []
    line += ["--low-mem"] if options.low_mem else []
    line += ["--session-label", *options.sessions] if options.sessions else []
    line += ["--ignore", *options.ignore] if options.ignore else []
    named = [f"{name}={inside.derivatives / name}" for name in sorted(options.derivatives)]
    line += ["--derivatives", *named] if named else []
    return (*line, *options.extra)


def fmriprep_job(
    participant: Participant,
    options: FmriprepOptions,
    *,
    folders: Folders,
    image: Image,
    seconds: float | None = None,
) -> Job:
    """Return the container that processes one participant; its folders are made, and the filter written.

    Inputs, licence and derivatives are read-only. There is no network, unless templates may be fetched. Files belong to
    the caller, as in every container of ours.

    Parameters
    ----------
    participant
        One without a problem.
    options, folders
        What is wanted, and where; the licence and templates have been looked at (`find_licence`, `find_templates`).
    image
        `find_image(IMAGE, ...)`.
    seconds
        After which it is stopped; None for never.

    Raises
    ------
    UserError
        If folders lie in each other, or cannot be mounted.
    """
    check_folders(folders)
    inside = _INSIDE
    written = [folders.output, folders.work, *([folders.templates] if options.fetch_templates else [])]
    for folder in written:
        folder.mkdir(parents=True, exist_ok=True)
    mounts = [
        Mount(source=folders.bids, target=inside.bids),
        Mount(source=folders.output, target=inside.output, writable=True),
        Mount(source=folders.work, target=inside.work, writable=True),
        Mount(source=folders.licence, target=inside.licence),
        Mount(source=folders.templates, target=inside.templates, writable=options.fetch_templates),
        *(
            Mount(source=path.absolute(), target=inside.derivatives / name)
            for name, path in sorted(options.derivatives.items())
        ),
    ]
    if options.bids_filters:
        mounts.append(Mount(source=write_filters(folders.work, options), target=inside.filters))
    # A home that can be written, whoever runs it; it goes with the container.
    environment = {"HOME": "/tmp", TEMPLATEFLOW_HOME: str(inside.templates)}  # noqa: S108  # of the container
    if not options.fetch_templates:
        environment["TEMPLATEFLOW_AUTOUPDATE"] = "off"  # TemplateFlow would renew its skeleton there.
    return Job(
        image=image,
        command=arguments(participant.label, options),
        keep_entrypoint=True,
        mounts=tuple(mounts),
        environment=environment,
        workdir=inside.work,
        limits=limits_of(options, seconds=seconds),
        network=options.fetch_templates,
    )


def limits_of(options: FmriprepOptions, *, seconds: float | None = None) -> Limits:
    """Return what the container of one participant may take."""
    return Limits(
        memory_gb=round(options.mem_mb * _MB * _MEMORY_MARGIN / _GB, 3),
        # Docker refuses more cores than there are.
        cpus=min(options.nthreads, os.cpu_count() or options.nthreads),
        seconds=seconds,
        grace_s=_GRACE_S,
    )


def write_filters(work: Path, options: FmriprepOptions) -> Path:
    """Write the BIDS filter as fMRIPrep reads it, and return where."""
    path = work / "bids_filters.json"
    write_json(path, json.loads(options.model_dump_json())["bids_filters"])
    return path
