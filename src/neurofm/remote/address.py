"""The address of a remote: which kind it is, what it needs, and that it carries no secret."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.util import find_spec
from urllib.parse import urlsplit

from neurofm.errors import UserError

_CREDENTIALS = "give the address alone; credentials come from the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE ...)"
_SERVER = "write https://s3.lab.example"
_ACCESS_KEY = re.compile(r"(AKIA|ASIA)[A-Z0-9]{12,}|[A-Za-z0-9/+=]{40,}")
"""What AWS's access keys and secrets look like: nobody calls a profile or a region that."""


@dataclass(frozen=True, kw_only=True)
class RemoteKind:
    """One kind of storage that DVC can keep artefacts on."""

    what: str
    plugin: str
    """Package that teaches DVC this kind."""
    example: str

    @property
    def is_installed(self) -> bool:
        """Whether DVC's plugin is in this environment."""
        return not self.plugin or find_spec(self.plugin.replace("-", "_")) is not None


KINDS = {
    "s3": RemoteKind(what="S3", plugin="dvc-s3", example="s3://bucket/neurofm"),
    "gs": RemoteKind(what="Google Cloud Storage", plugin="dvc-gs", example="gs://bucket/neurofm"),
    "azure": RemoteKind(what="Azure Blob Storage", plugin="dvc-azure", example="azure://container/neurofm"),
    "ssh": RemoteKind(what="a folder behind ssh", plugin="dvc-ssh", example="ssh://user@host/data/neurofm"),
    "": RemoteKind(what="a folder", plugin="", example="/data/neurofm"),
}
"""By the scheme of their addresses."""


@dataclass(frozen=True, kw_only=True)
class RemoteAddress:
    """Where a remote is."""

    url: str
    scheme: str
    """A key of `KINDS`."""

    @property
    def kind(self) -> RemoteKind:
        """What is needed for it."""
        return KINDS[self.scheme]

    @property
    def bucket(self) -> str:
        """Bucket or container."""
        return urlsplit(self.url).netloc

    @property
    def prefix(self) -> str:
        """Path inside the bucket, without slashes at its ends."""
        return urlsplit(self.url).path.strip("/")

    def require_plugin(self) -> None:
        """Refuse where DVC lacks the plugin.

        Raises
        ------
        UserError
            With the command that installs it.
        """
        if not self.kind.is_installed:
            raise UserError(
                f"{self.url}: DVC needs its plugin for {self.kind.what}.", mend=f"pip install {self.kind.plugin}"
            )


def parse_address(url: str) -> RemoteAddress:
    """Understand an address as a user writes it.

    Raises
    ------
    UserError
        For an unknown kind, a missing bucket, or anything that looks like a secret.
    """
    scheme, separator, rest = url.partition("://")
    if not separator or scheme == "file":
        return RemoteAddress(url=(rest if separator else url).rstrip("/") or "/", scheme="")
    if scheme not in KINDS:
        raise UserError(
            f"{scheme}:// is no kind of remote that is known here.",
            mend=f"use one of {', '.join(kind.example for kind in KINDS.values())}",
        )
    try:
        parts = urlsplit(url)
    except ValueError:  # its text repeats the address, in which a secret may be
        raise UserError(
            f"{scheme}://: what follows is not the address of a place.", mend=f"write it as {KINDS[scheme].example}"
        ) from None
    if parts.query or parts.fragment or parts.password or (parts.username and scheme != "ssh"):
        raise UserError(
            f"the address of {scheme}://{parts.hostname or ''} carries more than a place.", mend=_CREDENTIALS
        )
    if not parts.netloc:
        raise UserError(f"{url}: names no bucket.", mend=f"write it as {KINDS[scheme].example}")
    return RemoteAddress(url=url.rstrip("/"), scheme=scheme)


def check_endpoint(endpoint: str) -> str:
    """Return an endpoint if it is a plain address of a server.

    Raises
    ------
    UserError
        If it is not, or carries a secret.
    """
    try:
        parts = urlsplit(endpoint)
        parts.port  # noqa: B018  # asking raises for one that is none
    except ValueError:  # its text repeats the address, in which a secret may be
        raise UserError("--endpoint is not the address of a server.", mend=_SERVER) from None
    if parts.username or parts.password or parts.query:
        raise UserError("--endpoint carries more than a place.", mend=_CREDENTIALS)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.path.strip("/"):
        raise UserError(f"--endpoint {endpoint} is not the address of a server.", mend=_SERVER)
    return endpoint.rstrip("/")


def check_name(option: str, value: str) -> str:
    """Return the name of a region, profile or remote if it is one.

    Raises
    ------
    UserError
        If it has characters that no name has, or looks like a key: it is not repeated then.
    """
    if _ACCESS_KEY.fullmatch(value):
        raise UserError(f"{option} looks like a key.", mend=_CREDENTIALS)
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 ._@-]*", value):
        raise UserError(f"{option} {value!r} is not a name.", mend="use letters, digits, `.`, `_`, `-`")
    return value
