"""Which images the project uses, pinned: `containers/images.yaml`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from neurofm.errors import UserError
from neurofm.settings import Settings

IMAGES = Path("containers/images.yaml")
DIGEST = r"^sha256:[0-9a-f]{64}$"
Digest = Annotated[str, Field(pattern=DIGEST)]


class Pin(Settings):
    """An image that the project uses.

    One that is pulled has a digest: that of its manifest (or of the list of manifests of all platforms), as its
    registry has it. One that is built here has none: what counts is that it was built from this checkout's
    ``requirements.lock``, which a label of it tells.
    """

    reference: str
    """Registry, name and tag."""
    digest: Digest | None = None
    built_from: str = ""
    """Its Containerfile, for one that is built here."""
    build: dict[str, str] = Field(default_factory=dict)
    """Build arguments."""
    platforms: tuple[str, ...]
    """``linux/amd64``..."""
    purpose: str
    verified: bool
    """Whether its registry was asked for the digest, or it was built and run; else `evidence` says what is known."""
    evidence: str = ""

    @model_validator(mode="after")
    def _pulled_or_built(self) -> Pin:
        if bool(self.digest) == bool(self.built_from):
            raise ValueError("an image has either a digest or a `built_from`")
        return self

    @property
    def repository(self) -> str:
        """The reference without its tag."""
        head, _, last = self.reference.rpartition("/")
        return f"{head}/{last.partition(':')[0]}" if head else last.partition(":")[0]

    @property
    def address(self) -> str:
        """What to pull: by digest where there is one."""
        return f"{self.repository}@{self.digest}" if self.digest else self.reference


class _Images(Settings):
    images: dict[str, Pin]


def read_pins(root: Path = Path()) -> dict[str, Pin]:
    """Read ``containers/images.yaml``: the project's images by name.

    Raises
    ------
    UserError
        In one line that names the key.
    """
    path = root / IMAGES
    mend = "take the file from git again, or correct that key; docs/containers.md says what each one means"
    try:
        content = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: not readable: {' '.join(str(error).split())}.", mend=mend) from None
    return _Images.parse(content, where=str(path), mend=mend).images


def pin_of(name: str, *, root: Path) -> Pin:
    """Return the pin of a name in images.yaml, or make one of an address with a digest.

    Raises
    ------
    UserError
        If it is neither.
    """
    pins = read_pins(root)
    if name in pins:
        return pins[name]
    repository, _, digest = name.partition("@")
    if repository and re.fullmatch(DIGEST, digest):
        return Pin(reference=repository, digest=digest, platforms=(), purpose="named in site.yaml", verified=False)
    raise UserError(
        f"no image {name!r}: it is neither in {IMAGES} nor an address with a digest.",
        mend=f"choose one of {', '.join(pins)}, or write `registry/name@sha256:...`",
    )
