"""The command line of each engine for a job."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from neurofm.containers.engine import Engine
from neurofm.containers.job import Job, Mount

CALLER_LABEL = "org.neurofm.container"
"""Label of every container that is started here, to find those that a power cut left behind."""
_SHARED_MEMORY = "1g"
_HOME = "HOME"


@dataclass(frozen=True, kw_only=True)
class Caller:
    """For whom a container runs: the files that it writes belong to them."""

    uid: int
    gid: int
    host: str

    @classmethod
    def here(cls) -> Caller:
        """Return who runs this process."""
        return cls(uid=os.getuid(), gid=os.getgid(), host=os.uname().nodename)


def command_line(job: Job, *, engine: Engine, name: str, caller: Caller, scratch: Path) -> list[str]:
    """Return the command that runs a job under `name`, in the foreground and with the environment `environment_for`.

    Parameters
    ----------
    job, engine, name, caller
        What to run, by whom, under which name, and for whom.
    scratch
        A folder of this container alone, with ``home`` in it: apptainer keeps its ``/tmp`` there.
    """
    if engine.is_apptainer:
        return _apptainer(job, engine, scratch=scratch)
    return _podman_or_docker(job, engine, name=name, caller=caller)


def environment_for(job: Job, *, engine: Engine) -> dict[str, str]:
    """Return the environment of the engine's program: this process's own.

    The job's variables are not mixed into it: podman finds its images below HOME, docker its daemon. Apptainer takes
    them under names of their own.
    """
    own = dict(os.environ)
    if not engine.is_apptainer:
        return own
    inside = {name: own[name] for name in job.inherited if name in own} | dict(job.environment)
    return own | {f"APPTAINERENV_{name}": value for name, value in inside.items() if name != _HOME}


def container_options(job: Job, *, engine: Engine, caller: Caller) -> list[str]:
    """Return what ``run`` of podman or docker is told of any container: its user, network and limits.

    Parameters
    ----------
    job, engine, caller
        What is run, by whom, and for whom.
    """
    limits = job.limits
    line = ["--label", f"{CALLER_LABEL}=run", "--init", "--pull", "never"]
    # What a container says is taken from its output; no second copy grows in the engine's store.
    line += ["--log-driver", "none"]
    line += _user(engine, caller)
    line += ["--hostname", caller.host] if not job.network else []
    line += ["--network", "host" if job.network else "none"]
    line += ["--shm-size", _SHARED_MEMORY]
    if limits.memory_gb is not None:
        memory = f"{round(limits.memory_gb * 2**30)}"
        line += ["--memory", memory, "--memory-swap", memory]
    if limits.cpus is not None:
        line += ["--cpus", f"{limits.cpus:g}"]
    if job.gpus:
        line += ["--device", "nvidia.com/gpu=all"] if engine.is_podman else ["--gpus", "all"]
    return line


def _podman_or_docker(job: Job, engine: Engine, *, name: str, caller: Caller) -> list[str]:
    line = [engine.program, "run", "--name", name, *container_options(job, engine=engine, caller=caller)]
    for mount in _outer_first(job.mounts):
        readonly = "" if mount.writable else ",readonly"
        line += ["--mount", f"type=bind,source={mount.source},target={mount.inside}{readonly}"]
    for variable in sorted(set(job.inherited) - job.environment.keys()):
        line += ["--env", variable]
    for variable, value in sorted(job.environment.items()):
        line += ["--env", f"{variable}={value}"]
    if job.workdir is not None:
        line += ["--workdir", str(job.workdir)]
    if job.keep_entrypoint:
        return [*line, job.image.run_by, *job.command]
    return [*line, "--entrypoint", job.command[0], job.image.run_by, *job.command[1:]]


def _user(engine: Engine, caller: Caller) -> list[str]:
    """Let what is written belong to the caller, and nobody inside gain rights."""
    # The files lie where the user put them: relabelling them for SELinux would change them for everybody.
    options = ["--security-opt", "no-new-privileges", "--security-opt", "label=disable"]
    if engine.is_rootless and engine.is_podman:
        return [*options, "--userns", "keep-id", "--user", f"{caller.uid}:{caller.gid}"]
    if engine.is_rootless:
        return [*options, "--user", "0:0"]
    if caller.uid:
        options += ["--cap-drop", "all"]
    return [*options, "--user", f"{caller.uid}:{caller.gid}"]


def _apptainer(job: Job, engine: Engine, *, scratch: Path) -> list[str]:
    """Return apptainer's command line: the user is kept, the image is read-only, and pid 1 is an init of its own."""
    limits = job.limits
    line = [engine.program, "run" if job.keep_entrypoint else "exec"]
    # Without --contain, this machine's /tmp, /dev and current folder are inside. With a pid namespace, no process
    # outlives the first one.
    line += ["--cleanenv", "--contain", "--workdir", str(scratch), "--pid"]
    # HOME is the one variable that apptainer takes from nowhere else.
    line += ["--home", f"{scratch / 'home'}:{job.environment[_HOME]}"] if _HOME in job.environment else ["--no-home"]
    line += [] if job.network else ["--net", "--network", "none"]
    if limits.memory_gb is not None:
        line += ["--memory", f"{round(limits.memory_gb * 2**30)}"]
    if limits.cpus is not None:
        line += ["--cpus", f"{limits.cpus:g}"]
    if job.gpus:
        line += ["--nv"]
    for mount in _outer_first(job.mounts):
        line += ["--bind", f"{mount.source}:{mount.inside}:{'rw' if mount.writable else 'ro'}"]
    line += ["--pwd", str(job.workdir or "/")]
    return [*line, job.image.run_by, *job.command]


def _outer_first(mounts: tuple[Mount, ...]) -> list[Mount]:
    """Sort mounts so that a folder stands before what is mounted inside it."""
    return sorted(mounts, key=lambda mount: mount.inside.parts)
