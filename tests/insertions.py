"""An IBL session as an ALF tree, laid out as ``ibl-brain-wide-map-public`` has it, from real recordings.

Spike trees of IBL itself cannot be had here. Spikes are those of mouse A2929 (7 head direction cells and 8 cells of
CA1, one shank per insertion, with their sorter's artefact and noise clusters), the wheel is its heading, unwound, and
the tracked place is that of its head; trials are those of IBL's mouse CQ002. Of the unit table, firing rates are
measured; labels, electrodes and their places are made up, in the archive's form.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import numpy as np
import pandas as pd

from neurofm.catalog import load_entry
from neurofm.readers import ReaderInput
from neurofm.recording import Modality
from neurofm.sources.recordings import recordings_of

PROJECT = Path(__file__).resolve().parent.parent
SESSION = "cortexlab/Subjects/A2929/2020-07-11/001"
PROBES = ("probe00", "probe01")
SORTING = "pykilosort"
RATE_HZ = 20_000
END_S = 1190.0
AD, CA1 = 64, 382
"""Numbers of the anterodorsal nucleus and of field CA1 in the Allen ontology."""
_TRIALS = "ibl_alf_photometry_CQ002/cortexlab/Subjects/CQ002/2024-11-05/001/alf/task_00/_ibl_trials.table.pqt"


def insertions(root: Path, shared: Path) -> Path:
    """Lay out a session of two insertions below `root`; returns its folder."""
    ephys = shared / "ephys"
    session = root / SESSION
    for shank, (probe, structure) in enumerate(zip(PROBES, (AD, CA1), strict=True), start=1):
        folder = session / "alf" / probe / SORTING
        folder.mkdir(parents=True)
        mouse = ephys / "neurosuite_A2929-200711" / "A2929-200711"
        cluster = np.loadtxt(f"{mouse}.clu.{shank}", dtype=np.int32)[1:]
        time_s = np.loadtxt(f"{mouse}.res.{shank}", dtype=np.int64) / RATE_HZ
        _put_units(folder, time_s[time_s < END_S], cluster[time_s < END_S], structure=structure)
    alf = session / "alf"
    trials = pd.read_parquet(ephys / _TRIALS)
    trials[trials["intervals_1"] < END_S].to_parquet(alf / "_ibl_trials.table.pqt")
    with h5py.File(ephys / "neurosuite_A2929-200711" / "A2929-200711.nwb") as file:
        heading = file["acquisition/CompassDirection/ry"]
        np.save(alf / "_ibl_wheel.timestamps.npy", heading["timestamps"][()])
        np.save(alf / "_ibl_wheel.position.npy", np.unwrap(heading["data"][()]))
        place = file["acquisition/Position"]
        np.save(alf / "_ibl_leftCamera.times.npy", place["x/timestamps"][()])
        x, y = place["x/data"][()], place["z/data"][()]
    sure = np.where(np.arange(len(x)) % 10 == 0, 0.5, 0.99)
    pd.DataFrame({"nose_tip_x": x, "nose_tip_y": y, "nose_tip_likelihood": sure}).to_parquet(
        alf / "_ibl_leftCamera.lightningPose.pqt"
    )
    pd.DataFrame({"pupilDiameter_raw": x, "pupilDiameter_smooth": y}).to_parquet(alf / "_ibl_leftCamera.features.pqt")
    return session


def _put_units(folder: Path, time_s: np.ndarray, cluster: np.ndarray, *, structure: int) -> None:
    """Put one sorting: a last cluster without spikes, and no metrics of it, as IBL leaves such out."""
    np.save(folder / "spikes.times.npy", time_s)
    np.save(folder / "spikes.clusters.npy", cluster)
    counts = np.bincount(cluster)
    n = len(counts) + 1
    label = np.ones(n - 1)
    label[:2], label[-1] = 0, 2 / 3
    pd.DataFrame(
        {
            "cluster_id": np.arange(n - 1),
            "firing_rate": counts / END_S,
            "presence_ratio": np.linspace(0.5, 1, n - 1),
            "slidingRP_viol": (label > 0).astype(np.int64),
            "label": label,
            "ks2_label": ["mua", "mua", *["good"] * (n - 3)],
        }
    ).to_parquet(folder / "clusters.metrics.pqt")
    np.save(folder / "clusters.channels.npy", np.arange(n))
    electrodes = np.arange(n + 2)
    np.save(folder / "channels.brainLocationIds_ccf_2017.npy", np.where(electrodes > 8, 0, structure))
    np.save(folder / "channels.mlapdv.npy", np.stack([electrodes * 0 + 1200.0, electrodes * 20.0, -electrodes], axis=1))
    np.save(folder / "channels.localCoordinates.npy", np.stack([electrodes * 0 + 27.0, electrodes * 20.0], axis=1))


def input_of(root: Path, index: int = 0, *, modality: Modality = Modality.SPIKES) -> ReaderInput:
    """Return what the reader is given for one of the tree's recordings, as ``ibl-brainwide`` groups files."""
    entry = load_entry("ibl-brainwide", root=PROJECT)
    paths = [path.relative_to(root).as_posix() for path in sorted(root.rglob("*")) if path.is_file()]
    found = recordings_of(paths, entry.recordings, namespace=entry.subject_namespace, where=entry.id)
    return ReaderInput(dataset=entry.id, modality=modality, species=entry.species, root=root, entry=found[index])


def copied(tree: Path, to: Path) -> Path:
    """Return a copy of a tree that a test may damage."""
    return Path(shutil.copytree(tree, to))
