"""What `neurofm doctor` checks: this machine and this project, one finding a line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from traceback import extract_tb

from neurofm.errors import UserError
from neurofm.operations.doctor import cache, confidential, disk, environment, programs, project, remote
from neurofm.operations.doctor.finding import Finding, Verdict, note, problem
from neurofm.operations.doctor.place import Place

__all__ = ["CHECKS", "Finding", "Place", "Verdict", "examine"]

Check = Callable[[Place], Iterable[Finding]]

CHECKS: Mapping[str, Check] = {
    "python": environment.python,
    "limits": environment.limits,
    "person": environment.person,
    "settings": project.settings,
    "git": project.git,
    "dvc locks": project.locks,
    "secrets": confidential.secrets,
    "disk": disk.disk,
    "cache links": cache.cache,
    "memory": project.memory,
    "remote": remote.remote,
    "clock": remote.clock,
    "engine": programs.engine,
    "slurm": programs.slurm,
    "gpu": programs.gpu,
    "licence": confidential.licence,
}
"""Every check by its name, in the order in which they are shown."""
_LONGEST_S = 30.0


def examine(place: Place, *, checks: Mapping[str, Check] = CHECKS, longest_s: float = _LONGEST_S) -> list[Finding]:
    """Run every check, side by side: each waits for something else.

    Parameters
    ----------
    place
        The project.
    checks
        Which; one that raises, or does not end, is said as such and harms no other.
    longest_s
        Seconds after which a check counts as hanging (a network disk that is gone does not even let itself be
        interrupted).
    """
    found: dict[str, list[Finding]] = {}

    def run(name: str, check: Check) -> None:
        found[name] = _of(name, check, place)

    threads = {
        name: threading.Thread(target=run, args=(name, check), daemon=True, name=f"doctor {name}")
        for name, check in checks.items()
    }
    until = time.monotonic() + longest_s
    for thread in threads.values():
        thread.start()
    for thread in threads.values():
        thread.join(max(0.0, until - time.monotonic()))
    told = [finding for name in checks for finding in found.get(name, [_hanging(name, longest_s)])]
    # Several checks may stumble over the same thing (DVC cannot be opened): it is said once.
    return list({(finding.said, finding.mend): finding for finding in reversed(told)}.values())[::-1]


def _hanging(name: str, longest_s: float) -> Finding:
    """Return what is said of a check that does not end; a remote that is silent would not take a push either."""
    if name == "remote":
        found = problem(
            f"no answer from it within {longest_s:g} s", mend="check the server and the network, then again"
        )
    else:
        said = f"no answer within {longest_s:g} s: a disk or a server that is gone?"
        found = note(said, mend="neurofm doctor, again")
    return replace(found, check=name)


def _of(name: str, check: Check, place: Place) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(check(place))
    except UserError as error:
        findings.append(problem(error.problem, mend=error.mend))
    except Exception as error:  # noqa: BLE001  # one check must not take the others with it
        where = extract_tb(error.__traceback__)[-1]
        said = " ".join(f"{type(error).__name__}: {error}".split())
        findings.append(
            note(f"could not be checked ({said}, {where.filename.rpartition('/')[2]}:{where.lineno})", mend="")
        )
    return [replace(finding, check=name) for finding in findings]
