"""DVC's default remote: whether it can be used; and whether this machine's clock goes by its."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlsplit

import botocore.session
import httpx2

from neurofm.errors import UserError
from neurofm.operations.doctor.finding import Finding, note, ok, problem
from neurofm.operations.doctor.place import PATIENCE_S, Place, ask
from neurofm.operations.dvc import ConfigError
from neurofm.operations.remote import push_problems, remote_line, require_verified
from neurofm.remote.probe import probe_remote
from neurofm.remote.project import NoRemote, read_settings

_SKEW_S = 900.0
"""S3 refuses requests whose clock is further off."""
_NOTED_SKEW_S = 60.0


def remote(place: Place) -> Iterator[Finding]:
    """Try the default remote as `neurofm remote use` does: an object is written, read back and removed."""
    try:
        with place.dvc():  # Where DVC cannot work, that is said in one way.
            settings = read_settings(place.root)
    except NoRemote as error:
        yield note(f"{error.problem.rstrip('.')}: nobody else gets the data", mend=error.mend)
        return
    access = probe_remote(settings)
    said = remote_line(place.root)
    if access.write:
        yield ok(f"{said}: may read and write")
    else:
        yield note(f"{said}: this key pulls, and does not push", mend="to push, use a key that may write")
    try:
        require_verified(settings)
    except UserError as error:
        yield note(error.problem.rstrip("."), mend=error.mend)
    for line in push_problems(place.root):
        what, _, mend = line.partition(" Mend: ")
        yield problem(what, mend=mend)


def clock(place: Place) -> Iterator[Finding]:
    """Compare this machine's clock with the remote's; without one, with the disk's and with what NTP says."""
    compared: list[str] = []
    amiss: list[Finding] = []
    with suppress(httpx2.HTTPError, ConfigError):
        url = _endpoint_of(place)
        date = parse_date(_head(url).headers.get("date", "")) if url else None
        if date is not None:
            compared.append(str(urlsplit(url).hostname))
            amiss += _skewed(time.time() - date, whose=compared[-1])
    probe = place.root / ".dvc" / "tmp" / f"clock-{os.getpid()}"
    probe.parent.mkdir(parents=True, exist_ok=True)
    try:
        probe.write_bytes(b"")
        amiss += _skewed(time.time() - probe.stat().st_mtime, whose="this disk")
        compared.append("this disk")
    finally:
        probe.unlink(missing_ok=True)
    said = ask(["timedatectl", "show", "--property=NTPSynchronized", "--value"])
    if said is not None and said.code == 0 and said.out.strip() == "no" and len(compared) == 1:
        amiss.append(note("no NTP keeps the clock, and S3 refuses 15 minutes", mend="sudo timedatectl set-ntp true"))
    yield from amiss or [ok(f"agrees with {' and '.join(compared)}")]


def parse_date(header: str) -> float | None:
    """Return the seconds since 1970 that a ``Date`` header tells, or None."""
    try:
        return parsedate_to_datetime(header).timestamp()
    except ValueError:
        return None


def _skewed(seconds: float, *, whose: str) -> Iterator[Finding]:
    if abs(seconds) <= _NOTED_SKEW_S:
        return
    said = f"this clock is {abs(seconds) / 60:.0f} minutes {'ahead of' if seconds > 0 else 'behind'} that of {whose}"
    mend = "sudo timedatectl set-ntp true"
    yield problem(f"{said}: S3 refuses it", mend=mend) if abs(seconds) > _SKEW_S else note(said, mend=mend)


def _default(repo: Any) -> tuple[str, dict[str, Any] | None]:
    """Return the default remote's name and its section of DVC's configuration."""
    name = str(repo.config["core"].get("remote") or "")
    return name, repo.config["remote"].get(name.lower()) if name else None


def _endpoint_of(place: Place) -> str:
    with place.dvc() as repo:
        _, config = _default(repo)
        return endpoint(config) if config else ""


def endpoint(config: Mapping[str, Any]) -> str:
    """Return the web address that a remote is reached at; empty where it has none.

    Parameters
    ----------
    config
        The remote's section of DVC's configuration.
    """
    url = str(config.get("url", ""))
    scheme = urlsplit(url).scheme
    if scheme == "s3":
        client = botocore.session.Session(profile=config.get("profile")).create_client(
            "s3", region_name=config.get("region") or "us-east-1", endpoint_url=config.get("endpointurl")
        )
        return str(client.meta.endpoint_url)
    if scheme in {"http", "https"}:
        return url
    if scheme in {"webdav", "webdavs"}:
        return url.replace("webdav", "http", 1)
    if scheme == "gs":
        return str(config.get("endpointurl") or "https://storage.googleapis.com")
    account = config.get("account_name") or os.environ.get("AZURE_STORAGE_ACCOUNT")
    return f"https://{account}.blob.core.windows.net" if scheme == "azure" and account else ""


def _head(url: str) -> httpx2.Response:
    """Ask a server for anything; whatever it answers shows that it is there. No credentials go with it."""
    return httpx2.head(url, timeout=PATIENCE_S, verify=False)  # the signed request checks the certificate
