"""A request for a file, and what becomes of its secrets when the answer is a redirect."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from urllib.parse import urljoin, urlsplit

MOST_REDIRECTS = 5

_SECRET_HEADERS = ("authorization", "cookie", "x-amz-")
"""Beginnings of the names of headers that are for one host only."""


def is_secret(header: str) -> bool:
    """Tell whether a header is for the host that was asked and for no other."""
    return header.lower().startswith(_SECRET_HEADERS)


def same_place(url: str, other: str) -> bool:
    """Tell whether two addresses have scheme, host and port in common."""
    one, two = urlsplit(url), urlsplit(other)
    return (one.scheme, one.hostname, one.port) == (two.scheme, two.hostname, two.port)


class NoRequest(Exception):
    """There is no request that could bring this file; says why."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """What to send. It may hold secrets: never printed or kept."""

    url: str = field(repr=False)
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    form: Mapping[str, str] | None = field(default=None, repr=False)
    """Fields of a POST; without them the request is a GET."""
    login: str = ""
    """Who refuses a login by answering with a page: ``crcns``."""

    @property
    def host(self) -> str:
        """Host and port, without credentials, for messages."""
        parts = urlsplit(self.url)
        return f"{parts.hostname}:{parts.port}" if parts.port else parts.hostname or ""

    @property
    def has_secrets(self) -> bool:
        """Whether whoever gets this request could act in the user's name."""
        return self.form is not None or any(is_secret(name) for name in self.headers)

    def redirected(self, location: str, *, keep_form: bool) -> Request:
        """Return the request that a redirect asks for.

        Another scheme, host or port gets no credentials: no `Authorization`, no cookie, no form.

        Raises
        ------
        NoRequest
            For an address that is not http(s), or one that would send secrets in the clear.
        """
        url = urljoin(self.url, location)
        old, new = urlsplit(self.url), urlsplit(url)
        if new.scheme not in {"http", "https"}:
            raise NoRequest(f"{self.host} redirects to an address that is not http(s)")
        if (old.scheme, new.scheme) == ("https", "http") and self.has_secrets:
            raise NoRequest(f"{self.host} redirects from https to http, and this request carries credentials")
        if same_place(self.url, url):
            return replace(self, url=url, form=self.form if keep_form else None)
        kept = {name: value for name, value in self.headers.items() if not is_secret(name)}
        return replace(self, url=url, headers=kept, form=None)
