"""ANTs, in a process of antspyx's own environment, which other packages of the project cannot share."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from neurofm.recording import Unreadable

WORKER = Path(__file__).with_name("ants_worker.py")
VARIABLES = {"ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
"""One thread: with more, sums depend on which is first, and results on the machine."""


class Ants:
    """A process that answers questions about images until it is closed.

    Parameters
    ----------
    python
        Interpreter of the environment ``antspyx``.
    folder
        For the files that questions and answers name; it must be there.
    seed
        For the points that registration samples.
    """

    def __init__(self, *, python: Path, folder: Path, seed: int) -> None:
        self.folder = folder
        self._seed = seed
        self._said = tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed with the process
        # -I: nothing of our own environment gets in. A session of its own, so that it can be ended with its children.
        self._process = subprocess.Popen(  # noqa: S603  # our own interpreter and script
            [str(python), "-I", str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            text=True,
            start_new_session=True,
            env={
                **os.environ,
                **VARIABLES,
                "ANTS_RANDOM_SEED": str(seed),
                "TMPDIR": str(folder),
                "MPLCONFIGDIR": str(folder / "matplotlib"),
            },
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)  # it keeps nothing: every answer is out
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._said.close()

    def ask(self, task: str, *, about: str, **question: Any) -> dict[str, Any]:
        """Ask one thing and wait for the answer.

        Parameters
        ----------
        task
            One of the worker's.
        about
            File name, for the error.
        **question
            What the task takes; values of JSON.

        Raises
        ------
        Unreadable
            If ANTs cannot do it with these images, or ends.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(json.dumps({"task": task, "seed": self._seed, **question}) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            code = self._process.wait()
            raise Unreadable(f"{about}: ANTs ended with code {code} in {task!r}: {self._last_words()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise Unreadable(f"{about}: ANTs could not {task}: {' '.join(answer['error'].split())[:300]}")
        return answer

    def _last_words(self) -> str:
        self._said.seek(0)
        lines = [line.strip() for line in self._said.read().splitlines() if line.strip()]
        return lines[-1][:300] if lines else "it said nothing"
