"""How a container ended, and why."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from pathlib import Path

TIMED_OUT = 124
"""Exit code of a job that took longer than its limit, as `timeout` has it."""
ENGINE_FAILED, NOT_EXECUTABLE, NOT_FOUND = 125, 126, 127
_SIGNALLED = 128
_SIGNALS = {one.value: one.name for one in signal.Signals}
"""Those that have a name: of the real-time signals, only the first and the last."""
_INIT_SAYS = {
    "failed to exec pid1: No such file or directory": NOT_FOUND,
    "failed to exec pid1: Permission denied": NOT_EXECUTABLE,
}
"""catatonit, podman's init, ends with code 1 for both; what it writes tells."""
_KNOWN_FAULTS = {
    "container-init binary not found": "podman's init is missing (Debian: apt-get install catatonit)",
    'could not find "netavark"': "podman's network program is missing (Debian: apt-get install netavark)",
}


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a job ended."""

    code: int
    """Exit code: the command's own, or as shells and engines have it (124 to 127, 128 + signal)."""
    reason: str
    """Why, in words; empty for a success."""
    seconds: float
    image: str
    """Digest of the image it ran in."""
    log: Path | None
    container: str
    """The name that it had; it is removed."""

    @property
    def succeeded(self) -> bool:
        """Whether the command ended with 0."""
        return self.code == 0


def code_of(returned: int, last: str) -> int:
    """Return the exit code as a shell would have it, whichever engine and init said it.

    Parameters
    ----------
    returned
        What the engine's program ended with; negative for a signal.
    last
        The last lines that were written.
    """
    if returned < 0:
        return _SIGNALLED - returned
    if returned == 1:
        return next((code for text, code in _INIT_SAYS.items() if text in last), returned)
    return returned


def reason_of(code: int, *, program: str, last: str, out_of_memory: bool, memory_gb: float | None) -> str:
    """Say in words what an exit code means.

    Parameters
    ----------
    code
        As `code_of` has it.
    program
        What was to run inside.
    last
        The last lines that were written.
    out_of_memory
        Whether the engine says that the kernel ended it for its memory.
    memory_gb
        Its limit.
    """
    words = {
        0: "",
        ENGINE_FAILED: f"the engine could not start it: {_fault(last)}",
        NOT_EXECUTABLE: f"{program!r} cannot be executed in the image",
        NOT_FOUND: f"{program!r} is not in the image",
        _SIGNALLED + signal.SIGKILL: _killed(out_of_memory=out_of_memory, memory_gb=memory_gb),
    }
    if code in words:
        return words[code]
    if name := _SIGNALS.get(code - _SIGNALLED):
        return f"ended by {name}"
    said = _last_line(last)
    return f"exit code {code}: {said}" if said else f"exit code {code}"


def _fault(last: str) -> str:
    known = next((words for text, words in _KNOWN_FAULTS.items() if text in last), "")
    return known or _last_line(last) or "it did not say why"


def _killed(*, out_of_memory: bool, memory_gb: float | None) -> str:
    if memory_gb is None:
        return (
            "killed: it took more memory than there is"
            if out_of_memory
            else "killed, for want of memory or by somebody"
        )
    # Not every kernel and engine tells a container's own limit from other reasons.
    return f"killed: {'' if out_of_memory else 'most likely '}it took more than the {memory_gb:g} GB that it was given"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
