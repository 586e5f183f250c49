"""Engines of preprocessing: one table says how each is asked what it needs, what its results depend on, and to run."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

from neurofm.containers import find_engine, find_image, run
from neurofm.containers.pins import pin_of
from neurofm.derivatives.settings import DerivativesSettings
from neurofm.derivatives.task import ParticipantTask, Surroundings
from neurofm.environments import python_of
from neurofm.errors import UserError
from neurofm.files import sha256_of
from neurofm.fmriprep import FmriprepOptions, Folders, arguments, crash_files, fmriprep_job, judge
from neurofm.fmriprep.docker_wrapper import require_fmriprep_docker, run_fmriprep_docker
from neurofm.fmriprep.folders import LICENCE, TEMPLATES, find_licence, find_templates, find_work
from neurofm.light import write_description
from neurofm.recording import Unreadable
from neurofm.units import code_digest

_VERSION = 1
"""Of what is kept of fMRIPrep's outputs."""
_RESOURCES = {"nthreads": 1, "omp_nthreads": 1, "mem_mb": 28000, "low_mem": False, "fetch_templates": False}
"""Options that say what a run may take: no result is another one for them, up to the last bits of sums."""
_UNVERIFIED = "unverified:"
_WORK = Path(".neurofm")
_LIGHT_ENVIRONMENT = "antspyx"
_LIGHT_LIBRARIES = ("nibabel", "nilearn", "numpy", "scipy")


class _Require(Protocol):
    def __call__(self, settings: DerivativesSettings, here: Surroundings, *, runs_here: bool) -> None:
        """Raise a `UserError` for what is lacking; where participants run elsewhere, only what all machines share."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """What the stage asks of an engine."""

    process: Callable[[ParticipantTask], None]
    """Fills ``task.staged.output``; raises `Unreadable` or `MemoryError` if it could not."""
    require: _Require
    """Refuses what a run would lack here."""
    identity: Callable[[DerivativesSettings, Surroundings], Mapping[str, Any]]
    """What a result depends on, besides the participant's files and the image."""
    image: Callable[[DerivativesSettings, Surroundings], str]
    """Digest of the image in which it runs; empty where that is none."""
    needs_anatomical: bool
    """Whether nobody can be processed without a T1-weighted image."""
    clean: Callable[[ParticipantTask], object]
    """Removes what was kept for another try, once a participant is in their place."""


def method_of(settings: DerivativesSettings) -> Method:
    """Return the engine of a dataset.

    Raises
    ------
    UserError
        If it is not here.
    """
    if settings.engine not in METHODS:
        raise UserError(f"the engine {settings.engine!r} is not here.", mend=f"choose one of {', '.join(METHODS)}")
    return METHODS[settings.engine]


def _fmriprep(task: ParticipantTask) -> None:
    """Run fMRIPrep; what a run that failed left behind stays, and the next one goes on with it."""
    options, output, here = task.settings.options, task.staged.output, task.surroundings
    engine = find_engine(here.engine)
    image = find_image(task.settings.image, engine=engine, root=here.root)
    folders = Folders(
        bids=task.bids,
        output=output,
        work=_work(task),
        licence=find_licence(here.variables),
        templates=_templates(options, here),
    )
    before = crash_files(output, task.participant.label)
    if here.fmriprep_docker:
        ending = run_fmriprep_docker(
            task.participant,
            options,
            folders=folders,
            image=image,
            address=pin_of(task.settings.image, root=here.root).address,
            log=task.staged.log,
        )
    else:
        job = fmriprep_job(task.participant, options, folders=folders, image=image)
        ending = run(job, engine=engine, log=task.staged.log)
    verdict = judge(ending, participant=task.participant, options=options, output=output, before=before)
    verdict.demand_success()
    for crash in before:
        crash.unlink(missing_ok=True)  # Of an earlier run, which this one made good.


