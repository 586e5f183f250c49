"""Source `crcns`: the folders of a set on crcns.org, listed as its download page lists them to who is logged in.

The page takes a form (POST) for every folder and every file, and knows no versions, so a set is always held by pins.
Digests come from `checksums.md5` where a folder has one; else the SHA-256 is taken at the first fetch. Sizes come from
the page where it gives bytes; where it gives rounded ones (``1.2G``) the file is asked for and the length that the
answer announces is read, without its bytes.
"""

from __future__ import annotations

import html
import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Self, TypeVar
from urllib.parse import unquote, urlsplit

import httpx2
from wcmatch import glob

from neurofm.catalog import LATEST, CrcnsSource
from neurofm.errors import UserError
from neurofm.fetch.ask import Ask
from neurofm.fetch.hosts import FetchSite
from neurofm.fetch.origins import crcns_login
from neurofm.fetch.surroundings import Surroundings
from neurofm.fetch.waiting import RETRIED, is_offline, pause_s, retry_after_s
from neurofm.recording import ManifestFile
from neurofm.recording.manifest import FIRST_USE
from neurofm.sources.listing import Listing, chosen, safe

T = TypeVar("T")

CHECKSUMS = "checksums.md5"

_LARGEST_PAGE = 16 << 20
_DEEPEST = 16
_LINK = re.compile(r"""<a\s[^>]*?href=["']([^"']+)["'][^>]*>.*?</a>\s*(?:\(([^()<]*)\))?""", re.DOTALL | re.IGNORECASE)
_EXACT = re.compile(r"(\d[\d,]*)\s*(?:b|bytes)?", re.IGNORECASE)
_MD5_LINE = re.compile(r"([0-9a-fA-F]{32})[ \t]+\*?(.+)")
_LOGIN_PAGE = re.compile(r"""name=["']?password|invalid user ?name""", re.IGNORECASE)


def is_fixed(source: CrcnsSource) -> bool:
    """Say whether the version fixes every byte: never, since the archive keeps none."""
    del source
    return False


def list_files(source: CrcnsSource, *, ask: Ask, work: Path) -> Listing:
    """List the files of a set, walking only the folders that the include globs can reach.

    Paths are relative to the set. One question is asked at a time, as the archive wishes.

    Raises
    ------
    UserError
        If there is no login, the archive refuses it or does not answer, a folder lists nothing, or the exact size of
        a file cannot be had.
    """
    del work
    sizes: dict[str, int | None] = {}
    checksums: dict[str, str] = {}
    with _Portal(ask.site) as portal:
        _walk(portal, source, "", sizes=sizes, checksums=checksums)
        paths = list(chosen(sorted(sizes), include=source.include, exclude=source.exclude))
        files = []
        for path in paths:
            size = sizes[path]
            files.append(
                ManifestFile(
                    path=path,
                    size=portal.length(f"{source.dataset}/{path}") if size is None else size,
                    digest=f"md5:{checksums[path]}" if path in checksums else FIRST_USE,
                    origin=f"crcns://{source.dataset}/{path}",
                )
            )
    version = "listed" if source.version == LATEST else source.version
    return Listing(source_id=source.dataset, version=version, files=tuple(files))


def _walk(
    portal: _Portal,
    source: CrcnsSource,
    folder: str,
    *,
    sizes: dict[str, int | None],
    checksums: dict[str, str],
) -> None:
    """Put every file below `folder` into `sizes` (None where only a rounded size is known)."""
    place = f"{source.dataset}/{folder}".rstrip("/")
    page = portal.page(place)
    if isinstance(page, int):  # listed without a size, and not a folder after all
        sizes[folder] = page
        return
    for name, said in _entries(page, place=place).items():
        path = safe(f"{folder}/{name}".lstrip("/"), where=source.dataset)
        if said is None:
            if _may_hold(path, source.include) and path.count("/") < _DEEPEST:
                _walk(portal, source, path, sizes=sizes, checksums=checksums)
            continue
        exact = _EXACT.fullmatch(said.strip())
        sizes[path] = int(exact[1].replace(",", "")) if exact else None
        if name == CHECKSUMS:
            checksums |= _checksums(portal.text(f"{source.dataset}/{path}"), folder=folder, dataset=source.dataset)


def _entries(page: str, *, place: str) -> dict[str, str | None]:
    """Return what a folder's page links to that lies directly in it: name to what stands in parentheses behind it.

    Raises
    ------
    UserError
        If there is nothing.
    """
    found: dict[str, str | None] = {}
    for href, size in _LINK.findall(page):
        # The address ends in the path, behind `download/` or `fn=`; links to other places are no entries.
        _, here, name = unquote(html.unescape(href)).partition(f"{place}/")
        if here and (name := name.rstrip("/")) and "/" not in name:
            found[name] = size or None
    if not found:
        raise UserError(
            f"crcns.org lists nothing in {place}.",
            mend="check `source.dataset` in the catalogue entry; if it is right, the archive's page has changed",
        )
    return found


