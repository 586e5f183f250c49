"""What tests of operations share: real recordings in a real S3 server, and a project whose catalogue names them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

import pytest
from ruamel.yaml import YAML

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.fetch.hosts import FetchSite
from tests.operations.hydrocel import HydroCel, make_hydrocel
from tests.servers.fixtures import s3_fixture, s3_site_fixture
from tests.servers.seaweed import SeaweedServer

__all__ = ["s3_fixture", "s3_site_fixture"]

PROJECT = Path(__file__).resolve().parents[2]
ENTRY = """\
id: movie
title: Movie watching, parcellated
modality: fmri
reader: tables
reader_options: {tr_s: 2.0, axes: time_channel, atlas: AAL}

source:
  archive: s3
  version: latest   # what the lab has now
  bucket: BUCKET
  prefix: PREFIX

# one recording per subject
recordings:
  pattern: 'sub-(?P<subject>\\w+)_task-(?P<task>pixar)_.*\\.npy'
subject_namespace: openneuro-ds000228
species: Homo sapiens
licence: PDDL
redistribute: true
citation: Richardson 2018
expect:
  subjects: 3
  recordings: 3
  files: 4
verified:
  source.version: false
  expect.subjects: false   # counted by hand
  expect.files: false
  species: false
"""


@dataclass(frozen=True)
class Archive:
    """A folder of a bucket with three real subjects, and a project whose catalogue has it."""

    server: SeaweedServer
    bucket: str
    prefix: str
    root: Path
    site: FetchSite

    @property
    def entry(self) -> CatalogEntry:
        """As its file says now."""
        return load_entry("movie", root=self.root)

    @property
    def entry_text(self) -> str:
        """As its file said at first."""
        return ENTRY.replace("BUCKET", self.bucket).replace("PREFIX", self.prefix)

    @property
    def path(self) -> Path:
        return self.root / "data" / "catalog" / "movie.yaml"

    def put(self, name: str, content: bytes) -> None:
        self.server.put(self.bucket, f"{self.prefix}{name}", content)

    def remove(self, name: str) -> None:
        self.server._client.delete_object(Bucket=self.bucket, Key=f"{self.prefix}{name}")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """The project's settings, catalogue and profiles, to be changed."""
    root = tmp_path / "project"
    shutil.copytree(PROJECT / "data" / "catalog", root / "data" / "catalog")
    shutil.copytree(PROJECT / "data" / "profiles", root / "data" / "profiles")
    shutil.copy(PROJECT / "params.yaml", root)
    return root


@pytest.fixture(scope="session")
def bucket(s3: SeaweedServer) -> str:
    """A bucket that keeps versions; one for all tests, since each reserves space of its own."""
    s3.make_bucket("lab", versioned=True)
    return "lab"


@pytest.fixture
def archive(project: Path, s3: SeaweedServer, bucket: str, s3_site: FetchSite, shared_data: Path) -> Archive:
    """Three subjects of ds000228 in a folder of the bucket."""
    folder = shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries"
    made = Archive(s3, bucket, f"{uuid4().hex[:8]}/", project, s3_site)
    made.path.write_text(made.entry_text)
    for path in sorted(folder.glob("*AAL*.npy"))[:3]:
        made.put(path.name, path.read_bytes())
    with (project / "site.yaml").open("w") as file:
        YAML().dump({"fetch": {"hosts": {"s3": s3.url}, "attempts": 2}}, file)
    return made


@pytest.fixture(scope="session")
def hydrocel(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> HydroCel:
    """Real EEG on 129 channels, and a tiny model of it."""
    return make_hydrocel(tmp_path_factory.mktemp("hydrocel"), shared_data=shared_data)
