"""EEG and MEG that were recorded at once: the sample's one file of both, as shards and as a fold sees them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.params import load_params
from neurofm.preprocess import preprocess_recording
from neurofm.recording import Channels, Modality, Recording
from neurofm.shards import Provenance, write_shard
from neurofm.splits import Splits, SplitSettings, candidate_of, make_splits
from neurofm.windows import RecordingView, WindowsSettings, load_views

PROJECT = Path(__file__).resolve().parent.parent
DATASETS = ("mne-sample-eeg", "mne-sample-meg")
RECORDING = "sub-sample_task-audiovisual"
WINDOW, PATCH = 40, 10
WINDOWS = WindowsSettings.parse(
    {str(modality): {"window_samples": WINDOW, "patch_samples": PATCH} for modality in Modality}, where="", mend=""
)
SPLIT = SplitSettings(seed=1, folds=3)
_EVERY = 7


@dataclass(frozen=True)
class AtOnce:
    """Two recordings of 24 s in three folds of time blocks."""

    shards: Path
    splits: Splits

    def views(self, fold: int = 0) -> list[RecordingView]:
        """EEG, then MEG."""
        return load_views(self.splits, fold=fold, shards=self.shards)


def write_at_once(folder: Path, recording_of: Callable[[str], Recording]) -> AtOnce:
    """Preprocess, write and split both."""
    preprocess = load_params(PROJECT).preprocess
    candidates = []
    for dataset in DATASETS:
        entry = load_entry(dataset, root=PROJECT)
        some = thinned(recording_of(dataset))
        done = preprocess_recording(some, settings=preprocess.of(entry.modality), common=preprocess.common)
        path = folder / dataset / f"{RECORDING}.zarr.zip"
        provenance = Provenance(
            archive="registry",
            source_id="eeglabio",
            version="0.1.4",
            files=(("test_raw.fif", "sha256:b1db"),),
            licence=entry.licence,
            citation=entry.citation,
            libraries={},
        )
        write_shard(done, provenance=provenance, path=path)
        candidates.append(candidate_of(path, entry=entry))
    return AtOnce(shards=folder, splits=make_splits(candidates, settings=SPLIT, window_samples=WINDOWS.window_samples))


def thinned(recording: Recording) -> Recording:
    """Keep every seventh channel: few are quicker, and of a Vectorview's MEG they are of both kinds."""
    kept, table = slice(None, None, _EVERY), recording.channels
    assert recording.signal is not None
    channels = Channels(
        id=table.id[kept],
        position=table.position[kept],
        position_unit=table.position_unit,
        space=table.space,
        quality={name: column[kept] for name, column in table.quality.items()},
    )
    signal = replace(recording.signal, values=recording.signal.values[:, kept])
    return replace(recording, channels=channels, signal=signal)
