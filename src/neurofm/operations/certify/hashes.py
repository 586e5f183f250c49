"""Hashes: outputs, DVC's copies of them, and what stages read, against dvc.lock. No digest of earlier is believed."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dvc_data.hashfile.hash_info import HashInfo
from dvc_data.hashfile.tree import Tree

from neurofm.errors import UserError
from neurofm.operations.certify.finding import Finding, Part, Status
from neurofm.operations.certify.outputs import Output, Outputs, named, run_dvc, said
from neurofm.operations.tables import size_text
from neurofm.progress import Progressing

_OWN = ("src/", "stages/", "data/catalog", "params.yaml")
"""Inputs that git keeps. Others are outputs, which are compared as such, or raw files."""
_FOLDER = ".dir"
"""How DVC ends the digest of a folder; the object of that name lists the folder's files."""


def compare_outputs(outputs: Outputs) -> Iterator[Finding]:
    """Compare every output with dvc.lock, each file hashed anew."""
    with Progressing("hash outputs", total=sum(out.size for out in outputs.all), unit="bytes") as progress:
        for out in outputs.all:
            yield _compared(out, outputs)
            progress.advance(out.size, note=out.path)


def _compared(out: Output, outputs: Outputs) -> Finding:
    path = outputs.root / out.path
    facts = f"{size_text(out.size)}, md5 {out.md5}"
    if not path.exists():
        mend = f"`dvc pull {out.path}`" if out.cached else f"`git checkout {out.path}`"
        return Finding(part=Part.ARTEFACTS, item=out.path, status=Status.NOT_REBUILT, detail="not here", mend=mend)
    files = _hashed(path)
    if _digest(files) == out.md5:
        return Finding(part=Part.ARTEFACTS, item=out.path, status=Status.EQUAL, detail=facts)
    mend = (
        f"`dvc checkout --force {out.path}` takes it from DVC's cache, `dvc repro {out.stage}` makes it anew"
        if out.cached
        else f"`git checkout {out.path}`, or `dvc repro {out.stage}` and commit dvc.lock with it"
    )
    detail = _which(_listed(out, outputs), files) or f"not what dvc.lock has: {facts}"
    return Finding(part=Part.ARTEFACTS, item=out.path, status=Status.DIFFERS, detail=detail, mend=mend)


def _hashed(path: Path) -> dict[str, str]:
    """Return MD5 per file of a folder, by relative path; of a file under an empty name."""
    if path.is_file():
        return {"": md5_of(path)}
    return {file.relative_to(path).as_posix(): md5_of(file) for file in sorted(path.rglob("*")) if file.is_file()}


def _digest(files: Mapping[str, str]) -> str:
    """Return what DVC calls these files."""
    if "" in files:
        return files[""]
    tree = Tree()  # type: ignore[no-untyped-call]
    for name, md5 in files.items():
        tree.add(tuple(name.split("/")), None, HashInfo("md5", md5))
    tree.digest()
    return str(tree.oid)


def _listed(out: Output, outputs: Outputs) -> dict[str, str] | None:
    """Return MD5 per file of a folder as it was, from the list in DVC's cache; None if it is not there or no list."""
    try:
        listed = json.loads(outputs.object(out.md5).read_bytes()) if out.md5.endswith(_FOLDER) else None
    except (OSError, ValueError):
        return None
    return None if listed is None else {entry["relpath"]: entry["md5"] for entry in listed}


def _which(listed: Mapping[str, str] | None, here: Mapping[str, str]) -> str:
    """Say which files of a folder differ."""
    if listed is None:
        return ""
    told = (
        ("changed", [name for name in listed if name in here and here[name] != listed[name]]),
        ("missing", sorted(listed.keys() - here.keys())),
        ("added", sorted(here.keys() - listed.keys())),
    )
    return "; ".join(f"{word}: {named(names)}" for word, names in told if names)


