"""Selection: a part of a dataset's subjects, the same ones every time and everywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from neurofm.recording import Manifest, ManifestRecording


def chosen_recordings(
    recordings: Sequence[ManifestRecording], *, max_subjects: int | None
) -> tuple[ManifestRecording, ...]:
    """Keep the recordings of at most so many subjects.

    Subjects are ordered by the SHA-256 of their archive-qualified id: as good as by lot, yet the same on every machine,
    and a larger number contains the subjects of a smaller one.

    Parameters
    ----------
    recordings
        Of one dataset.
    max_subjects
        None keeps all.

    Returns
    -------
    tuple of ManifestRecording
        In the order given.
    """
    if max_subjects is None:
        return tuple(recordings)
    subjects = {recording.subject for recording in recordings}
    order = sorted(subjects, key=lambda subject: hashlib.sha256(subject.encode()).hexdigest())
    kept = frozenset(order[:max_subjects])
    return tuple(recording for recording in recordings if recording.subject in kept)


def used_paths(recordings: Sequence[ManifestRecording]) -> frozenset[str]:
    """Return every path that a recording reads or may read."""
    return frozenset(path for recording in recordings for path in (*recording.files.values(), *recording.extra))


def of_subjects(manifest: Manifest, *, max_subjects: int | None) -> Manifest:
    """Return the manifest of at most so many subjects: their recordings, and the files that these read."""
    if max_subjects is None:
        return manifest
    recordings = chosen_recordings(manifest.recordings, max_subjects=max_subjects)
    used = used_paths(recordings)
    files = tuple(file for file in manifest.files if file.path in used)
    return Manifest(**dict(manifest) | {"recordings": recordings, "files": files})
