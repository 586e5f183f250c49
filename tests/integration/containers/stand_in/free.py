#!/usr/bin/env python3
"""``free -m`` as procps 4 prints it: ``--mebi`` of the machine, whatever the container may take."""

from __future__ import annotations

import sys
from pathlib import Path

KIB = {
    name: int(rest.split()[0])
    for name, _, rest in (line.partition(":") for line in Path("/proc/meminfo").read_text().splitlines())
}
COLUMNS = ("total", "used", "free", "shared", "buff/cache", "available")
MEMORY = (
    KIB["MemTotal"],
    KIB["MemTotal"] - KIB["MemAvailable"],
    KIB["MemFree"],
    KIB.get("Shmem", 0),
    KIB["Buffers"] + KIB["Cached"] + KIB.get("SReclaimable", 0),
    KIB["MemAvailable"],
)
SWAP = (KIB["SwapTotal"], KIB["SwapTotal"] - KIB["SwapFree"], KIB["SwapFree"])

for name, cells in (("", COLUMNS), ("Mem:", MEMORY), ("Swap:", SWAP)):
    words = [cell if isinstance(cell, str) else f"{cell >> 10}" for cell in cells]
    sys.stdout.write(f"{name:9}" + " ".join(f"{word:>11}" for word in words) + "\n")