def compare_cache(outputs: Outputs) -> Iterator[Finding]:
    """Hash every object of DVC's cache that outputs name: what is pushed and checked out comes from there.

    To be done before DVC is asked anything, since it removes a damaged object where it comes upon one.
    """
    names: dict[str, str] = {}
    for out in outputs.all:
        if out.cached:
            names[out.md5] = out.path
            names |= {md5: f"{out.path}/{name}" for name, md5 in (_listed(out, outputs) or {}).items()}
    objects = {outputs.object(md5): md5 for md5 in sorted(names) if outputs.object(md5).is_file()}
    size = sum(path.stat().st_size for path in objects)
    damaged = 0
    with Progressing("hash DVC's cache", total=size, unit="bytes") as progress:
        for path, md5 in objects.items():
            if md5_of(path) != md5.removesuffix(_FOLDER):
                damaged += 1
                mend = f"`rm -f {path}`, then `dvc pull`, or `dvc commit -f` where the workspace's copy is whole"
                detail = f"its copy {path} is damaged"
                yield Finding(part=Part.CACHE, item=names[md5], status=Status.DIFFERS, detail=detail, mend=mend)
            progress.advance(path.stat().st_size)
    if objects and not damaged:
        detail = "every object has the digest that it is named after"
        yield Finding(part=Part.CACHE, item=f"{len(objects)} objects", status=Status.EQUAL, detail=detail)


def compare_inputs(outputs: Outputs) -> Iterator[Finding]:
    """Compare code, settings and other inputs of every stage with dvc.lock, as DVC does."""
    stages = sorted({out.stage for out in outputs.all})
    with tempfile.TemporaryDirectory(prefix="neurofm-dvc-") as memory:  # Else DVC believes what it remembers.
        done = run_dvc(outputs.root, "status", "--json", DVC_SITE_CACHE_DIR=memory)
    if done.returncode:
        raise UserError(f"`dvc status` failed: {said(done)}.", mend="run it by hand to see more")
    status: dict[str, list[Any]] = json.loads(done.stdout)
    inputs = {stage: _inputs(status.get(stage, [])) for stage in stages}
    absent = {stage: found.absent for stage, found in inputs.items() if found.absent}
    changed = {stage: found.changed for stage, found in inputs.items() if found.changed}
    for stage, lacking in absent.items():
        detail = f"not here, so not compared: {named(lacking)}"
        mend = "bring them (`dvc pull`, or the folder that they are in) and certify again"
        yield Finding(part=Part.CODE, item=stage, status=Status.NOT_REBUILT, detail=detail, mend=mend)
    for stage, found in changed.items():
        detail = f"it last ran with other inputs: {named(found)}"
        mend = f"`dvc repro {stage}`, then commit dvc.lock"
        yield Finding(part=Part.CODE, item=stage, status=Status.DIFFERS, detail=detail, mend=mend)
    if not changed and not absent:
        detail = "code, settings and inputs are those that dvc.lock names"
        yield Finding(part=Part.CODE, item=f"{len(stages)} stages", status=Status.EQUAL, detail=detail)


@dataclass(frozen=True, kw_only=True)
class _Inputs:
    """What of a stage's inputs is not as it was."""

    changed: list[str]
    absent: list[str]
    """Raw files, which need not be here."""


def _inputs(entries: list[Any]) -> _Inputs:
    changed: list[str] = []
    absent: list[str] = []
    for entry in entries:
        if entry == "changed command":
            changed.append("its command")
        elif isinstance(entry, dict):
            for path, how in entry.get("changed deps", {}).items():
                if how == "deleted" and not path.startswith(_OWN):
                    absent.append(path)
                else:  # Of params.yaml DVC names the keys.
                    changed += list(how) if isinstance(how, Mapping) else [f"{path} ({how})"]
    return _Inputs(changed=changed, absent=absent)


def md5_of(path: Path) -> str:
    """Return the hex MD5 of a file's bytes, DVC's digest."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
