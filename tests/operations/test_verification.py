"""Facts of the catalogue are compared with the archive; what agrees loses its mark, what does not is named."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from neurofm.catalog import load_entry
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.operations.pinning import plan_pin, write_pin
from neurofm.operations.verification import Check, Verification, _verdict, verification_table, verify, write_verified
from tests.operations.conftest import Archive


def verified(archive: Archive) -> Verification:
    return verify(archive.entry, root=archive.root, site=archive.site)


def by_fact(verification: Verification) -> Mapping[str, Check]:
    return {check.fact: check for check in verification.checks}


def test_facts_are_counted_and_compared(archive: Archive) -> None:
    checks = by_fact(verified(archive))
    assert (checks["expect.subjects"].archive, checks["expect.subjects"].agrees) == ("3", "yes")
    assert checks["expect.recordings"].agrees == "yes"
    assert (checks["expect.files"].entry, checks["expect.files"].archive) == ("4", "3")
    assert checks["expect.files"].agrees == "no"
    assert (checks["expect.bytes"].entry, checks["expect.bytes"].agrees) == ("", "not stated")
    assert (checks["species"].entry, checks["species"].agrees) == ("Homo sapiens", "not told")
    assert (checks["source.version"].archive, checks["source.version"].agrees) == ("listed", "no")
    assert verified(archive).wrong == ("expect.files", "source.version")


def test_what_agrees_loses_its_mark_and_nothing_else_changes(archive: Archive) -> None:
    before = archive.path.read_text()
    assert write_verified(verified(archive), root=archive.root) == ("expect.subjects",)
    assert archive.path.read_text() == before.replace("  expect.subjects: false   # counted by hand\n", "")
    assert write_verified(verified(archive), root=archive.root) == ()


def test_the_last_mark_takes_its_section_along(archive: Archive) -> None:
    write_pin(plan_pin(archive.entry, root=archive.root, site=archive.site), root=archive.root)
    text = archive.path.read_text().replace("files: 4", "files: 3").replace("  species: false\n", "")
    archive.path.write_text(text)
    assert set(write_verified(verified(archive), root=archive.root)) == {
        "source.version",
        "expect.subjects",
        "expect.files",
    }
    assert "verified" not in archive.path.read_text()
    assert archive.entry.verified == {}


def test_pins_are_compared_with_the_live_listing(archive: Archive) -> None:
    write_pin(plan_pin(archive.entry, root=archive.root, site=archive.site), root=archive.root)
    assert by_fact(verified(archive))["source.pin"].agrees == "yes"
    first = "sub-" + re.findall(r"sub-(\w+?)_", (archive.root / "data/catalog/pins/movie.json").read_text())[0]
    archive.put(f"{first}_task-pixar_atlas-AAL_timeseries.npy", b"other bytes")
    check = by_fact(verified(archive))["source.pin"]
    assert (check.agrees, check.archive) == ("no", "1 changed")


def test_an_archive_that_does_not_answer_is_said(archive: Archive) -> None:
    site = FetchSite(hosts=Hosts(s3="http://127.0.0.1:9"), attempts=1)
    found = verify(archive.entry, root=archive.root, site=site)
    assert found.checks == ()
    assert found.wrong == ()
    assert "127.0.0.1:9: no answer" in found.unreachable


def test_registry_entries_are_counted_without_asking(archive: Archive) -> None:
    checks = by_fact(verify(load_entry("hcp-rest", root=archive.root), root=archive.root, site=FetchSite(offline=True)))
    assert {fact: check.agrees for fact, check in checks.items()} == {
        "expect.recordings": "yes",
        "expect.subjects": "yes",
    }


def test_a_gated_folder_that_is_not_there_is_said(project: Path) -> None:
    found = verify(load_entry("adni", root=project), root=project, site=FetchSite())
    assert "adni is not a folder" in found.unreachable


@pytest.mark.parametrize(
    ("fact", "stated", "told", "verdict"),
    [
        ("licence", "CC0-1.0", "CC0", "yes"),
        ("licence", "CC-BY-4.0", "spdx:CC-BY-4.0", "yes"),
        ("licence", "CC-BY-4.0", "CC-BY-NC-4.0", "no"),
        ("doi", "10.18112/openneuro.ds005505.v1.0.1", "doi:10.18112/openneuro.ds005505.v1.0.1", "yes"),
        ("doi", "10.1/A", "https://doi.org/10.1/a", "yes"),
        ("expect.bytes", 15_100_000_000, 15_098_123_456, "yes"),
        ("expect.bytes", 15_100_000_000, 14_000_000_000, "no"),
        ("expect.files", 15_100, 15_101, "no"),
        ("expect.channels", [128, 129], 129, "yes"),
        ("expect.channels", [129], [128, 129], "no"),
        ("expect.native_rate_hz", 1.3888888888888888, 1 / 0.72, "yes"),
        ("expect.native_rate_hz", 500, 500.0, "yes"),
        ("expect.native_rate_hz", 500, 512, "no"),
        ("species", "Mus musculus", None, "not told"),
        ("expect.subjects", None, 3, "not stated"),
    ],
)
def test_what_counts_as_the_same(fact: str, stated: Any, told: Any, verdict: str) -> None:
    assert _verdict(fact, stated, told) == verdict


@pytest.mark.parametrize("width", [80, 120, 160])
def test_the_table_fits_the_terminal(archive: Archive, width: int) -> None:
    console = Console(width=width, record=True, file=None)
    with console.capture() as shown:
        console.print(verification_table([verified(archive)], width=width))
    lines = shown.get().splitlines()
    assert max(len(line) for line in lines) <= width
    assert any("expect.subjects" in line and "yes" in line for line in lines)
