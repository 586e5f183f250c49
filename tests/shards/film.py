"""A shard of a real recording: one child's film in 116 parcels."""

from __future__ import annotations

from pathlib import Path
from unittest.mock import patch

import numpy as np

from neurofm.recording import Channels, Clock, Events, Modality, Recording, Signal
from neurofm.shards import Provenance, write_shard

PROVENANCE = Provenance(
    archive="local",
    source_id="ds000228",
    version="1",
    files=(),
    licence="PDDL",
    citation="Richardson (2018)",
    libraries={},
)


def write_film(path: Path, *, shared_data: Path) -> None:
    """Write the shard, 168 volumes in chunks of 15: as small as they are, so that there are twelve."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with patch("neurofm.shards.write.CHUNK_BYTES", 15 * 116 * 2):
        write_shard(recording_of(shared_data), provenance=PROVENANCE, path=path)


def recording_of(shared_data: Path) -> Recording:
    """A real child's film in 116 parcels, 168 volumes."""
    series = min((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*AAL*"))
    values = np.load(series)
    return Recording(
        dataset="ds000228",
        subject="openneuro-ds000228:pixar001",
        session="",
        run="",
        task="pixar",
        species="Homo sapiens",
        modality=Modality.FMRI,
        channels=Channels(
            id=tuple(f"AAL-{parcel}" for parcel in range(values.shape[1])),
            position=np.full((values.shape[1], 3), np.nan),
            position_unit="",
        ),
        clock=Clock(id="ds000228/pixar001"),
        signal=Signal(values=values, sampling_rate_hz=0.5, units="SD"),
        valid=np.arange(len(values)) > 3,
        events=Events(onset_s=np.array([]), duration_s=np.array([]), label=()),
    )
