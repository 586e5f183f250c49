"""DVC's default remote: whether it answers, lets us in, and may be read and written; and the clock it goes by.

A thin check through DVC's own filesystem object, so that what is tried is what `dvc push` and `dvc pull` use.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import botocore.exceptions
import botocore.session
import httpx2
from dvc_objects.fs.errors import RemoteMissingDepsError

from neurofm.operations.doctor.finding import Finding, note, ok, problem
from neurofm.operations.doctor.place import PATIENCE_S, Place, ask
from neurofm.operations.dvc import ConfigError

_HOW = "dvc remote add --default storage s3://BUCKET/FOLDER"
_PROBE = ".neurofm-doctor"
"""An object that is written, read and removed again."""
_CONTENT = b"neurofm doctor was here\n"
_SKEW_S = 900.0
"""S3 refuses requests whose clock is further off."""
_NOTED_SKEW_S = 60.0
_FIND_CREDENTIALS = {
    "s3": "export AWS_PROFILE=NAME (after `aws configure --profile NAME`), or AWS_ACCESS_KEY_ID and "
    "AWS_SECRET_ACCESS_KEY",
    "gs": "gcloud auth application-default login",
    "azure": "az login, or export AZURE_STORAGE_CONNECTION_STRING",
}


def remote(place: Place) -> Iterator[Finding]:
    """Try the default remote: its plugin, its credentials, whether it answers, may be read, and may be written."""
    with place.dvc() as repo:
        name, config = _default(repo)
        if not name:
            others = ", ".join(sorted(repo.config["remote"]))
            yield note(
                f"no default remote ({f'there are {others}' if others else 'none at all'}): nobody else gets the data",
                mend=f"dvc remote default {others.split(', ')[0]}" if others else _HOW,
            )
            return
        if config is None:
            yield problem(f"core.remote is {name!r}, and there is no such remote", mend=_HOW)
            return
        yield from _try(repo, name, config)


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


def credentials_found(config: Mapping[str, Any]) -> str | None:
    """Say where credentials for a remote come from, never what they are.

    Returns
    -------
    str or None
        The provider; empty where none is needed or nobody can tell before; None where there is none.
    """
    scheme = urlsplit(str(config.get("url", ""))).scheme
    if scheme == "s3":
        if config.get("allow_anonymous_login"):
            return ""
        if config.get("access_key_id"):
            return ".dvc/config.local"
        session = botocore.session.Session(profile=config.get("profile"))
        if config.get("credentialpath"):
            session.set_config_variable("credentials_file", config["credentialpath"])
        found = session.get_credentials()
        return str(found.method) if found else None
    if scheme == "gs":
        named = os.environ.get("GOOGLE_APPLICATION_CREDENTIALS") or config.get("credentialpath")
        usual = Path("~/.config/gcloud/application_default_credentials.json").expanduser()
        return "GOOGLE_APPLICATION_CREDENTIALS" if named else "gcloud" if usual.is_file() else None
    return ""


def without_password(url: str) -> str:
    """Return an address without the user and password that may stand in it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _try(repo: Any, name: str, config: dict[str, Any]) -> Iterator[Finding]:
    """Go as `dvc push` would: plugin, credentials, server, list, write."""
    url = without_password(str(config["url"]))
    scheme = urlsplit(url).scheme or "local"
    if scheme == "s3":
        # For this process only: else a dead server is asked for minutes.
        config.update({"connect_timeout": PATIENCE_S, "read_timeout": PATIENCE_S})
    try:
        found = repo.cloud.get_remote(name)
    except (ImportError, RemoteMissingDepsError):
        yield problem(f"{name} ({url}): DVC's plugin is not here", mend=f"uv pip install dvc-{scheme}")
        return
    except ConfigError as error:
        yield problem(f"{name} ({url}): {' '.join(str(error).split())}", mend=f"dvc remote modify {name} url URL")
        return
    try:
        provider = credentials_found(config)
    except botocore.exceptions.BotoCoreError as error:
        yield problem(f"{name} ({url}): {error}", mend=_FIND_CREDENTIALS[scheme])
        return
    if provider is None:
        yield problem(f"{name} ({url}): no credentials found", mend=_FIND_CREDENTIALS[scheme])
        return
    if server := endpoint(config):
        try:
            _head(server)
        except httpx2.HTTPError as error:
            yield problem(
                f"{name} ({url}): {without_password(server)} does not answer ({' '.join(str(error).split())})",
                mend=f"start it, or name another: dvc remote modify {name} "
                f"{'endpointurl' if scheme in {'s3', 'gs'} else 'url'} URL",
            )
            return
    said = f"{name} ({url})" + (f", credentials of {provider}" if provider else "")
    if scheme in {"http", "https"}:
        yield ok(f"{said}: answers")
        return
    yield from _probe(found, said=said, mend=_FIND_CREDENTIALS.get(scheme, "ask whoever owns it for access"))


def _probe(found: Any, *, said: str, mend: str) -> Iterator[Finding]:
    """List the remote, then write an object, read it and remove it."""
    fs, path = found.fs.fs, str(found.path)
    target = f"{path.rstrip('/')}/{_PROBE}"
    refusal = _complaint(lambda: fs.ls(path))
    is_missing = isinstance(refusal, FileNotFoundError)  # Nothing was pushed yet, or there is no such bucket.
    if refusal and not is_missing:
        yield problem(f"{said}: may not be read ({_line(refusal)})", mend=mend)
        return

    def write() -> None:
        found.fs.makedirs(path, exist_ok=True)
        fs.pipe_file(target, _CONTENT)
        if fs.cat_file(target) != _CONTENT:
            raise OSError("what was written reads otherwise")
        fs.rm_file(target)

    complaint = _complaint(write)
    if complaint is None:
        yield ok(f"{said}: reads and writes{', and is empty' if is_missing else ''}")
    elif is_missing:
        yield problem(f"{said}: is not there, and cannot be made ({_line(complaint)})", mend=mend)
    elif isinstance(complaint, PermissionError):
        yield note(f"{said}: reads, and may not be written ({_line(complaint)}): pull only", mend=mend)
    else:
        yield problem(f"{said}: reads, and does not take anything ({_line(complaint)})", mend="make room there")


def _complaint(action: Callable[[], object]) -> Exception | None:
    try:
        action()
    except (OSError, botocore.exceptions.BotoCoreError, botocore.exceptions.ClientError) as error:
        return error
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _head(url: str) -> httpx2.Response:
    """Ask a server for anything; whatever it answers shows that it is there. No credentials go with it."""
    return httpx2.head(url, timeout=PATIENCE_S, verify=False)  # the signed request checks the certificate
