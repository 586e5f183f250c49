"""EEGMAT (PhysioNet, 10.13026/C2JQ1P) as a BIDS dataset: real recordings at rest and at mental arithmetic.

Written by mne-bids, which copies the EDF files as they are; served, where a test asks for it, as OpenNeuro serves
datasets.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mne
import mne_bids

from neurofm.catalog import CatalogEntry
from neurofm.fetch.hosts import FetchSite, Hosts
from tests.servers.annex_repo import BUCKET, NoAnnex, annexed_dataset
from tests.servers.fixtures import missing_part
from tests.servers.seaweed import NoServer, seaweed

ACCESSION = "ds990036"
"""No such dataset is on OpenNeuro."""
VERSION = "1.0.0"
TASKS = {"1": "rest", "2": "arithmetic"}
ELECTRODES = (
    *("Fp1", "Fp2", "F3", "F4", "F7", "F8", "T3", "T4", "C3", "C4"),
    *("T5", "T6", "P3", "P4", "O1", "O2", "Fz", "Cz", "Pz"),
)
"""In the order of the files."""
OPTIONS: dict[str, Any] = {
    "rename": {f"EEG {name}": name for name in ELECTRODES} | {"ECG ECG": "ECG", "EEG A2-A1": "A2-A1"},
    "montage": "standard_1020",
}
"""Reader's options: the files call electrodes ``EEG Fp1`` and have no places for them."""


def eegmat_subjects(shared_data: Path) -> tuple[str, ...]:
    """Return the labels of the subjects that are here (24), sorted."""
    files = (shared_data / "eeg" / "eegmat").glob("Subject*_1.edf")
    return tuple(sorted(path.name.removeprefix("Subject").partition("_")[0] for path in files))


def write_eegmat(root: Path, *, shared_data: Path, subjects: Sequence[str] = ()) -> Path:
    """Write it as BIDS; `subjects` by label, all of them by default. Returns `root`."""
    source = shared_data / "eeg" / "eegmat"
    chosen = tuple(subjects) or eegmat_subjects(shared_data)
    for subject in chosen:
        for part, task in TASKS.items():
            raw = mne.io.read_raw_edf(source / f"Subject{subject}_{part}.edf", verbose="error")
            # The files call all 21 signals EEG.
            raw.set_channel_types({"ECG ECG": "ecg", "EEG A2-A1": "misc"}, on_unit_change="ignore", verbose="error")
            raw.info["line_freq"] = 50  # recorded in Kyiv
            raw.info["subject_info"] = None  # the two runs of a subject state it differently
            where = mne_bids.BIDSPath(root=root, subject=subject, task=task, datatype="eeg")
            mne_bids.write_raw_bids(raw, where, verbose="error")
            sidecar = where.copy().update(suffix="eeg", extension=".json")
            # Zyma et al. 2019, 10.3390/data4010014.
            mne_bids.update_sidecar_json(sidecar, {"EEGReference": "linked ears"}, verbose="error")
    _write_participants(root, source / "subject-info.csv", chosen)
    return root


def eegmat_entry(**changed: Any) -> CatalogEntry:
    """Return its entry in the catalogue; keywords change facts."""
    facts: dict[str, Any] = {
        "id": "eegmat",
        "title": "EEG at rest and at mental arithmetic",
        "modality": "eeg",
        "reader": "bids",
        "reader_options": OPTIONS,
        "source": {"archive": "openneuro", "accession": ACCESSION, "version": VERSION},
        "recordings": {
            "pattern": r"sub-(?P<subject>[^/_]+)/eeg/sub-[^/_]+_task-(?P<task>[^/_]+)_eeg\.edf",
            "extra": r"(sub-(?P<subject>[^/]+)/.+|[^/]+\.(json|tsv))",
        },
        "subject_namespace": "eegmat",
        "species": "Homo sapiens",
        "licence": "ODC-By-1.0",
        "redistribute": True,
        "citation": "Zyma I et al. (2019). Electroencephalograms during Mental Arithmetic Task Performance. Data 4:14.",
    }
    return CatalogEntry.parse(facts | changed, where="eegmat", mend="-")


@dataclass(frozen=True, kw_only=True)
class Served:
    """The dataset on a host."""

    site: FetchSite
    """How neurofm reaches it."""
    bids: Path
    """What was published."""


@contextmanager
def served_eegmat(folder: Path, *, shared_data: Path, subjects: Sequence[str] = ()) -> Iterator[Served]:
    """Publish it as OpenNeuro does: a git mirror of the real git-annex, recordings in a real S3 server.

    A test that has no git-annex or S3 server is skipped; in CI it fails.
    """
    bids = write_eegmat(folder / "bids", shared_data=shared_data, subjects=subjects)
    files = {path.relative_to(bids).as_posix(): path.read_bytes() for path in bids.rglob("*") if path.is_file()}
    try:
        with seaweed(folder / "weed") as server:
            server.make_bucket(BUCKET, versioned=True)
            dataset = annexed_dataset(folder / "work", ACCESSION, server=server)
            dataset.add_remote("s3-PUBLIC")
            dataset.commit(files, annexed=(".edf",), tag=VERSION)
            dataset.export(VERSION)
            dataset.mirror(folder / "host")
            hosts = Hosts(
                openneuro_git=(folder / "host").as_uri(),
                openneuro_graphql="http://127.0.0.1:9/crn/graphql",
                s3=server.url,
            )
            yield Served(site=FetchSite(hosts=hosts, attempts=2, timeout_s=10.0, longest_pause_s=0.02), bids=bids)
    except (NoServer, NoAnnex) as error:
        missing_part(str(error))


def _write_participants(root: Path, table: Path, subjects: Sequence[str]) -> None:
    with table.open(encoding="utf-8-sig", newline="") as lines:
        facts = {row["Subject"].removeprefix("Subject"): row for row in csv.DictReader(lines)}
    lines_out = ["participant_id\tage\tsex\tsubtractions\tgood_counter"]
    for subject in subjects:
        row = facts[subject]
        told = (row["Age"], row["Gender"], row["Number of subtractions"], row["Count quality"])
        lines_out.append("\t".join((f"sub-{subject}", *told)))
    (root / "participants.tsv").write_text("\n".join(lines_out) + "\n")
