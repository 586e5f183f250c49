"""Where packages come from on this machine: what pip has been told, so that a site's own index is honoured.

Read from the places that pip documents (https://pip.pypa.io/en/stable/topics/configuration/), by the same names and
in the same order of precedence, rather than by asking pip: an environment made by uv has no pip, and the print of
``pip config`` is not a stable format.
"""

from __future__ import annotations

import configparser
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError

PYPI = "https://pypi.org/simple"
_SECTIONS = ("global", "install", "download")
_LEAST_TIMEOUT_S = 15.0


@dataclass(frozen=True, kw_only=True)
class PipSettings:
    """What pip's configuration says of package indexes. Each field bears the name of pip's option."""

    index_urls: tuple[str, ...] = (PYPI,)
    """``index-url``, then each ``extra-index-url``; empty with ``no-index``. May hold credentials: never print."""
    find_links: tuple[str, ...] = ()
    """Folders and pages that list archives."""
    trusted_hosts: tuple[str, ...] = ()
    cert: str | None = None
    """Bundle of certificate authorities."""
    client_cert: str | None = None
    proxy: str | None = None
    timeout_s: float = _LEAST_TIMEOUT_S


def read_pip_settings(environ: Mapping[str, str] | None = None) -> PipSettings:
    """Read pip's settings: environment variables ``PIP_*`` before the site's, the user's and the machine's file.

    Parameters
    ----------
    environ
        Environment variables; the process's own by default.

    Raises
    ------
    UserError
        If a configuration file is not readable, or a value is not what its name asks for.
    """
    environ = os.environ if environ is None else environ
    options = _file_options(environ) | _environment_options(environ)
    indexes = (options.get("index-url", PYPI), *options.get("extra-index-url", "").split())
    return PipSettings(
        index_urls=() if _is_true(options.get("no-index", "")) else indexes,
        find_links=tuple(options.get("find-links", "").split()),
        trusted_hosts=tuple(options.get("trusted-host", "").split()),
        cert=options.get("cert"),
        client_cert=options.get("client-cert"),
        proxy=options.get("proxy"),
        timeout_s=_timeout_s(options),
    )


def _config_files(environ: Mapping[str, str]) -> list[Path]:
    """Return pip's configuration files, the least important first."""
    own = environ.get("PIP_CONFIG_FILE", "")
    if own == os.devnull:
        return []
    home = Path(environ.get("HOME", "~")).expanduser()
    machine = [Path(folder, "pip", "pip.conf") for folder in environ.get("XDG_CONFIG_DIRS", "/etc/xdg").split(":")]
    user = Path(environ.get("XDG_CONFIG_HOME") or home / ".config", "pip", "pip.conf")
    files = [*machine, Path("/etc/pip.conf"), home / ".pip" / "pip.conf", user, Path(sys.prefix, "pip.conf")]
    return [*files, Path(own)] if own else files


def _file_options(environ: Mapping[str, str]) -> dict[str, str]:
    options: dict[str, str] = {}
    for path in _config_files(environ):
        parser = configparser.RawConfigParser()
        try:
            parser.read(path, encoding="utf-8")
        except (configparser.Error, UnicodeDecodeError):
            raise UserError(f"{path}: not readable as pip's configuration.", mend="correct or remove it") from None
        for section in _SECTIONS:
            if parser.has_section(section):
                options |= {name.replace("_", "-"): value for name, value in parser.items(section) if value}
    return options


def _environment_options(environ: Mapping[str, str]) -> dict[str, str]:
    prefix = "PIP_"
    return {
        name.removeprefix(prefix).lower().replace("_", "-"): value
        for name, value in environ.items()
        if name.startswith(prefix) and value
    }


def _is_true(value: str) -> bool:
    return value.lower() in {"1", "true", "yes", "on", "y", "t"}


def _timeout_s(options: Mapping[str, str]) -> float:
    value = options.get("timeout") or options.get("default-timeout") or str(_LEAST_TIMEOUT_S)
    try:
        return max(float(value), _LEAST_TIMEOUT_S)
    except ValueError:
        raise UserError(f"pip's setting `timeout` is {value!r}.", mend="give it in seconds") from None
