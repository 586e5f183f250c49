"""Secrets where others would read them, and FreeSurfer's licence file."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path

from neurofm.errors import UserError
from neurofm.fmriprep.folders import LICENCE, find_licence
from neurofm.operations.doctor.finding import Finding, note, ok, problem
from neurofm.operations.doctor.place import Place

_SECRET_KEYS = (
    "secret_access_key",
    "session_token",
    "access_key_id",
    "sse_customer_key",
    "password",
    "token",
    "sas_token",
    "account_key",
    "connection_string",
    "client_secret",
    "oss_key_secret",
    "gdrive_client_secret",
)
"""Options of DVC's remotes that are secrets: they belong into ``.dvc/config.local``."""
_SHAPES = {
    "an AWS key": r"(AKIA|ASIA)[0-9A-Z]{16}",
    "an AWS secret": r"aws_secret_access_key[\"']?[[:space:]]*[=:][[:space:]]*[\"']?[A-Za-z0-9/+]{40}",
    "a private key": r"-----BEGIN ([A-Z]+ )?PRIVATE KEY-----",
    "an Azure key": r"AccountKey=[A-Za-z0-9/+]{60,}",
    "a GitLab token": r"glpat-[A-Za-z0-9_-]{20}",
    "a GitHub token": r"gh[pousr]_[A-Za-z0-9]{36}",
}
"""What secrets look like, as extended regular expressions."""
_IN_ENVIRONMENT = re.compile(r"(SECRET|PASSWORD|TOKEN|ACCOUNT_KEY|SAS)", re.IGNORECASE)
_SHORTEST = 12
"""Shorter values of the environment may stand in files by chance."""
_NOTHING_TRACKED = ("params.yaml", "site.yaml", ".dvc/config", "dvc.yaml")


def secrets(place: Place) -> Iterator[Finding]:
    """Look for secrets in DVC's shared configuration, in settings and in what git tracks; none is ever printed."""
    found = [*_in_dvc_config(place.root / ".dvc" / "config"), *_in_tracked_files(place)]
    yield from found
    local = place.root / ".dvc" / "config.local"
    if local.is_file() and stat.S_IMODE(local.stat().st_mode) & 0o077 and any(_secret_options(local)):
        yield note(f"{local} holds a key, and others on this machine may read it", mend=f"chmod 600 {local}")
    if not found:
        yield ok("none in .dvc/config, settings and what git tracks now (its history was not searched)")


def _secret_options(path: Path) -> Iterator[str]:
    """Yield the options of a file of DVC's that hold secrets: ``storage.password``."""
    section = ""
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        text = line.strip()
        if text.startswith("["):
            section = text.strip("[]'\" ").removeprefix('remote "').rstrip('"')
        name, equals, value = (part.strip() for part in text.partition("="))
        if equals and value and name in _SECRET_KEYS:
            yield f"{section} {name}"
        if equals and name == "url" and re.search(r"://[^/@:]+:[^/@]+@", value):
            yield f"{section} url"


def _in_dvc_config(path: Path) -> Iterator[Finding]:
    if not path.is_file():
        return
    for option in _secret_options(path):
        section, _, name = option.rpartition(" ")
        remote = section.removeprefix("remote ").strip("'\"")
        mend = (
            f"dvc remote modify --unset {remote} {name} && dvc remote modify --local {remote} {name} VALUE"
            if name != "url"
            else f"dvc remote modify {remote} url ADDRESS, and the user and password with --local"
        )
        yield problem(
            f"{path.relative_to(path.parents[1])}: `{name}` of {remote} is a secret, and git has it", mend=mend
        )


def _in_tracked_files(place: Place) -> Iterator[Finding]:
    """Search with `git grep`; and settings that git does not track, by the same shapes."""
    mend = "take it out, revoke it where it was issued (git remembers), and give it by the environment"
    for what, shape in _SHAPES.items():
        listed = place.git("grep", "-I", "-l", "-E", "-e", shape, "--") or ""
        also = [
            name
            for name in _NOTHING_TRACKED
            if (path := place.root / name).is_file() and re.search(_plain(shape), path.read_text(errors="replace"))
        ]
        for name in sorted({*listed.splitlines(), *also}):
            yield problem(f"{name}: {what} stands there", mend=mend)
    for variable, value in os.environ.items():
        # By standard input, since command lines are for everybody to read.
        if _IN_ENVIRONMENT.search(variable) and len(value) >= _SHORTEST and "\n" not in value:
            for name in (place.git("grep", "-I", "-l", "-F", "-f", "-", told=f"{value}\n") or "").splitlines():
                yield problem(f"{name}: the value of ${variable} stands there", mend=mend)


def _plain(shape: str) -> str:
    return shape.replace("[[:space:]]", r"\s")


def licence(_: Place) -> Iterator[Finding]:
    """Look at FreeSurfer's licence file, as fMRIPrep's runs do."""
    if not os.environ.get(LICENCE):
        yield ok(f"{LICENCE} is not set; only fMRIPrep needs it")
        return
    try:
        path = find_licence(os.environ)
    except UserError as error:
        yield problem(error.problem.removesuffix("."), mend=error.mend)
        return
    yield ok(f"{LICENCE}: {path}")
