"""Whether a run of fMRIPrep went well, and if not, why and what to do."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from neurofm.containers import Ending
from neurofm.containers.ending import ENGINE_FAILED, NOT_EXECUTABLE, NOT_FOUND, TIMED_OUT
from neurofm.fmriprep.crash import Crash, read_crash
from neurofm.fmriprep.options import FmriprepOptions
from neurofm.fmriprep.outputs import Expected, expected_outputs
from neurofm.fmriprep.participants import Participant
from neurofm.recording import UnitStatus, Unreadable

_KILLED, _INTERRUPTED, _STOPPED, _WARNED = 137, 130, 143, 138
_CUT_SHORT = frozenset({ENGINE_FAILED, TIMED_OUT, _KILLED, _INTERRUPTED, _STOPPED, _WARNED})
"""Exit codes of what was ended from outside; the last by USR1, with which Slurm warns all that a task has started."""
_NO_WORKFLOW = 70
_SHOWN = 3
_LOG_BYTES = 1 << 20
_CRASHES = ("sub-{}/log/*/crash*", "sub-{}/ses-*/log/*/crash*", "logs/crash*")
"""Where crash files lie; below the sessions' joined name where the participant has any."""
_TOO_LITTLE_MEMORY = ("BrokenProcessPool", "MemoryError", "Cannot allocate memory", "std::bad_alloc", "\nKilled")
"""What is said where a process of fMRIPrep's, not the container, was killed: it may end with 1, or hang."""
_MORE_MEMORY = "raise `mem_mb`, lower `nthreads` (fewer processes at once), or set `low_mem: true`"
_AGAIN = "run it again: it goes on with what is in the work folder"


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How a run ended."""

    status: UnitStatus
    reason: str = ""
    """Why it did not succeed, in one line; empty if it did."""
    mend: str = ""
    present: tuple[Path, ...] = ()
    """Expected outputs that are there, however it ended."""
    missing: tuple[str, ...] = ()
    """Names (patterns) of those that are not."""
    crashes: tuple[Path, ...] = ()
    """Crash files of this run."""

    @property
    def succeeded(self) -> bool:
        """Whether everything is there and nothing went wrong."""
        return self.status is UnitStatus.SUCCEEDED

    def demand_success(self) -> None:
        """Let a unit of work end as this run did.

        Raises
        ------
        Unreadable
            If it failed for what was given to it.
        MemoryError
            If this machine lacked memory or time: the unit is incomplete.
        """
        if self.succeeded:
            return
        why = f"{self.reason} Mend: {self.mend}"
        if self.status is UnitStatus.INCOMPLETE:
            raise MemoryError(why)
        raise Unreadable(why)


def crash_files(output: Path, participant: str) -> frozenset[Path]:
    """Return the crash files of a participant; taken before a run, they tell older ones from its own."""
    return frozenset(path for pattern in _CRASHES for path in output.glob(pattern.format(participant)))


def judge(
    ending: Ending,
    *,
    participant: Participant,
    options: FmriprepOptions,
    output: Path,
    before: Iterable[Path] = (),
) -> Verdict:
    """Say whether a run went well: it ended with 0, every expected output is there, and there is no crash file.

    Parameters
    ----------
    ending
        How its container ended; its log is read for what fMRIPrep said.
    participant, options
        What was processed, and how.
    output
        Its output folder on this machine.
    before
        Crash files that were there before it (`crash_files`).
    """
    roots = (output, *options.derivatives.values())
    found = [(expected, expected.find(roots)) for expected in expected_outputs(participant, options)]
    present = tuple(path for _, path in found if path is not None)
    missing = tuple(expected.name for expected, path in found if path is None)
    crashes = tuple(sorted(crash_files(output, participant.label) - set(before)))
    said = _said(ending.log)
    status, reason, mend = _why(ending, said=said, crashes=crashes, missing=missing)
    if status is not UnitStatus.SUCCEEDED:
        reason = f"sub-{participant.label}: {reason}; {_tally(found)}."
    return Verdict(status=status, reason=reason, mend=mend, present=present, missing=missing, crashes=crashes)


def _why(
    ending: Ending, *, said: str, crashes: tuple[Path, ...], missing: tuple[str, ...]
) -> tuple[UnitStatus, str, str]:
    """Return status, reason and mend, by the exit code first."""
    if ending.code in _CUT_SHORT:
        return (UnitStatus.INCOMPLETE, *_cut_short(ending))
    if any(sign in said for sign in _TOO_LITTLE_MEMORY) and ending.code:
        reason = f"a process of fMRIPrep's got no more memory (exit code {ending.code})"
        return UnitStatus.INCOMPLETE, reason, _MORE_MEMORY
    if ending.succeeded and not crashes and not missing:
        return UnitStatus.SUCCEEDED, "", ""
    how = _BY_CODE.get(ending.code, _failed)
    return (UnitStatus.FAILED, *how(ending, said=said, crashes=crashes, missing=missing))


def _not_whole(ending: Ending, *, crashes: tuple[Path, ...], **_: object) -> tuple[str, str]:
    """Say what is wrong with a run that ended with 0, which is not enough."""
    if crashes:
        return f"fMRIPrep ended with 0, but left a crash file: {_crash(crashes)}", _look_at(crashes[0])
    return "fMRIPrep ended with 0, but not everything is there", _look_at(ending.log)


def _failed(ending: Ending, *, said: str, crashes: tuple[Path, ...], missing: tuple[str, ...]) -> tuple[str, str]:
    """Say why fMRIPrep itself gave up."""
    if crashes:
        return f"fMRIPrep crashed (exit code {ending.code}): {_crash(crashes)}", _look_at(crashes[0])
    if "Report generation was not successful" in said and not missing:
        return "everything is there, but fMRIPrep's visual report failed", _look_at(ending.log)
    what = "could not plan its work" if ending.code == _NO_WORKFLOW else "failed"
    return f"fMRIPrep {what} (exit code {ending.code}){_last_error(said)}", _look_at(ending.log)


def _cut_short(ending: Ending) -> tuple[str, str]:
    """Say why a run was ended from outside; it may go on."""
    return {
        ENGINE_FAILED: (ending.reason, "mend that (`neurofm container list` says what is here), and run it again"),
        TIMED_OUT: (ending.reason, f"give it more time, and {_AGAIN}"),
        _INTERRUPTED: ("fMRIPrep was interrupted", _AGAIN),
        _STOPPED: ("fMRIPrep was asked to stop", _AGAIN),
        _WARNED: ("fMRIPrep was stopped, since its walltime or its place on the cluster ended", _AGAIN),
        _KILLED: (f"fMRIPrep was {ending.reason or 'killed'}", _MORE_MEMORY),
    }[ending.code]


def _not_executable(ending: Ending, *, said: str, **_: object) -> tuple[str, str]:
    """126 is FreeSurfer's licence by fMRIPrep's own word, and else the engine's for what cannot be executed."""
    if "FIPS" in said:
        return "FreeSurfer cannot run here: this machine is in FIPS mode (exit code 126)", "ask its administrator"
    if "license file is required" in said:
        return (
            "fMRIPrep found FreeSurfer's licence not valid (exit code 126)",
            "renew it at https://surfer.nmr.mgh.harvard.edu/registration.html (FS_LICENSE names the file)",
        )
    return f"the image's own program cannot be executed (exit code {NOT_EXECUTABLE})", _look_at(ending.log)


