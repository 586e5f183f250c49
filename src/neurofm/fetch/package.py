"""Bring a package from an index of Python packages, whole and verified: resumed, retried, never half-written."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
from unearth import Link
from unearth.fetchers.sync import PyPIClient

from neurofm.errors import UserError
from neurofm.fetch.waiting import RETRIED, alone, retry_after_s
from neurofm.files import sha256_of
from neurofm.progress import Progressing

PAUSES_S = (1.0, 2.0, 4.0, 8.0)
"""Pauses between attempts, each lengthened by up to its own length so that many machines do not return at once."""
_LONGEST_PAUSE_S = 60.0
_RANGE_NOT_SATISFIABLE = 416


class WrongBytes(Exception):
    """The file came whole, and is not the one that is pinned. It lies at `path`."""

    def __init__(self, path: Path, *, size: int, sha256: str) -> None:
        super().__init__(f"{path.name}: {size} bytes, sha256 {sha256}")
        self.path = path
        self.size = size
        self.sha256 = sha256


class _Broken(Exception):
    """An attempt that may go better next time."""

    def __init__(self, reason: str, *, pause_s: float = 0.0) -> None:
        super().__init__(reason)
        self.pause_s = pause_s


def is_whole(path: Path, *, size: int, sha256: str) -> bool:
    """Tell whether `path` is a file of that size (bytes) and digest."""
    return path.is_file() and path.stat().st_size == size and sha256_of(path) == sha256


def download(link: Link, target: Path, *, size: int, sha256: str, session: PyPIClient) -> int:
    """Download `link` to `target` unless it is there already.

    What arrives is kept in ``<target>.part``, from which a later call goes on where the server allows it (HTTP
    Range, RFC 9110). The file appears under its name only once its size and digest are right.

    Parameters
    ----------
    link
        Where it is.
    target
        Where it goes.
    size, sha256
        What it must be: bytes, hex digest.
    session
        From `neurofm.fetch.index.open_session`.

    Returns
    -------
    int
        Bytes that came over the network.

    Raises
    ------
    WrongBytes
        If a whole answer is not the pinned file; it lies in ``<target>.part``.
    UserError
        If it is refused, missing, or does not come after a few attempts.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f"{target.name}.part")
    with alone(target.with_name(f".{target.name}.lock")):
        if is_whole(target, size=size, sha256=sha256):
            return 0
        with Progressing(f"download {target.name}", total=max(size - _size(part), 0), unit="bytes") as progress:
            received = _attempts(link, part, size=size, sha256=sha256, session=session, progress=progress)
        part.replace(target)
    return received


def _attempts(link: Link, part: Path, *, size: int, sha256: str, session: PyPIClient, progress: Progressing) -> int:
    received = 0
    for pause_s in (*PAUSES_S, None):
        try:
            for count in _stream(link, part, size=size, sha256=sha256, session=session):
                received += count
                progress.advance(count)
        except (httpx2.TransportError, _Broken) as error:
            if pause_s is None:
                raise UserError(
                    f"{link.redacted}: did not come after {len(PAUSES_S) + 1} attempts "
                    f"({type(error).__name__ if isinstance(error, httpx2.TransportError) else 'last'}: {error}).",
                    mend=f"check the network and run again (it goes on from the {_size(part) / 1e6:.1f} MB that are "
                    f"there), or put the file at {part.with_suffix('')}",
                ) from None
            asked_s = error.pause_s if isinstance(error, _Broken) else 0.0
            # Jitter only spaces out attempts; nothing of it reaches an output.
            time.sleep(max(asked_s, pause_s * (1 + random.random())))  # noqa: S311
        else:
            return received
    raise AssertionError


def _stream(link: Link, part: Path, *, size: int, sha256: str, session: PyPIClient) -> Iterator[int]:
    """Bring `part` to its full length and check it; yields the number of bytes of each chunk."""
    start = _size(part)
    if start > size:
        part.unlink()
        start = 0
    resumed = start > 0
    if start < size:
        headers = {"Range": f"bytes={start}-"} if start else {}
        with session.get_stream(link.url_without_fragment, headers=headers) as response:
            if response.status_code == _RANGE_NOT_SATISFIABLE:
                part.unlink()
            _check_status(response, link)
            resumed = response.status_code == httpx2.codes.PARTIAL_CONTENT and start > 0
            length_known = "content-length" in response.headers
            with part.open("ab" if resumed else "wb") as file:
                # As they arrive: gathering them into larger chunks would lose the last ones when the line breaks.
                for chunk in response.iter_raw():
                    file.write(chunk)
                    yield len(chunk)
                    if file.tell() > size:
                        break
    else:
        length_known = False
    if is_whole(part, size=size, sha256=sha256):
        return
    if resumed or not length_known:
        # The beginning may stem from another answer, or the end may be missing: only a fresh, whole one counts.
        part.unlink()
        raise _Broken("what came is not the file that is pinned")
    raise WrongBytes(part, size=_size(part), sha256=sha256_of(part))


def _check_status(response: httpx2.Response, link: Link) -> None:
    code = response.status_code
    if code == _RANGE_NOT_SATISFIABLE:
        raise _Broken("the server could not go on from what was there")
    if code in RETRIED:
        raise _Broken(
            f"HTTP {code} {response.reason_phrase}",
            pause_s=min(retry_after_s(response.headers.get("retry-after", "")), _LONGEST_PAUSE_S),
        )
    if code in {401, 403, 407}:
        raise UserError(
            f"{link.redacted}: HTTP {code} {response.reason_phrase}.",
            mend="put the index's credentials in ~/.netrc, in the keyring, or in pip's index-url",
        )
    if not response.is_success:
        raise UserError(
            f"{link.redacted}: HTTP {code} {response.reason_phrase}.",
            mend="check that the index still carries this file, or set PIP_INDEX_URL to one that does",
        )


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0
