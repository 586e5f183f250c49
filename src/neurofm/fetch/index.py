"""Find a package's distribution on the indexes that this machine's pip uses, with the library `unearth`."""

from __future__ import annotations

import logging
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast
from urllib.parse import urlsplit

import httpx2
from unearth import Link, PackageFinder
from unearth.auth import MultiDomainBasicAuth
from unearth.fetchers import Fetcher
from unearth.fetchers.sync import PyPIClient

from neurofm.catalog import RegistrySource
from neurofm.errors import UserError
from neurofm.fetch.pip_settings import PipSettings

_ABSENT = "does not have it"
_SILENT = {"http": "does not have it, or is neither https nor one of pip's trusted-host"}


@contextmanager
def open_session(settings: PipSettings) -> Iterator[PyPIClient]:
    """Open an HTTP session with the site's certificates, proxy, timeout and credentials (URL, netrc or keyring).

    It never asks for a password: a stage may run where nobody sits.

    Raises
    ------
    UserError
        If a certificate that pip is told to use cannot be loaded.
    """
    # Asked for in the words of the transport: a catalogue pins bytes, so nothing may be decoded on the way.
    headers = {"Accept-Encoding": "identity"}
    try:
        verify: ssl.SSLContext | bool = ssl.create_default_context(cafile=settings.cert) if settings.cert else True
        session = PyPIClient(
            trusted_hosts=settings.trusted_hosts,
            verify=verify,
            cert=settings.client_cert,
            proxy=settings.proxy,
            timeout=settings.timeout_s,
            follow_redirects=True,
            headers=headers,
        )
    except (OSError, ValueError) as error:
        raise UserError(
            f"pip's settings of `cert`, `client-cert` or `proxy` cannot be used: {error}.",
            mend="correct them (environment variables PIP_CERT, PIP_CLIENT_CERT, PIP_PROXY, or pip.conf)",
        ) from None
    session.auth = MultiDomainBasicAuth(prompting=False, index_urls=settings.index_urls)
    with session:
        yield session


def find_distribution(source: RegistrySource, *, session: PyPIClient, settings: PipSettings, packages: str) -> Link:
    """Return the link to the distribution that the catalogue pins, wherever this machine's pip would find it.

    Places that are near (``find-links``) are asked first; since the digest is pinned, the order decides speed only.

    Parameters
    ----------
    source
        Names the package, version and file.
    session, settings
        From `open_session` and `read_pip_settings`.
    packages
        Folder where the user may put the file by hand, for the error.

    Raises
    ------
    UserError
        If no place has the file, or none can be reached; says what each place answered.
    """
    places = [(url, False) for url in settings.find_links] + [(url, True) for url in settings.index_urls]
    answers = []
    for url, is_index in places:
        with _warnings_of_unearth() as said:
            try:
                # One place at a time: a place that cannot be reached must not hide the next.
                finder = PackageFinder(
                    cast("Fetcher", session),  # its own client, which it annotates more narrowly than it is
                    index_urls=[url] if is_index else [],
                    find_links=[] if is_index else [url],
                    trusted_hosts=settings.trusted_hosts,
                    ignore_compatibility=True,
                )
                for package in finder.find_matches(f"{source.package}=={source.version}", allow_yanked=True):
                    if package.link.filename == source.filename:
                        return package.link
                answers.append(f"{place_name(url)}: {said[-1] if said else _SILENT.get(urlsplit(url).scheme, _ABSENT)}")
            except (httpx2.HTTPError, httpx2.InvalidURL, OSError, ValueError) as error:
                answers.append(f"{place_name(url)}: {type(error).__name__} {error}".rstrip())
    raise UserError(
        f"{source.package} {source.version}: {source.filename} was found nowhere ({'; '.join(answers) or 'no index'}).",
        mend="check the network and pip's index settings (PIP_INDEX_URL, PIP_EXTRA_INDEX_URL, PIP_FIND_LINKS), "
        f"or put the file at {packages}/{source.filename}",
    )


def place_name(url: str) -> str:
    """Return the host of an index (or the folder) without credentials, for messages."""
    parts = urlsplit(url)
    return parts.hostname or parts.path or url


class _Collector(logging.Handler):
    """Keeps what a logger says, one line each."""

    def __init__(self) -> None:
        super().__init__(level=logging.WARNING)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the reason, which unearth puts last; the address before it is already known."""
        reason = record.args[-1] if isinstance(record.args, tuple) and record.args else record.getMessage()
        self.lines.append(" ".join(str(reason).split()))


@contextmanager
def _warnings_of_unearth() -> Iterator[list[str]]:
    """Catch the warnings by which unearth tells that a place cannot be read, instead of printing them."""
    logger = logging.getLogger("unearth")
    collector = _Collector()
    propagate, logger.propagate = logger.propagate, False
    logger.addHandler(collector)
    try:
        yield collector.lines
    finally:
        logger.removeHandler(collector)
        logger.propagate = propagate
