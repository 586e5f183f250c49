"""An image that is here, and is the one that is meant."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from neurofm.containers.engine import Engine
from neurofm.containers.pins import Pin, pin_of
from neurofm.errors import UserError

LOCK_LABEL = "org.neurofm.lock"
"""Label of the project's images: SHA-256 of the requirements.lock that they were built from."""
TORCH_LABEL = "org.neurofm.torch"
"""``cpu``, ``cuda`` or ``none``."""
LOCK = Path("requirements.lock")
SIFS = Path(".neurofm/images")
"""Where apptainer's images lie."""
_SHORT = 12


@dataclass(frozen=True, kw_only=True)
class Image:
    """An image that was found and verified."""

    name: str
    run_by: str
    """What the engine is told: an id, or the path of apptainer's file, so that what was verified is what runs."""
    digest: str
    """Recorded: of its manifest where the engine knows that, else its id; what apptainer's file only says it was
    converted from, begins with ``unverified:``."""
    labels: Mapping[str, str] = field(default_factory=dict)


def lock_digest(root: Path) -> str:
    """Digest of this checkout's ``requirements.lock``, as the label of its images has it."""
    return hashlib.sha256((root / LOCK).read_bytes()).hexdigest()


def sif_path(name: str, pin: Pin, *, root: Path) -> Path:
    """Return where apptainer's file of an image lies: its name holds the digest, or that of the lock."""
    content = pin.digest.removeprefix("sha256:") if pin.digest else lock_digest(root)
    name = name.partition("@")[0].rpartition("/")[2]
    return root / SIFS / f"{name}-{content[:16]}.sif"


def how_to_get(name: str, pin: Pin, *, engine: Engine, root: Path) -> str:
    """Return the command that brings an image."""
    if pin.built_from and not engine.is_apptainer:
        return f"neurofm container build {name}"
    if not engine.is_apptainer:
        return f"{engine.name} pull {pin.address}"
    sif = sif_path(name, pin, root=root)
    source = f"docker-archive:{name}.tar" if pin.built_from else f"docker://{pin.address}"
    before = f"(where podman is: podman save -o {name}.tar {pin.reference}) && " if pin.built_from else ""
    return f"{before}{Path(engine.program).name} build {sif} {source}"


def find_image(name: str, *, engine: Engine, root: Path) -> Image:
    """Find an image, and make sure that it is the pinned one.

    Parameters
    ----------
    name
        In ``containers/images.yaml``, or an address with a digest.
    engine
        In whose store it is looked for.
    root
        The project's root.

    Raises
    ------
    UserError
        If it is not here (with the command that brings it), if what is here is another one (both are named), or if it
        was built from another ``requirements.lock``.
    """
    pin = pin_of(name, root=root)
    get = how_to_get(name, pin, engine=engine, root=root)
    image = _from_file(name, pin, engine=engine, root=root) if engine.is_apptainer else _from_store(name, pin, engine)
    if image is None:
        raise UserError(f"{engine.name} has no image {name!r} ({pin.address}).", mend=get)
    if pin.built_from or LOCK_LABEL in image.labels:
        built, here = image.labels.get(LOCK_LABEL, "no lock of ours"), lock_digest(root)
        if built != here:
            raise UserError(
                f"the image {name!r} was built from another requirements.lock: {built[:16]}, here it is {here[:16]}.",
                mend=get if pin.built_from else "name an image in site.yaml that was built from this commit",
            )
    return image


def _from_store(name: str, pin: Pin, engine: Engine) -> Image | None:
    """Look in the store of podman or docker: by digest, then by tag, which may be another image."""
    facts = _inspect(pin.address, engine)
    if facts is None and pin.address != pin.reference:
        facts = _inspect(pin.reference, engine)
    if facts is None:
        return None
    image_id = _with_kind(str(facts["Id"]))
    digests = [entry.partition("@")[2] for entry in facts.get("RepoDigests") or [] if "@" in entry]
    if own := facts.get("Digest"):
        digests.insert(0, own)
    # A registry knows an image by its manifest; where one was loaded from a file, the id of its configuration is all
    # that some engines know. Both are digests of the content.
    if pin.digest and pin.digest not in {*digests, image_id}:
        there = next(iter(digests), image_id)
        raise UserError(
            f"the image {pin.reference!r} of {engine.name} is {there}, pinned is {pin.digest}.",
            mend=f"{engine.name} pull {pin.address}",
        )
    labels = (facts.get("Config") or {}).get("Labels") or facts.get("Labels") or {}
    digest = pin.digest or next(iter(digests), image_id)
    return Image(name=name, run_by=image_id, digest=digest, labels=labels)


def _inspect(reference: str, engine: Engine) -> dict[str, Any] | None:
    done = engine.ask("image", "inspect", reference)
    if done.returncode:
        return None
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found[0] if found else None


def _from_file(name: str, pin: Pin, *, engine: Engine, root: Path) -> Image | None:
    """Look for apptainer's file.

    It is a conversion: its own bytes have another digest than the image, and differ from one conversion to the next. So
    the lock can be compared, where it is an image of ours; the digest of what it was converted from cannot.
    """
    path = sif_path(name, pin, root=root)
    if not path.is_file():
        return None
    done = engine.ask("inspect", "--json", "--labels", str(path))
    labels: dict[str, str] = {}
    if not done.returncode:
        said = json.loads(done.stdout)
        labels = said.get("data", {}).get("attributes", {}).get("labels") or {}
    digest = f"unverified:{pin.digest}" if pin.digest else f"lock:{labels.get(LOCK_LABEL, '')}"
    return Image(name=name, run_by=str(path.resolve()), digest=digest, labels=labels)


def _with_kind(digest: str) -> str:
    return digest if digest.startswith("sha256:") else f"sha256:{digest}"


def short(digest: str) -> str:
    """Return the beginning of a digest, for people."""
    kind, _, value = digest.rpartition(":")
    return f"{kind}:{value[:_SHORT]}" if digest else ""
