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
from neurofm.fmriprep.folders import LICENCE, find_licence, find_templates, find_work
from neurofm.light import ENVIRONMENT, write_description
from neurofm.recording import Unreadable
from neurofm.templates import TEMPLATEFLOW_HOME
from neurofm.units import code_digest

_VERSION = 1
"""Of what is kept of fMRIPrep's outputs."""
_RESOURCES = {"nthreads": 1, "omp_nthreads": 1, "mem_mb": 28000, "low_mem": False, "fetch_templates": False}
"""Options that say what a run may take: no result is another one for them, up to the last bits of sums."""
_UNVERIFIED = "unverified:"
_MARGIN = 1.2
"""Of the container over `mem_mb`, which fMRIPrep overshoots."""
_MB_PER_GB = 2**30 / 10**6
_LIGHT_LIBRARIES = ("nibabel", "nilearn", "numpy", "scipy")
_LIGHT_CODE = ("light.participant", "light.ants_worker", "fmriprep.participants")
_LIGHT_GB = 3.0
"""1.3 GB were measured with a run of 82 volumes; longer runs lie on disk, and take more of it."""


class _Require(Protocol):
    def __call__(self, settings: DerivativesSettings, here: Surroundings, *, runs_here: bool) -> None:
        """Raise a `UserError` for what is lacking; where participants run elsewhere, only what all machines share."""


@dataclass(frozen=True, kw_only=True)
class Share:
    """What one participant takes of a machine while they are processed."""

    cpus: int
    memory_gb: float


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
    share: Callable[[DerivativesSettings], Share]
    """What one participant takes of a machine."""


def method_of(settings: DerivativesSettings) -> Method:
    """Return the engine of a dataset."""
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
            engine=engine,
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
    for name, path in settings.options.derivatives.items():
        if not (here.root / path).is_dir():
            raise UserError(
                f"{here.root / path}: there is no such folder, and `options.derivatives.{name}` names it.",
                mend="correct it there, or mount the disk that holds it",
            )
    if runs_here:
        find_work(name="of-a-participant", environment=here.variables)
        find_image(settings.image, engine=find_engine(here.engine), root=here.root)


def _templates(options: FmriprepOptions, here: Surroundings) -> Path:
    """Return TemplateFlow's folder; the wrapper has that of the image, and looks at none here."""
    if here.fmriprep_docker:
        return Path(here.variables.get(TEMPLATEFLOW_HOME, "/templateflow"))
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


def _fmriprep_share(settings: DerivativesSettings) -> Share:
    return Share(cpus=settings.options.nthreads, memory_gb=settings.options.mem_mb * _MARGIN / _MB_PER_GB)


def _light(task: ParticipantTask) -> None:
    """Run the light engine; a run of BOLD that it cannot read fails the participant, as one does of fMRIPrep."""
    # Here, because every command reads the settings of this engine, and what it works with takes seconds to load.
    from neurofm.light.participant import process_participant  # noqa: PLC0415

    write_description(task.staged.output)
    outcomes = process_participant(
        task.participant,
        bids=task.bids,
        output=task.staged.output,
        work=_light_work(task.surroundings),
        options=task.settings.light,
    )
    if reasons := [outcome.reason for outcome in outcomes if outcome.reason]:
        raise Unreadable(f"sub-{task.participant.label}: {'; '.join(reasons)}")


def _require_light(settings: DerivativesSettings, here: Surroundings, *, runs_here: bool) -> None:
    del runs_here  # The environment lies in the project, which all machines share.
    _template_files(settings, here)
    python_of(ENVIRONMENT, work=_light_work(here), root=here.root)


def _light_identity(settings: DerivativesSettings, here: Surroundings) -> Mapping[str, Any]:
    """Return our own code and antspyx's versions, the options, and the bytes of a template of one's own."""
    return {
        # The worker is a script that nothing imports; who takes part, with which files, is found by fMRIPrep's rules.
        "code": [code_digest(f"neurofm.{one}") for one in _LIGHT_CODE],
        "libraries": {name: version(name) for name in _LIGHT_LIBRARIES},
        "antspyx": sha256_of(here.root / "containers" / ENVIRONMENT / "requirements.lock"),
        "options": settings.light.model_dump(mode="json", exclude={"template"}),
        "template": [sha256_of(path) for path in _template_files(settings, here)],
        # Which sessions, task and files are taken.
        "selection": settings.options.model_dump(mode="json", include={"task", "sessions", "bids_filters"}),
    }


def _template_files(settings: DerivativesSettings, here: Surroundings) -> list[Path]:
    template = settings.light.template
    files = [here.root / path for path in (template.brain, template.white_matter, template.csf)] if template else []
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: there is no such file, and `light.template` names it.", mend="correct it there")
    return files


def _light_work(here: Surroundings) -> Path:
    return here.root / ".neurofm"


METHODS = {
    "fmriprep": Method(
        process=_fmriprep,
        require=_require_fmriprep,
        identity=_fmriprep_identity,
        image=_fmriprep_image,
        needs_anatomical=True,
        clean=_clean_fmriprep,
        share=_fmriprep_share,
    ),
    "light": Method(
        process=_light,
        require=_require_light,
        identity=_light_identity,
        image=lambda _settings, _here: "",
        clean=lambda _task: None,
        share=lambda _settings: Share(cpus=1, memory_gb=_LIGHT_GB),
        needs_anatomical=False,
    ),
}
"""By `engine` in params.yaml."""

NAMING_FILES = (LICENCE, TEMPLATEFLOW_HOME)
"""Variables of the environment that name files which an engine reads, on every node."""