def _not_found(ending: Ending, *, said: str, **_: object) -> tuple[str, str]:
    """127 is programs that fMRIPrep lacks by its own word, and else the engine's for what is not in the image."""
    # Some programs stand there with the first of their arguments.
    lacking = list(dict.fromkeys(re.findall(r"\* (\S+)[^(\n]*\(Interface: ", said)))
    if lacking:
        more = f" and {len(lacking) - _SHOWN} more" if len(lacking) > _SHOWN else ""
        names = ", ".join(lacking[:_SHOWN])
        return f"fMRIPrep lacks programs (exit code 127): {names}{more}", "run it in the pinned image, which has them"
    return f"the image's own program is not in it (exit code {NOT_FOUND})", _look_at(ending.log)


_BY_CODE: dict[int, Callable[..., tuple[str, str]]] = {
    0: _not_whole,
    NOT_EXECUTABLE: _not_executable,
    NOT_FOUND: _not_found,
}


def _crash(crashes: tuple[Path, ...]) -> str:
    first: Crash = read_crash(crashes[0])
    more = f" (and {len(crashes) - 1} more)" if len(crashes) > 1 else ""
    return f"{first.node}: {first.error}{more}"


def _look_at(path: Path | None) -> str:
    return f"read {path}" if path else "run it with a log, and read that"


def _tally(found: list[tuple[Expected, Path | None]]) -> str:
    missing = [expected.name for expected, path in found if path is None]
    if not missing:
        return f"all {len(found)} outputs are there"
    more = f" and {len(missing) - _SHOWN} more" if len(missing) > _SHOWN else ""
    return f"{len(missing)} of {len(found)} outputs are missing ({', '.join(missing[:_SHOWN])}{more})"


def _said(log: Path | None) -> str:
    """Return the end of a run's log."""
    if log is None or not log.is_file():
        return ""
    with log.open("rb") as file:
        file.seek(max(0, log.stat().st_size - _LOG_BYTES))
        return file.read().decode(errors="replace")


def _last_error(said: str) -> str:
    """Return the last line that names an error, as ``: ...``; empty if there is none."""
    lines = [line.strip() for line in said.splitlines()]
    errors = [line for line in lines if re.search(r"^\w*(Error|Exception)\b|CRITICAL|error:", line)]
    return f": {errors[-1].rstrip('.')}" if errors else ""
