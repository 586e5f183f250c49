"""The one error that a user is meant to read."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Self

from pydantic import ValidationError

EXIT_USER_ERROR = 2
"""Exit code of every run that stopped because of something the user can mend."""
EXIT_INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class UserError(Exception):
    """Something the user can mend, said in one line: what is wrong, where, and the mend.

    Parameters
    ----------
    problem
        What is wrong and where: names the file, key or dataset.
    mend
        What to do about it, as an instruction.
    """

    def __init__(self, problem: str, *, mend: str) -> None:
        super().__init__(f"{problem} Mend: {mend}")
        self.problem = problem
        self.mend = mend

    def __reduce__(self) -> tuple[object, ...]:
        # Exceptions with keyword arguments do not survive a process pool without this.
        return _rebuild, (type(self), self.problem, self.mend)

    @classmethod
    def from_validation(cls, error: ValidationError, *, where: str, mend: str) -> Self:
        """Turn pydantic's first complaint into one line that names the key.

        Parameters
        ----------
        error
            What pydantic raised.
        where
            The file (and section) that was being read.
        mend
            What to do about it.
        """
        first = error.errors(include_url=False)[0]
        key = ".".join(str(part) for part in first["loc"]) or "(whole file)"
        what = first["msg"]
        if first["type"] == "extra_forbidden":
            what = "unknown key"
        elif first["type"] == "missing":
            what = "required key is missing"
        elif "input" in first and not isinstance(first["input"], dict | list):
            what = f"{what}, got {first['input']!r}"
        more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
        return cls(f"{where}: `{key}`: {what}{more}.", mend=mend)


def _rebuild(kind: type[UserError], problem: str, mend: str) -> UserError:
    return kind(problem, mend=mend)


@contextmanager
def exit_on_user_error(*, debug: bool = False) -> Iterator[None]:
    """Print a `UserError` as one line on stderr and exit with code 2; Ctrl-C ends with one line too."""
    try:
        yield
    except KeyboardInterrupt:
        if debug:
            raise
        sys.stderr.write("interrupted; run it again to go on where it stopped\n")
        raise SystemExit(EXIT_INTERRUPTED) from None
    except UserError as error:
        if debug:
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        raise SystemExit(EXIT_USER_ERROR) from None