def _may_hold(folder: str, include: tuple[str, ...]) -> bool:
    """Tell whether a glob can match `folder` or something below it: its first parts match those of the folder."""
    parts = folder.split("/")
    return any(_reaches(pattern.split("/"), parts) for pattern in include)


def _reaches(steps: list[str], parts: list[str]) -> bool:
    for step, part in zip(steps, parts, strict=False):
        if "**" in step or "{" in step:  # braces may hold a slash: better to look than to miss
            return True
        if not glob.globmatch(part, step, flags=glob.DOTGLOB | glob.FORCEUNIX):
            return False
    return len(steps) >= len(parts)


def _checksums(text: str, *, folder: str, dataset: str) -> Iterator[tuple[str, str]]:
    """Yield path and MD5 of the lines of a `checksums.md5`, whose paths begin at its folder or at the archive."""
    for line in text.splitlines():
        if match := _MD5_LINE.fullmatch(line.strip()):
            path = match[2].removeprefix("./")
            inside = path.removeprefix(f"{dataset}/")
            yield inside if inside != path else f"{folder}/{path}".lstrip("/"), match[1].lower()


class _Portal:
    """A client for the download page, logged in anew with every question. Use it as a context manager.

    Parameters
    ----------
    site
        Address of the page, patience.
    """

    def __init__(self, site: FetchSite) -> None:
        self._site = site
        self._login = crcns_login(site, Surroundings())
        # Redirects are not followed: they would take the password along.
        self._client = httpx2.Client(timeout=site.timeout_s, limits=httpx2.Limits(max_connections=1))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def page(self, path: str) -> str | int:
        """Return the page of a folder, or the length of what turns out to be a file."""
        answer = self._ask(path, lambda answer: _text(answer) if _is_page(answer) else _length(answer, path))
        if isinstance(answer, str) and _LOGIN_PAGE.search(answer):
            raise UserError(
                "crcns.org refuses the login.",
                mend="correct CRCNS_USERNAME and CRCNS_PASSWORD (or machine crcns.org in ~/.netrc)",
            )
        return answer

    def text(self, path: str) -> str:
        """Return a small text file."""
        return self._ask(path, _text)

    def length(self, path: str) -> int:
        """Return the bytes that a file has, as the answer announces them; the answer is given up before its body."""
        return self._ask(path, lambda answer: _length(answer, path))

    def _ask(self, path: str, read: Callable[[httpx2.Response], T]) -> T:
        """Send the form and return what `read` makes of the answer, whose body is not there yet."""
        host = urlsplit(self._site.hosts.crcns).hostname
        if is_offline(self._site):
            raise UserError(f"{host} would have to be asked, and this run is offline.", mend="run without --offline")
        username, password = self._login
        form = {"username": username, "password": password, "fn": path, "submit": "Login"}
        # Compressed answers would announce another length than the file's.
        headers = {"accept-encoding": "identity"}
        reason, asked_s = "", 0.0
        for attempt in range(self._site.attempts):
            if attempt:
                time.sleep(pause_s(attempt, site=self._site, asked_s=asked_s))
            try:
                with self._client.stream("POST", self._site.hosts.crcns, data=form, headers=headers) as answer:
                    if answer.is_success:
                        return read(answer)
                    status, asked_s = answer.status_code, retry_after_s(answer.headers.get("retry-after", ""))
            except httpx2.TransportError as error:
                reason, asked_s = type(error).__name__, 0.0
                continue
            if status not in RETRIED:
                raise UserError(
                    f"{host}: HTTP {status} for {path}.",
                    mend="check `source.dataset` in the catalogue entry and `fetch.hosts.crcns` in site.yaml",
                )
            reason = f"HTTP {status}"
        raise UserError(
            f"{host}: no answer after {self._site.attempts} attempts ({reason}).",
            mend="check the network and try again",
        )


def _is_page(answer: httpx2.Response) -> bool:
    return "html" in answer.headers.get("content-type", "")


def _text(answer: httpx2.Response) -> str:
    content = bytearray()
    for chunk in answer.iter_bytes():
        content += chunk
        if len(content) > _LARGEST_PAGE:
            raise UserError("crcns.org: answered with a page without end.", mend="try again, or tell the archive")
    return content.decode("utf-8", errors="replace")


def _length(answer: httpx2.Response, path: str) -> int:
    said = answer.headers.get("content-length", "")
    if not said.isdigit():
        raise UserError(f"crcns.org does not tell the exact size of {path}.", mend="leave it out with `source.exclude`")
    return int(said)
