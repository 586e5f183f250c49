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
_ASK = """
import importlib.metadata, json, pathlib, subprocess
def licences(meta):
    given = meta.get("License-Expression") or meta.get("License") or ""
    kinds = [line.rpartition(" :: ")[2] for line in meta.get_all("Classifier", []) if line.startswith("License :: ")]
    return [given] if 0 < len(given) < 80 and "\\n" not in given else kinds[:1]
def debian_licences(package):
    try:
        text = pathlib.Path("/usr/share/doc", package, "copyright").read_text("utf-8", "replace")
    except OSError:
        return []
    if "copyright-format/1.0" not in text.partition("\\n\\n")[0]:
        return []
    names = {line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("License:")}
    return sorted(names - {""})
packages = ["dpkg-query", "--show", "--showformat", "${Package} ${Version}\\n"]
debian = [line.split() for line in subprocess.run(packages, check=True, stdout=-1, text=True).stdout.splitlines()]
print(json.dumps({
    "distributions": [
        {"name": d.metadata["Name"], "version": d.version, "licences": licences(d.metadata)}
        for d in importlib.metadata.distributions()
    ],
    "debian": [
        {"name": name, "version": version, "licences": debian_licences(name)} for name, version in debian
    ],
}))
"""
"""Run in the image. Of Debian's packages, those with a machine-readable copyright file (DEP 5) tell their licences."""


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
    said = json.loads(_said(("python", "-c", _ASK), image, engine))
    facts: dict[str, Any] = {
        "image": name,
        "digest": image.digest,
        **{kind: sorted(said[kind], key=_by_name) for kind in ("distributions", "debian")},
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


def _by_name(package: dict[str, Any]) -> tuple[str, str]:
    return str(package["name"]).lower(), str(package["version"])


def _said(command: tuple[str, ...], image: Image, engine: Engine) -> str:
    lines: list[str] = []
    ending = run(Job(image=image, command=command), engine=engine, on_line=lines.append)
    if not ending.succeeded:
        raise UserError(f"the image {image.name!r} does not say what is in it: {ending.reason}.", mend="build it again")
    return "\n".join(lines)
