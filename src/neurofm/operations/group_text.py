"""Groups of datasets in ``params.yaml``, rewritten as text: lines that stay keep their comments and blank lines.

A YAML round trip hangs the comment behind a group's last dataset on that dataset, and loses or moves it when the
dataset leaves; so the groups, whose form is simple, are edited line by line.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")


def with_group(text: str, group: str, datasets: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the text of a YAML file in which the top-level section `group` holds exactly `datasets`.

    Parameters
    ----------
    text
        Of the whole file. A section that is not there is put at its end.
    group
        ``datasets``, ``streamed`` or ``local``.
    datasets
        Facts by id. A dataset whose facts are as they were keeps its lines.
    """
    lines = text.splitlines(keepends=True)
    start = next((number for number, line in enumerate(lines) if re.match(rf"{group}\s*:", line)), None)
    if start is None:
        return text.rstrip("\n") + "\n\n" + "".join(_written(group, {}, datasets))
    stop = start + 1
    for number in range(start + 1, len(lines)):
        line = lines[number]
        if line.strip() and not line.startswith((" ", "#")):
            break
        if line.startswith(" "):
            stop = number + 1  # blank lines and comments at the margin belong to what follows
    header = lines[start].rstrip("\n")
    comment = re.search(r"(?<=\s)#.*$", header)
    written = _written(group, _items(lines[start + 1 : stop]), datasets)
    if comment:
        written[0] = f"{written[0].rstrip().ljust(comment.start() - 1)} {comment.group(0)}\n"
    return "".join([*lines[:start], *written, *lines[stop:]])


def _items(lines: list[str]) -> dict[str, tuple[Any, str]]:
    """Return the facts and the lines of each dataset; a comment above a dataset belongs to it."""
    items: dict[str, tuple[Any, str]] = {}
    chunk = ""
    indent = next((len(line) - len(line.lstrip()) for line in lines if not line.lstrip().startswith(("#", "\n"))), 0)
    starts = re.compile(rf" {{{indent}}}[^\s#]")
    has_key = False
    for line in [*lines, ""]:
        if chunk and has_key and (not line or starts.match(line) or line.lstrip().startswith("#")):
            content = _loaded(chunk)
            if isinstance(content, dict) and len(content) == 1:
                ((name, facts),) = content.items()
                items[str(name)] = (facts, chunk)
            chunk, has_key = "", False
        chunk += line
        has_key = has_key or bool(starts.match(line))
    return items


def _loaded(text: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text)
    except YAMLError:
        return None


def _written(group: str, old: Mapping[str, tuple[Any, str]], datasets: Mapping[str, Mapping[str, Any]]) -> list[str]:
    if not datasets:
        return [f"{group}: {{}}\n"]
    lines = [f"{group}:\n"]
    indent = re.match(r" *", next((chunk for _, chunk in old.values()), "  ")).group(0)  # type: ignore[union-attr]
    for name, facts in datasets.items():
        if name in old and old[name][0] == dict(facts):
            lines.append(old[name][1])
        else:
            written = ", ".join(f"{key}: {_scalar(value)}" for key, value in facts.items())
            lines.append(f"{indent}{name}: {{{written}}}\n")
    return lines


def _scalar(value: Any) -> str:
    if isinstance(value, bool | int | float) or _PLAIN.fullmatch(str(value)):
        return str(value)
    return "'" + str(value).replace("'", "''") + "'"
