"""Keys: two runs of a unit with equal keys give equal bytes."""

from __future__ import annotations

import ast
import hashlib
import json
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any


def unit_key(
    *,
    inputs: Mapping[str, str],
    params: Mapping[str, Any],
    code: Mapping[str, str],
    libraries: Mapping[str, str],
    container: str = "",
) -> str:
    """Digest of all that a unit's result depends on.

    Parameters
    ----------
    inputs
        Digest per input file.
    params
        The settings that its steps read.
    code
        Version and `code_digest` per step module it runs.
    libraries
        Versions of the libraries whose arithmetic ends up in the result.
    container
        Image digest, where it runs in one.

    Returns
    -------
    64 hex digits.
    """
    content = {
        "inputs": dict(inputs),
        "params": dict(params),
        "code": dict(code),
        "libraries": dict(libraries),
        "container": container,
    }
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


_DECIDING = tuple(
    f"neurofm.{room}" for room in ("eeg", "model", "parcels", "preprocess", "readers", "shards", "windows")
)
"""Rooms whose code decides the bytes of a result, wherever it is imported from."""


_SOURCES = Path(__file__).parents[2]


def code_digest(module: str) -> str:
    """Digest of what a module does, and of the modules that decide bytes among those that it builds on.

    The digest is of syntax trees without comments, layout and docstrings: a forgotten version bump would keep
    stale results, but a new comment should not cost a day of preprocessing.
    """
    rooms = tuple(f"{room}." for room in (module.rpartition(".")[0], *_DECIDING))
    trees: dict[str, str] = {}
    left = [module]
    while left:
        name = left.pop()
        if name in trees:
            continue
        tree = _tree(name)
        trees[name] = ast.dump(tree)
        left += [found for found in _imports(tree) if found in _DECIDING or found.startswith(rooms)]
    return hashlib.sha256(json.dumps(trees, sort_keys=True).encode()).hexdigest()[:16]


def _tree(module: str) -> ast.Module:
    path = _source(module)
    if path is None:
        raise ValueError(f"{module} has no source file")
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            # Docstrings, and the literal texts under fields.
            node.body = [line for line in body if not _is_text(line)]  # type: ignore[attr-defined]  # has a body
    return tree


def _imports(tree: ast.Module) -> list[str]:
    """Names of modules imported anywhere in `tree`, also as ``from package import module``."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module is not None:
            found.append(node.module)
            found += [name for alias in node.names if _is_module(name := f"{node.module}.{alias.name}")]
    return found


def _is_module(name: str) -> bool:
    return name.startswith("neurofm.") and _source(name) is not None


def _source(module: str) -> Path | None:
    """Return a module's file. One of neurofm is not imported for it, since that would load what it rests on."""
    if not module.startswith("neurofm."):
        spec = find_spec(module)
        return Path(spec.origin) if spec is not None and spec.origin is not None else None
    place = _SOURCES.joinpath(*module.split("."))
    return next((path for path in (place.with_suffix(".py"), place / "__init__.py") if path.is_file()), None)


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
