"""OpenNeuro on this machine, for tests: a git host, its bucket in a real S3 server, and one dataset in three versions.

The dataset is HBN-EEG release 1 in small: real side files of three subjects, made by the real git-annex.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from neurofm.catalog import OpenNeuroDerivativesSource, OpenNeuroSource
from neurofm.fetch import FetchSummary, fetch_files
from neurofm.fetch.ask import Ask
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.ledger import DatasetKey, Ledger
from neurofm.recording import ManifestFile
from neurofm.sources import openneuro
from neurofm.sources.listing import Listing
from tests.servers.annex_repo import BUCKET, NoAnnex, annexed_dataset
from tests.servers.fixtures import missing_part
from tests.servers.seaweed import NoServer, SeaweedServer, seaweed

HBN = "ds005505"
SUBJECTS = ("NDARAC904DMU", "NDARAG143ARJ", "NDARAM704GKZ")
REST = tuple(f"sub-{subject}/eeg/sub-{subject}_task-RestingState_eeg.set" for subject in SUBJECTS)
FILM = "sourcedata/the film, second part.edf"
"""A name with spaces: git-annex writes it in base64."""


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The git host and the bucket."""

    host: Path
    """Folder of bare repositories."""
    server: SeaweedServer
    versions: Mapping[str, Mapping[str, bytes]]
    """Content by path, by tag."""
    commits: Mapping[str, str]
    """By tag."""

    @property
    def recording(self) -> bytes:
        """Some real EDF file."""
        return self.versions["1.0.1"][FILM]

    def site(self, *, host: Path | None = None, graphql: str = "http://127.0.0.1:9/crn/graphql") -> FetchSite:
        """Return how neurofm reaches it; without a GraphQL address nobody answers there."""
        git = (host or self.host).as_uri()
        hosts = Hosts(openneuro_git=git, openneuro_derivatives_git=git, openneuro_graphql=graphql, s3=self.server.url)
        return FetchSite(hosts=hosts, attempts=2, timeout_s=10.0, longest_pause_s=0.02)


@contextmanager
def hbn_archive(folder: Path, *, shared_data: Path) -> Iterator[Archive]:
    """Run it."""
    try:
        with seaweed(folder / "weed") as server:
            server.make_bucket(BUCKET, versioned=True)
            yield _published(folder, server, _hbn_files(shared_data))
    except (NoServer, NoAnnex) as error:
        missing_part(str(error))


def _published(folder: Path, server: SeaweedServer, files: dict[str, bytes]) -> Archive:
    dataset = annexed_dataset(folder / "work", HBN, server=server)
    dataset.add_remote("s3-PUBLIC")
    versions, commits = {}, {}
    # The last one replaces a recording in place: the bucket shows the new one, and the old one has its version id.
    changes: dict[str, dict[str, bytes]] = {
        "1.0.1": files,
        "1.9.0": {"CHANGES": b"1.9.0\n"},
        "1.10.0": {"CHANGES": b"1.10.0\n", REST[0]: files[FILM]},
    }
    state: dict[str, bytes] = {}
    for tag, changed in changes.items():
        state = {**state, **changed}
        versions[tag] = state
        commits[tag] = dataset.commit(changed, annexed=(".set", ".edf"), tag=tag)
        dataset.export(tag)
    dataset.mirror(folder / "host")
    return Archive(host=folder / "host", server=server, versions=versions, commits=commits)


def _hbn_files(shared_data: Path) -> dict[str, bytes]:
    """Return real side files of HBN's release 1, with real recordings in place of those that are not here."""
    eeg = shared_data / "eeg"
    side = eeg / "hbn_r1_metadata_ds005505"
    files = {
        path.relative_to(side).as_posix(): path.read_bytes()
        for path in side.rglob("*")
        if path.is_file() and (path.parent == side or any(subject in path.name for subject in SUBJECTS))
    }
    recorded = (eeg / "eeglab_sample" / "eeglab_data.set").read_bytes()
    # Two subjects with the same bytes have one key, and its log names two objects.
    files |= {REST[0]: recorded, REST[1]: recorded, REST[2]: recorded[: len(recorded) // 2]}
    # A small file with spaces in its name, and with the bytes of another.
    files["code/all participants.tsv"] = files["participants.tsv"]
    files[FILM] = (eeg / "eegmat" / "Subject00_2.edf").read_bytes()
    return files


def listing_of(site: FetchSite, work: Path, *, accession: str = HBN, version: str, **source: Any) -> Listing:
    """List a dataset (derivatives have a dash in their accession)."""
    settings: OpenNeuroSource | OpenNeuroDerivativesSource
    named = {"accession": accession, "version": version, **source}
    if "-" in accession:
        settings = OpenNeuroDerivativesSource.parse(
            {"archive": "openneuro-derivatives", **named}, where="test", mend=""
        )
    else:
        settings = OpenNeuroSource.parse({"archive": "openneuro", **named}, where="test", mend="")
    with Ask(site) as ask:
        return openneuro.list_files(settings, ask=ask, work=work)


def fetched(files: tuple[ManifestFile, ...], *, site: FetchSite, home: Path) -> FetchSummary:
    """Fetch files into ``raw`` under `home`, which is ``.neurofm`` too."""
    who = DatasetKey(dataset="hbn", archive="openneuro", version="1")
    home.mkdir(parents=True, exist_ok=True)
    with Ledger.open(home / "ledger.sqlite") as ledger:
        return fetch_files(files, who=who, folder=home / "raw", ledger=ledger, site=site, work=home, title="fetch")


def contents(folder: Path) -> dict[str, bytes]:
    """Return every file under a folder."""
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