def _require_fmriprep(settings: DerivativesSettings, here: Surroundings, *, runs_here: bool) -> None:
    find_licence(here.variables)
    if here.fmriprep_docker:
        require_fmriprep_docker(settings.options)
    _templates(settings.options, here)
    if runs_here:
        find_work(name="of-a-participant", environment=here.variables)
        find_image(settings.image, engine=find_engine(here.engine), root=here.root)


def _templates(options: FmriprepOptions, here: Surroundings) -> Path:
    """Return TemplateFlow's folder; the wrapper has that of the image, and looks at none here."""
    if here.fmriprep_docker:
        return Path(here.variables.get(TEMPLATES, "/templateflow"))
    return find_templates(options, environment=here.variables)


def _fmriprep_identity(settings: DerivativesSettings, _: Surroundings) -> Mapping[str, Any]:
    """Return fMRIPrep's own arguments, and what they lead to: another spelling here reruns nothing."""
    options = settings.options.model_copy(update=_RESOURCES)
    return {"version": _VERSION, "arguments": arguments("", options), "bids_filters": options.bids_filters}


def _fmriprep_image(settings: DerivativesSettings, here: Surroundings) -> str:
    """Return the pinned digest, which needs no engine: where all is whole, none need be here."""
    pin = pin_of(settings.image, root=here.root)
    if pin.digest:
        return pin.digest
    found = find_image(settings.image, engine=find_engine(here.engine), root=here.root)
    return found.digest.removeprefix(_UNVERIFIED)


def _work(task: ParticipantTask) -> Path:
    """Return the participant's own work folder; another project's dataset of the same id has another one."""
    project = sha256(str(task.surroundings.root).encode()).hexdigest()[:8]
    return find_work(name=f"{task.dataset}-{project}/{task.staged.name}", environment=task.surroundings.variables)


def _clean_fmriprep(task: ParticipantTask) -> None:
    work = _work(task)
    for folder in work.parent.glob(f"sub-{task.staged.label}-*"):
        shutil.rmtree(folder, ignore_errors=True)


def _light(task: ParticipantTask) -> None:
    """Run the engine `light`; a run of BOLD that is unreadable fails its participant, as with fMRIPrep."""
    from neurofm.light.participant import process_participant  # noqa: PLC0415  # pandas, which commands do without

    output = task.staged.output
    outcomes = process_participant(
        task.participant,
        bids=task.bids,
        output=output,
        work=task.surroundings.root / _WORK,
        options=task.settings.light,
    )
    if reasons := [outcome.reason for outcome in outcomes if outcome.reason]:
        raise Unreadable("; ".join(reasons))
    write_description(output)


def _require_light(settings: DerivativesSettings, here: Surroundings, *, runs_here: bool) -> None:
    del settings, runs_here  # The environment lies in the project, which all machines share.
    python_of(_LIGHT_ENVIRONMENT, work=here.root / _WORK, root=here.root)


def _light_identity(settings: DerivativesSettings, here: Surroundings) -> Mapping[str, Any]:
    chosen, options = settings.light, settings.options
    template = chosen.template.model_dump(mode="json") if chosen.template else {}
    return {
        "options": chosen.model_dump(mode="json", exclude={"template"}),
        "template": {name: sha256_of(here.root / path) for name, path in template.items()},
        "selection": [options.task, options.sessions, options.bids_filters],
        "code": code_digest("neurofm.light.participant"),
        "libraries": {name: version(name) for name in _LIGHT_LIBRARIES},
        "environment": sha256_of(here.root / "containers" / _LIGHT_ENVIRONMENT / "requirements.lock"),
    }


METHODS = {
    "fmriprep": Method(
        process=_fmriprep,
        require=_require_fmriprep,
        identity=_fmriprep_identity,
        image=_fmriprep_image,
        needs_anatomical=True,
        clean=_clean_fmriprep,
    ),
    "light": Method(
        process=_light,
        require=_require_light,
        identity=_light_identity,
        image=lambda *_: "",
        needs_anatomical=False,
        clean=lambda _: None,
    ),
}
"""By `engine` in params.yaml."""

NAMING_FILES = (LICENCE, TEMPLATES)
"""Variables of the environment that name files which an engine reads, on every node."""
