"""Gaps in time of an EDF+ or BDF+ file, which MNE reads as if there were none."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

_ONSET = re.compile(rb"([+-]\d+(?:\.\d+)?)\x14")
_TOLERANCE_S = 1e-3
"""Onsets are decimal texts; devices round them."""
_LONGEST_ONSET = 64


@dataclass(frozen=True, kw_only=True)
class Gap:
    """Where a discontinuous recording stops, and goes on."""

    stops_s: float
    resumes_s: float


def gaps_of(path: Path) -> tuple[Gap, ...]:
    """Find the gaps of a file that calls itself discontinuous (``EDF+D``, ``BDF+D``).

    The onset of each data record stands first in the record's annotations (EDF+ specification 2.2.4, Kemp and
    Olivan 2003, 10.1016/S1388-2457(03)00123-8). Many devices write ``+D`` without ever pausing.

    Returns
    -------
    tuple
        Empty for files that are continuous, whatever they call themselves.

    Raises
    ------
    ValueError
        If the header is damaged.
    """
    with path.open("rb") as file:
        fixed = file.read(256)
        if b"+D" not in fixed[192:197]:
            return ()
        n_records, record_s, n_signals = int(fixed[236:244]), float(fixed[244:252]), int(fixed[252:256])
        fields = file.read(256 * n_signals)
        names = [fields[16 * i : 16 * (i + 1)].decode("latin-1").strip() for i in range(n_signals)]
        samples = [int(fields[216 * n_signals + 8 * i : 216 * n_signals + 8 * (i + 1)]) for i in range(n_signals)]
        width = 3 if path.suffix.lower() == ".bdf" else 2
        annotations = next((i for i, name in enumerate(names) if name.endswith("Annotations")), None)
        if annotations is None:
            raise ValueError("it calls itself EDF+ but has no annotations, which hold the times of its records")
        begin, step = 256 * (n_signals + 1) + width * sum(samples[:annotations]), width * sum(samples)
        if n_records < 0:
            # The recording was not closed: the size tells how many there are.
            n_records = (path.stat().st_size - 256 * (n_signals + 1)) // step
        onsets: list[float] = []
        for record in range(n_records):
            file.seek(begin + record * step)
            onset = _ONSET.match(file.read(_LONGEST_ONSET))
            if onset is None:
                raise ValueError(f"its record {record} does not say when it began")
            onsets.append(float(onset[1]))
    return tuple(
        Gap(stops_s=one + record_s, resumes_s=other)
        for one, other in pairwise(onsets)
        if abs(other - one - record_s) > _TOLERANCE_S
    )
