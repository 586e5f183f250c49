"""The catalogue as a whole: it spans the archives, and each entry says what it must."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from pathlib import Path
from typing import get_args

import pytest
from pydantic import BaseModel

from neurofm.catalog import (
    LATEST,
    ArchiveSource,
    CatalogEntry,
    HttpFile,
    ListedSource,
    LocalSource,
    RegistryFile,
    load_entry,
)
from neurofm.fetch.hosts import S3Place
from neurofm.operations.catalogue import dataset_ids, fact_names
from neurofm.operations.profiles import BudgetSettings, Profile
from neurofm.params import Site
from neurofm.readers import reader_options
from neurofm.recording import Modality

ROOT = Path(__file__).resolve().parents[2]
IDS = dataset_ids(ROOT)
ARCHIVES = {
    "openneuro",
    "openneuro-derivatives",
    "allen",
    "ibl",
    "crcns",
    "dandi",
    "s3",
    "registry",
    "local",
}
GATED = ("adni", "embarc", "tops", "uk-biobank", "hcp-young-adult")


@pytest.fixture(scope="module")
def entries() -> dict[str, CatalogEntry]:
    return {dataset: load_entry(dataset, root=ROOT) for dataset in IDS}


def test_there_are_datasets_of_every_archive_and_modality(entries: dict[str, CatalogEntry]) -> None:
    assert len(entries) >= 25
    assert {entry.source.archive for entry in entries.values()} >= ARCHIVES
    modalities = Counter(entry.modality for entry in entries.values())
    assert min(modalities[modality] for modality in Modality) >= 2


def test_the_releases_that_are_promised_are_there(entries: dict[str, CatalogEntry]) -> None:
    accessions = {getattr(entry.source, "accession", "") for entry in entries.values()}
    hbn = {f"ds00{number}" for number in (5505, 5506, 5507, 5508, 5509, 5510, 5511, 5512, 5514, 5515, 5516)}
    assert hbn <= accessions
    dandisets = {getattr(entry.source, "dandiset", "") for entry in entries.values()}
    assert {"000718", "000044", "000021", "000728", "000409"} <= dandisets
    assert {getattr(entry.source, "dataset", "") for entry in entries.values()} >= {"hc-3", "hc-11"}


@pytest.mark.parametrize("dataset", IDS)
def test_entry_says_what_it_must(dataset: str) -> None:
    entry = load_entry(dataset, root=ROOT)
    assert re.search(r"\d{4}", entry.citation), "a citation has a year"
    assert entry.licence.strip()
    assert entry.licence_url or entry.terms or not entry.redistribute or entry.source.archive == "registry"
    expect = entry.expect
    stated = [expect.subjects, expect.recordings, expect.channels, expect.sampling_rate_hz, expect.native_rate_hz]
    assert any(stated), "nothing is expected of it"
    assert {"subject"} <= set(re.compile(entry.recordings.pattern).groupindex) or entry.recordings.subject
    assert entry.score or entry.score_note


@pytest.mark.parametrize("dataset", IDS)
def test_what_is_not_checked_is_a_fact_of_the_entry(dataset: str) -> None:
    entry = load_entry(dataset, root=ROOT)
    assert set(entry.verified) <= fact_names(entry)
    assert not any(entry.verified.values()), "a fact that was checked needs no mark"


@pytest.mark.parametrize("dataset", IDS)
def test_an_archive_is_asked_for_a_state_and_for_chosen_files(dataset: str) -> None:
    source = load_entry(dataset, root=ROOT).source
    assert source.version != LATEST
    if isinstance(source, ArchiveSource):
        assert source.include != ("**",), "say which files are wanted"


@pytest.mark.parametrize("dataset", IDS)
def test_options_are_those_of_a_reader_that_there_is(dataset: str) -> None:
    entry = load_entry(dataset, root=ROOT)
    reader_options(entry.reader, entry.reader_options, where=dataset)


@pytest.mark.parametrize("dataset", IDS)
def test_what_may_not_be_handed_on_says_on_which_terms(dataset: str) -> None:
    entry = load_entry(dataset, root=ROOT)
    if entry.redistribute:
        return
    gated = isinstance(entry.source, LocalSource) and entry.source.apply
    assert gated or entry.terms or entry.licence_url


@pytest.mark.parametrize("dataset", GATED)
def test_gated_sets_say_how_to_apply(dataset: str) -> None:
    entry = load_entry(dataset, root=ROOT)
    assert isinstance(entry.source, LocalSource)
    assert entry.source.path == f"../data/{dataset}"
    assert "https://" in entry.source.apply
    assert not entry.redistribute
    assert entry.verified


def test_species_and_namespaces_agree(entries: dict[str, CatalogEntry]) -> None:
    species: defaultdict[str, set[str]] = defaultdict(set)
    for entry in entries.values():
        assert re.fullmatch(r"[A-Z][a-z]+ [a-z]+", entry.species), entry.species
        species[entry.subject_namespace].add(entry.species)
    assert {namespace: kinds for namespace, kinds in species.items() if len(kinds) > 1} == {}


@pytest.mark.parametrize(
    "copies",
    [
        ("allen-vc-neuropixels-bo11", "allen-vcn-dandi-000021"),
        ("allen-vc-2p", "allen-vc2p-dandi-000728"),
        ("ibl-brainwide", "ibl-brainwide-nwb", "ibl-repeated-site"),
        ("crcns-hc-11", "hc-11-dandi-000044"),
        ("hcp-rest", "hcp-young-adult"),
    ],
)
def test_copies_of_one_dataset_share_their_subjects(copies: tuple[str, ...], entries: dict[str, CatalogEntry]) -> None:
    assert len({entries[dataset].subject_namespace for dataset in copies}) == 1


def test_hbn_releases_number_subjects_together(entries: dict[str, CatalogEntry]) -> None:
    hbn = [entry for entry in entries.values() if getattr(entry.source, "accession", "").startswith("ds0055")]
    assert {entry.subject_namespace for entry in hbn} == {"hbn"}


def _keys(model: type[BaseModel]) -> set[str]:
    found: set[str] = set()
    for name, field in model.model_fields.items():
        found.add(name)
        for kind in (field.annotation, *get_args(field.annotation), *(get_args(get_args(field.annotation)[-1:]))):
            if isinstance(kind, type) and issubclass(kind, BaseModel):
                found |= _keys(kind)
    return found


@pytest.mark.parametrize(
    ("page", "models"),
    [
        ("catalog.md", [CatalogEntry, *get_args(ListedSource), RegistryFile, HttpFile, Profile, BudgetSettings]),
        ("settings.md", [Site, S3Place]),
    ],
)
def test_every_key_is_documented(page: str, models: list[type[BaseModel]]) -> None:
    text = (ROOT / "docs" / page).read_text()
    keys = set().union(*(_keys(model) for model in models))
    assert {"fetch", "attempts", "buckets"} <= keys or {"citation", "pattern", "sha256", "dandiset"} <= keys
    assert sorted(key for key in keys if not re.search(rf"[`.]{key}\b", text)) == []
