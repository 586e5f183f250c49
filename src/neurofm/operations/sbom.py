"""The bill of materials of an image: what is installed in it, asked of the image itself."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from neurofm.containers import Engine, Image, Job, run
from neurofm.environments import python_of
from neurofm.errors import UserError
from neurofm.files import write_atomic

BILLS = Path(".neurofm/images")
_DISTRIBUTIONS = """
import importlib.metadata, json
def licence(meta):
    given = meta.get("License-Expression") or meta.get("License") or ""
    kinds = [line.rpartition(" :: ")[2] for line in meta.get_all("Classifier", []) if line.startswith("License :: ")]
    return given if 0 < len(given) < 80 and "\\n" not in given else (kinds[0] if kinds else "")
print(json.dumps([
    {"name": d.metadata["Name"], "version": d.version, "licence": licence(d.metadata)}
    for d in importlib.metadata.distributions()
]))
"""
_DEBIAN = ("dpkg-query", "--show", "--showformat", "${Package}\t${Version}\n")


def write_bill(name: str, image: Image, *, engine: Engine, root: Path) -> Path:
    """Write what is in an image as CycloneDX JSON, checked against its schema.

    Returns
    -------
    Path
        ``.neurofm/images/<name>.cdx.json``.

    Raises
    ------
    UserError
        If the image does not say what is in it, or the tool's environment cannot be made.
    """
    distributions = json.loads(_said(("python", "-c", _DISTRIBUTIONS), image, engine))
    debian = [line.split("\t") for line in _said(_DEBIAN, image, engine).splitlines()]
    facts: dict[str, Any] = {
        "image": name,
        "digest": image.digest,
        "distributions": sorted(distributions, key=lambda one: (str(one["name"]).lower(), one["version"])),
        "debian": sorted(({"name": package, "version": version} for package, version in debian), key=str),
    }
    python = python_of("sbom", work=root / ".neurofm", root=root)
    worker = Path(__file__).with_name("sbom_worker.py")
    done = subprocess.run(  # noqa: S603  # our own worker
        [str(python), "-I", str(worker)], input=json.dumps(facts), capture_output=True, text=True, check=False
    )
    if done.returncode:
        last = " ".join(done.stderr.split()[-30:])
        raise UserError(f"the bill of materials of {name!r} could not be made: {last}.", mend="report this as a bug")
    path = root / BILLS / f"{name}.cdx.json"
    write_atomic(path, done.stdout.encode())
    return path


def _said(command: tuple[str, ...], image: Image, engine: Engine) -> str:
    lines: list[str] = []
    ending = run(Job(image=image, command=command), engine=engine, on_line=lines.append)
    if not ending.succeeded:
        raise UserError(f"the image {image.name!r} does not say what is in it: {ending.reason}.", mend="build it again")
    return "\n".join(lines)
