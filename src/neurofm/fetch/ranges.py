"""Ranges of bytes of one file at its archive: each is the one asked for, and all are of one state of the file."""

from __future__ import annotations

import re
import time
from collections.abc import Mapping
from http import HTTPStatus

import httpx2

from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.origins import Origins
from neurofm.fetch.request import MOST_REDIRECTS, NoRequest, Request
from neurofm.fetch.transfer import Refused, Tally, Unreachable
from neurofm.fetch.waiting import RETRIED, pause_s, retry_after_s
from neurofm.recording import ManifestFile

_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")
_DENIED = frozenset({HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN})


class _Passing(Exception):
    """Trouble of one try that may pass."""

    def __init__(self, reason: str, *, asked_s: float = 0.0) -> None:
        super().__init__(reason)
        self.asked_s = asked_s


class Ranges:
    """One file at its archive, of which ranges are read. No part of it is held to the archive's digest.

    Parameters
    ----------
    file
        Its size is what the archive must still have.
    origins, site
        How it is asked for, how often, and with what pauses.
    client
        Follows no redirects by itself and takes no cookies.
    tally
        Counts requests and bytes.
    """

    def __init__(
        self, file: ManifestFile, *, origins: Origins, site: FetchSite, client: httpx2.Client, tally: Tally
    ) -> None:
        self.size = file.size
        self.fetched_bytes = 0
        self.validator = ""
        """ETag or Last-Modified of the first answer; every other must agree."""
        self._file, self._origins, self._site, self._client, self._tally = file, origins, site, client, tally
        self._onward: Request | None = None
        """Where a redirect led, so that not every range is asked for twice."""

    def read(self, start: int, stop: int) -> bytes:
        """Return the bytes of a span, all of them.

        Raises
        ------
        Refused
            If it cannot be had: not there, not allowed, another size, a host that does not serve ranges.
        Unreachable
            If it does not come after all tries, or the file changed while it was read.
        UserError
            If a login is missing.
        """
        trouble, asked_s = "", 0.0
        for attempt in range(self._site.attempts):
            if attempt:
                time.sleep(pause_s(attempt, site=self._site, asked_s=asked_s))
            try:
                return self._ask(start, stop)
            except NoRequest as error:
                raise Refused(str(error)) from None
            except _Passing as error:
                trouble, asked_s = str(error), error.asked_s
            except httpx2.TransportError as error:
                # Its own text can hold the whole address, which may be a presigned one.
                trouble, asked_s = f"connection broke ({type(error).__name__})", 0.0
        raise Unreachable(f"{self._host()}: {trouble}; {self._site.attempts} tries")

    def _ask(self, start: int, stop: int) -> bytes:
        request = self._onward or self._origins.request(self._file)
        for _ in range(1 + MOST_REDIRECTS):
            self._tally.requests += 1
            headers = {**request.headers, "Range": f"bytes={start}-{stop - 1}"}
            with self._client.stream("GET", request.url, headers=headers) as answer:
                if not answer.is_redirect:
                    return self._take(answer, request, start, stop)
                location = answer.headers.get("location", "")
                if not location:
                    raise Refused(f"{request.host}: HTTP {answer.status_code} without an address")
                request = self._onward = request.redirected(location, keep_form=False)
        raise Refused(f"{request.host}: more than {MOST_REDIRECTS} redirects")

    def _take(self, answer: httpx2.Response, request: Request, start: int, stop: int) -> bytes:
        self._check_status(answer, request)
        self._check_range(answer.headers, request, start, stop)
        data = bytearray()
        for chunk in answer.iter_raw():
            data += chunk
            self._tally.bytes += len(chunk)
            self.fetched_bytes += len(chunk)
            if len(data) > stop - start:
                break
        if len(data) != stop - start:
            raise _Passing(f"another number of bytes came than the {stop - start} asked for")
        return bytes(data)

    def _check_status(self, answer: httpx2.Response, request: Request) -> None:
        code = answer.status_code
        if code == HTTPStatus.PARTIAL_CONTENT:
            return
        if code == HTTPStatus.OK:
            raise Refused(
                f"{request.host}: does not serve ranges of bytes, so groups of a file cannot be had there alone "
                "(without `source.groups` in its catalogue entry the whole file comes)"
            )
        said = f"HTTP {code} {answer.reason_phrase}".rstrip()
        if code in _DENIED and self._onward is not None:
            # The address that a redirect led to may have been good for some time only.
            self._onward = None
            raise _Passing(said)
        if code in RETRIED or code >= HTTPStatus.INTERNAL_SERVER_ERROR:
            raise _Passing(said, asked_s=retry_after_s(answer.headers.get("retry-after", "")))
        raise Refused(f"{request.host}: {said}")

    def _check_range(self, headers: Mapping[str, str], request: Request, start: int, stop: int) -> None:
        """Refuse a range that is not the one asked for, or stems from another state of the file."""
        match = _RANGE.fullmatch(headers.get("content-range", "").strip())
        if match and match[3] not in {"*", str(self.size)}:
            raise Refused(f"{request.host}: the file has {match[3]} bytes at the server now, pinned are {self.size}")
        if match is None or (int(match[1]), int(match[2])) != (start, stop - 1):
            raise _Passing("the server sent another range than the one asked for")
        etag = headers.get("etag", "")
        given = etag if etag.startswith('"') else headers.get("last-modified", "")
        known = self.validator = self.validator or given
        if given and known.startswith('"') == given.startswith('"') and known != given:
            raise Unreachable(f"{request.host}: the file changed at the server while it was read")

    def _host(self) -> str:
        return (self._onward or self._origins.request(self._file)).host
