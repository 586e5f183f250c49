"""Which container engine there is, and how it wants to be spoken to."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from neurofm.containers.settings import EngineName
from neurofm.errors import UserError

_PREFERRED = (EngineName.PODMAN, EngineName.DOCKER, EngineName.APPTAINER)
_PODMAN_INFO = ("info", "--format", "{{.Host.Security.Rootless}}")
_DOCKER_INFO = ("info", "--format", "{{.SecurityOptions}}")
_TIMEOUT_S = 60.0
_MENDS = {
    EngineName.PODMAN: "install podman (Debian: apt-get install podman runc catatonit; then `podman info` must answer)",
    EngineName.DOCKER: "start its daemon and be allowed to use it (`docker info` must answer), or install podman",
    EngineName.APPTAINER: "load its module (`module load apptainer`), or ask the cluster's staff for it",
}


@dataclass(frozen=True, kw_only=True)
class Engine:
    """A container engine that answers."""

    name: EngineName
    """By which name it was asked for: `docker` may be podman's program of that name."""
    program: str
    """Path of its program, absolute: it is not run from the current folder."""
    is_podman: bool = False
    """Whether it takes podman's options, whatever its name."""
    is_rootless: bool = False
    """Whether user 0 inside is the caller."""

    @property
    def is_apptainer(self) -> bool:
        """Whether containers are plain processes of ours and images are files."""
        return self.name is EngineName.APPTAINER

    def ask(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a short command of the engine and return what it said; an engine that hangs gives exit code 124."""
        command = [self.program, *arguments]
        try:
            return subprocess.run(  # noqa: S603  # the engine's own program
                command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL, timeout=_TIMEOUT_S
            )
        except subprocess.TimeoutExpired:
            return subprocess.CompletedProcess(command, 124, "", f"no answer within {_TIMEOUT_S:g} s")
        except OSError as error:
            return subprocess.CompletedProcess(command, 125, "", str(error))


def find_engine(choice: EngineName = EngineName.AUTO) -> Engine:
    """Return the engine that was chosen, or the first one that answers.

    A program alone is not an engine: a docker client without a daemon does not answer.

    Raises
    ------
    UserError
        If none is there, or none answers.
    """
    wanted = _PREFERRED if choice is EngineName.AUTO else (choice,)
    silent = []
    for name in wanted:
        answer = _try(name)
        if isinstance(answer, Engine):
            return answer
        silent.append(f"{name}: {answer}")
    raise UserError(
        f"no container engine answers ({'; '.join(silent)}).",
        mend=_MENDS[EngineName.PODMAN if choice is EngineName.AUTO else choice],
    )


def _try(name: EngineName) -> Engine | str:
    """Return the engine of that name, or why there is none."""
    found = shutil.which(name.value)
    if found is None:
        return "not on the PATH"
    program = str(Path(found).absolute())
    plain = Engine(name=name, program=program)
    version = plain.ask("--version")
    if version.returncode:
        return f"does not answer: {_last_line(version)}"
    if name is EngineName.APPTAINER:
        return plain
    is_podman = version.stdout.startswith("podman")
    info = plain.ask(*(_PODMAN_INFO if is_podman else _DOCKER_INFO))
    if info.returncode:
        return f"does not answer: {_last_line(info)}"
    is_rootless = "true" in info.stdout if is_podman else "rootless" in info.stdout
    return Engine(name=name, program=program, is_podman=is_podman, is_rootless=is_rootless)


def _last_line(done: subprocess.CompletedProcess[str]) -> str:
    lines = [line.strip() for line in (done.stderr or done.stdout).splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else f"exit code {done.returncode}"
