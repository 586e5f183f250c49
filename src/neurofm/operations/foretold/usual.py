"""What stages usually cost, where nothing like it was run here yet.

Taken on 2 shared cores (README's sample: 8 datasets, 33 files) and rounded up. They are starting points: from the first
run on, what was paid here stands above them.
"""

from __future__ import annotations

from dataclasses import dataclass

from neurofm.recording import Modality


@dataclass(frozen=True, kw_only=True)
class Usual:
    """Figures of one stage."""

    start_s: float
    """Seconds before it has done anything: Python, libraries, worker processes."""
    seconds_per: float
    """Seconds per amount of work (`Work.amount`)."""
    base_mb: float
    """Memory of a process that has done nothing yet, MiB."""
    mb_per_mb: float
    """Memory per byte of what it holds at once (`Work.held_bytes`)."""


USUAL: dict[str, Usual] = {
    "manifest": Usual(start_s=3.0, seconds_per=0.01, base_mb=170.0, mb_per_mb=0.0),
    "download": Usual(start_s=3.5, seconds_per=0.0, base_mb=185.0, mb_per_mb=0.0),
    # Not taken here, where fMRIPrep never ran: the order of what it takes with FreeSurfer's surfaces, on some cores.
    "derivatives": Usual(start_s=8.0, seconds_per=18_000.0, base_mb=250.0, mb_per_mb=0.0),
    "preprocess": Usual(start_s=8.5, seconds_per=0.0, base_mb=250.0, mb_per_mb=3.0),
    "stream": Usual(start_s=9.0, seconds_per=0.0, base_mb=250.0, mb_per_mb=3.0),
    "split": Usual(start_s=3.0, seconds_per=0.05, base_mb=170.0, mb_per_mb=0.0),
    "pretrain": Usual(start_s=8.0, seconds_per=0.055, base_mb=800.0, mb_per_mb=20.0),
    "finetune": Usual(start_s=12.0, seconds_per=0.055, base_mb=800.0, mb_per_mb=20.0),
    "evaluate": Usual(start_s=5.0, seconds_per=2.5, base_mb=500.0, mb_per_mb=20.0),
    "connectivity": Usual(start_s=6.0, seconds_per=0.5, base_mb=350.0, mb_per_mb=3.0),
    "slice": Usual(start_s=6.0, seconds_per=15.0, base_mb=500.0, mb_per_mb=20.0),
    "report": Usual(start_s=6.0, seconds_per=0.4, base_mb=450.0, mb_per_mb=5.0),
}
"""Per stage. `seconds_per` is per file (manifest), participant (derivatives), recording (split, report), step of a
model of the sample's size (pretrain, finetune), fold and recording (evaluate), recording of fMRI (connectivity),
modality (slice); a download's is the bandwidth, and preprocessing's the modality's. The memory of derivatives is that
of the stage: what its containers take stands in its options."""

SECONDS_PER_GB: dict[Modality, float] = {
    Modality.SPIKES: 100.0,
    Modality.CALCIUM: 60.0,
    Modality.MINISCOPE: 60.0,
    Modality.FMRI: 200.0,
    Modality.EEG: 60.0,
    Modality.MEG: 60.0,
}
"""Seconds of one core per 10^9 bytes of raw files."""

FIRST_UNIT_S = 2.2
"""What the first recording of a process takes longer than those after it: it loads the libraries."""
MODEL_BYTES = 5_000_000
"""Of one fold's model: most of it is the linear core's moments."""
TUNING_STEPS_PER_MB = 130.0
"""What choosing the linear core costs beside training, in steps of the sample's model per 10^6 bytes of shards."""
SAMPLE_MODEL = 2 * 64**2 * 24
"""Layers x width^2 x windows in a batch of the model that `pretrain` was timed with."""
