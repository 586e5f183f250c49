"""Processor: what this machine's arithmetic is done by."""

from __future__ import annotations

import hashlib
import json
import platform
from functools import cache
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
_IDENTITY = ("vendor_id", "cpu family", "model", "model name", "stepping")


def processor_facts() -> dict[str, str]:
    """Return what the first core says it is; its instructions as a digest, since virtual machines hide models."""
    if not _CPUINFO.is_file():
        return {"machine": platform.machine(), "model name": platform.processor()}
    first = _CPUINFO.read_text(encoding="utf-8", errors="replace").split("\n\n")[0]
    facts: dict[str, str] = {}
    for line in first.splitlines():
        name, _, value = line.partition(":")
        facts[name.strip()] = value.strip()
    flags = " ".join(sorted(facts.get("flags", facts.get("Features", "")).split()))
    named = {name: facts[name] for name in _IDENTITY if name in facts}
    instructions = hashlib.sha256(flags.encode()).hexdigest()[:12]
    return {"machine": platform.machine(), **named, "instructions": instructions}


@cache
def processor_id() -> str:
    """Return 12 hex digits that stand for the kind of processor: equal ones round alike with equal libraries."""
    return hashlib.sha256(json.dumps(processor_facts(), sort_keys=True).encode()).hexdigest()[:12]
