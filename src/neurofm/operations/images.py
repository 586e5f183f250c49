"""The project's images: which are here, how they are built and brought."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from rich.table import Table

from neurofm.containers import Engine, Pin, find_engine, find_image, read_pins
from neurofm.containers.image import lock_digest, short
from neurofm.errors import UserError
from neurofm.fetch.pip_settings import PYPI, read_pip_settings
from neurofm.operations.tables import name_cell, table
from neurofm.params import Site

_INSIDE_CA = "/etc/ssl/certs/ca-certificates.crt"
_INSIDE_CACHE = "/tmp/uv"  # noqa: S108  # of the container that builds
_BASE_OVERRIDE = "NEUROFM_BASE_IMAGE"
"""Variable of the environment: another base than the pinned one, for sites without a way to Docker Hub."""


@dataclass(frozen=True, kw_only=True)
class Presence:
    """Whether an image is here, and is the right one."""

    name: str
    pin: Pin
    digest: str
    """What is here; empty if nothing is, or the wrong one."""
    problem: str


def presence(root: Path, *, engine: Engine) -> list[Presence]:
    """Look for every image of ``containers/images.yaml``."""
    found = []
    for name, pin in read_pins(root).items():
        digest, problem = "", ""
        try:
            digest = find_image(name, engine=engine, root=root).digest
        except UserError as error:
            problem = f"{error.problem} Mend: {error.mend}"
        found.append(Presence(name=name, pin=pin, digest=digest, problem=problem))
    return found


def presence_table(found: list[Presence], *, width: int) -> Table:
    """Render what is here."""
    made = table("image", "pinned", "verified", "here", "for", width=width)
    for item in found:
        pinned = short(item.pin.digest) if item.pin.digest else "by requirements.lock"
        made.add_row(
            name_cell(item.name, width=width),
            pinned,
            "yes" if item.pin.verified else "no",
            short(item.digest) or "no",
            item.pin.purpose,
        )
    return made


def container_problems(site: Site, *, root: Path) -> list[str]:
    """Say what would stop stages from running in a container, where site.yaml asks for it."""
    if not site.container:
        return []
    try:
        find_image(site.image, engine=find_engine(site.engine), root=root)
    except UserError as error:
        return [str(error)]
    return []


def build_image(name: str, *, engine: Engine, root: Path) -> None:
    """Build one of the project's images.

    Packages come from where pip is told to take them (index, find-links, certificates), and out of uv's cache.

    Raises
    ------
    UserError
        If it is not one that is built here, if the engine does not build, or the build fails (its output stands above).
    """
    pins = read_pins(root)
    pin = pins.get(name)
    if pin is None or not pin.built_from:
        built = ", ".join(key for key, value in pins.items() if value.built_from)
        raise UserError(f"{name!r} is not an image that is built here.", mend=f"choose one of {built}")
    command = build_command(pin, engine=engine, root=root, base=pins["python"].address)
    done = subprocess.run(command, check=False, cwd=root)  # noqa: S603  # the engine's own program
    if done.returncode:
        raise UserError(
            f"the image {name!r} could not be built (exit code {done.returncode}).",
            mend="read what the build says above; docs/containers.md tells what it needs",
        )


def build_command(pin: Pin, *, engine: Engine, root: Path, base: str) -> list[str]:
    """Return the command that builds an image.

    Raises
    ------
    UserError
        If the engine does not build images.
    """
    if engine.is_apptainer:
        raise UserError(
            "apptainer does not build from a Containerfile.",
            mend="build with podman or docker elsewhere, and convert the image (docs/containers.md, apptainer)",
        )
    arguments = {**pin.build, "LOCK": lock_digest(root), "BASE": os.environ.get(_BASE_OVERRIDE) or base}
    line = [engine.program, "build", "--network", "host", "--file", pin.built_from, "--tag", pin.reference]
    if engine.is_podman:
        # No intermediate image: it would be as large as the one that is kept, and is of no use with the next lock.
        line += ["--layers=false"]
        for source, target in _build_mounts(arguments):
            line += ["--volume", f"{source}:{target}"]
    for key, value in sorted(arguments.items()):
        line += ["--build-arg", f"{key}={value}"]
    return [*line, "."]


def _build_mounts(arguments: dict[str, str]) -> Iterator[tuple[str, str]]:
    """Yield what the build sees of this machine, and add the arguments that lead there."""
    settings = read_pip_settings()
    certificates = settings.cert or os.environ.get("SSL_CERT_FILE", "")
    if certificates and Path(certificates).is_file():
        arguments |= {"PIP_CERT": _INSIDE_CA, "SSL_CERT_FILE": _INSIDE_CA}
        yield certificates, f"{_INSIDE_CA}:ro"
    folders = [link for link in settings.find_links if Path(link).is_dir()]
    for folder in folders:
        yield folder, f"{folder}:ro"
    if folders:
        arguments["UV_FIND_LINKS"] = ",".join(folders)
    if settings.index_urls and settings.index_urls[0] != PYPI:
        arguments |= {"PIP_INDEX_URL": settings.index_urls[0], "UV_DEFAULT_INDEX": settings.index_urls[0]}
    cache = Path(os.environ.get("UV_CACHE_DIR") or Path.home() / ".cache" / "uv")
    if cache.is_dir():
        yield str(cache), _INSIDE_CACHE
