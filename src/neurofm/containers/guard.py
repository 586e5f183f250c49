"""The guard: removes a container when its caller ends, however that ends.

A container of podman or docker is no child of ours: a caller that is killed would leave it at work. So a shell in a
session of its own reads from a pipe that only the caller holds. The kernel closes it with the caller, and the shell
then stops and removes the container. The shell heeds no signal that Slurm sends to all that a task has started.
"""

from __future__ import annotations

import select
import subprocess
import tempfile
from math import ceil
from pathlib import Path
from types import TracebackType
from typing import Self

from neurofm.containers.engine import Engine

_SCRIPT = """
trap '' HUP INT TERM USR1 USR2
engine=$1 name=$2 grace=$3 scratch=$4
read -r client
if ! read -r ended; then
    # Nothing may start it any more, if it has not started yet.
    [ -z "$client" ] || kill -KILL "-$client" 2>/dev/null
    "$engine" stop --time "$grace" "$name" >/dev/null
fi
for again in 1 2 3 4 5; do
    "$engine" rm --force "$name" >/dev/null && break
    [ -n "$ended" ] && break
    sleep 1
done
rm -rf -- "$scratch"
"""
_APPTAINER_SCRIPT = """
trap '' HUP INT TERM USR1 USR2
grace=$3 scratch=$4
read -r client
if ! read -r ended && [ -n "$client" ] && kill -TERM "-$client"; then
    while [ "$grace" -gt 0 ] && kill -0 "-$client"; do sleep 1; grace=$((grace - 1)); done
    kill -KILL "-$client"
fi
rm -rf -- "$scratch"
"""
_LAUNCH = '{ /bin/sh -c "$@" <&3 3<&- & } 3<&0'
"""Leave the guard to nobody: Slurm, which kills whatever descends from a task, does not find it."""
_PATIENCE_S = 120.0


class Guard:
    """Stops and removes a container when the block ends or its process dies.

    Parameters
    ----------
    engine, name
        Which container.
    grace_s
        From being asked to end to being killed, if the caller dies.

    Attributes
    ----------
    scratch
        A folder of this container alone, removed with it. What an engine writes where it stands (conmon: an empty file
        `oom`) falls there.
    """

    def __init__(self, engine: Engine, name: str, *, grace_s: float) -> None:
        script = _APPTAINER_SCRIPT if engine.is_apptainer else _SCRIPT
        self.scratch = Path(tempfile.mkdtemp(prefix=f"{name}-"))
        (self.scratch / "home").mkdir()
        words = (engine.program, name, f"{ceil(grace_s)}")
        self._process = subprocess.Popen(  # noqa: S603  # the script above
            ["/bin/sh", "-c", _LAUNCH, "sh", script, "neurofm-guard", *words, str(self.scratch)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            cwd=Path("/"),
            start_new_session=True,
        )
        self._process.wait()

    def __enter__(self) -> Self:
        return self

    def watch(self, client: int) -> None:
        """Tell which process of the engine runs the container in the foreground."""
        self._tell(f"{client}\n")

    def ended(self) -> None:
        """Tell that the container has ended by itself, and only needs to be removed."""
        self._tell("ended\n")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        # It writes nothing; its end closes the pipe.
        select.select([self._process.stdout], [], [], _PATIENCE_S)
        self._process.stdout.close()

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line.encode())
        self._process.stdin.flush()
