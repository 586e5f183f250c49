"""Pinning: what a bucket holds now is written down, shown first, and held to from then on."""

from __future__ import annotations

import pytest

from neurofm.catalog import S3Source, load_entry, read_pins
from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite
from neurofm.operations.pinning import PinPlan, plan_pin, write_pin
from neurofm.sources import build_manifest
from tests.operations.conftest import Archive


def planned(archive: Archive, **more: str) -> PinPlan:
    return plan_pin(archive.entry, root=archive.root, site=archive.site, **more)


def pinned(archive: Archive) -> PinPlan:
    plan = planned(archive)
    write_pin(plan, root=archive.root)
    return plan


def test_unpinned_and_latest_are_refused_elsewhere(archive: Archive) -> None:
    with pytest.raises(UserError, match=r"version 'latest' can change .* Mend: pin it: neurofm catalog pin movie"):
        build_manifest(archive.entry, root=archive.root, site=archive.site)


def test_a_plan_writes_nothing(archive: Archive) -> None:
    plan = planned(archive)
    assert archive.path.read_text() == plan.before == archive.entry_text
    assert not (archive.root / "data" / "catalog" / "pins").exists()
    assert (plan.recordings, plan.subjects, plan.changes) == (3, 3, None)


def test_a_pin_fixes_every_file_and_keeps_the_comments(archive: Archive) -> None:
    plan = pinned(archive)
    source = archive.entry.source
    assert isinstance(source, S3Source)
    assert (source.version, source.pin) == ("listed", source.pin)
    pins = read_pins("movie", digest=source.pin, root=archive.root)
    assert len(pins.files) == 3
    assert all(file.version_id and file.digest.startswith("s3-etag:") for file in pins.files)
    changed = [line for line in plan.diff.splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == [
        "-  version: latest   # what the lab has now",
        "+  version: listed   # what the lab has now",
        f"+  pin: {source.pin}",
    ]


def test_a_pinned_dataset_asks_nobody(archive: Archive) -> None:
    pinned(archive)
    manifest = build_manifest(archive.entry, root=archive.root, site=FetchSite(offline=True))
    assert len(manifest.files) == len(manifest.recordings) == 3
    assert all(file.origin.startswith(f"s3://{archive.bucket}/{archive.prefix}sub-") for file in manifest.files)


def test_pinning_again_changes_nothing_until_the_archive_does(archive: Archive) -> None:
    pinned(archive)
    again = planned(archive)
    assert again.is_done
    assert again.diff == ""
    first, second, _ = (file.path for file in build_manifest(archive.entry, root=archive.root).files)
    archive.put(first, b"corrected upstream")
    archive.put("sub-new_task-pixar_AAL.npy", b"new")
    archive.remove(second)
    now = planned(archive)
    assert now.changes is not None
    assert not now.is_done
    assert (now.changes.changed, now.changes.added, now.changes.removed) == (
        (first,),
        ("sub-new_task-pixar_AAL.npy",),
        (second,),
    )
    assert str(now.changes) == "1 added, 1 removed, 1 changed"
    assert list(now.changes.lines()) == ["+ sub-new_task-pixar_AAL.npy", f"- {second}", f"~ {first}"]
    # Until the change is written, the old state stands.
    assert {file.path for file in build_manifest(archive.entry, root=archive.root).files} > {first, second}
    write_pin(now, root=archive.root)
    assert "sub-new_task-pixar_AAL.npy" in build_manifest(archive.entry, root=archive.root).by_path


def test_lost_or_foreign_pins_are_refused_and_mended_by_pinning_anew(archive: Archive) -> None:
    pinned(archive)
    path = archive.root / "data" / "catalog" / "pins" / "movie.json"
    path.write_text(path.read_text().replace("pixar", "pixel"))
    for _ in ("other pins", "no pins"):
        with pytest.raises(UserError, match=r"movie\.json.* Mend: .*neurofm catalog pin movie"):
            build_manifest(archive.entry, root=archive.root)
        path.unlink(missing_ok=True)
    pinned(archive)
    assert len(build_manifest(archive.entry, root=archive.root).files) == 3


def test_killed_between_pins_and_entry_the_next_run_says_so(archive: Archive, monkeypatch: pytest.MonkeyPatch) -> None:
    pinned(archive)
    archive.put("sub-new_task-pixar_AAL.npy", b"new")
    plan = planned(archive)

    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("neurofm.operations.pinning.write_atomic", killed)
    with pytest.raises(KeyboardInterrupt):
        write_pin(plan, root=archive.root)
    with pytest.raises(UserError, match="neurofm catalog pin movie"):
        build_manifest(archive.entry, root=archive.root)


def test_what_makes_no_recordings_is_not_pinned(archive: Archive) -> None:
    archive.path.write_text(archive.path.read_text().replace("task-(?P<task>pixar)", "task-(?P<task>rest)"))
    with pytest.raises(UserError, match="matches none of the 3 files"):
        planned(archive)


def test_sources_that_list_their_files_themselves_need_no_pin(archive: Archive) -> None:
    for dataset, said in (("hcp-rest", "lists every file"), ("embarc", "its folder is hashed")):
        with pytest.raises(UserError, match=said):
            plan_pin(load_entry(dataset, root=archive.root), root=archive.root, site=archive.site)
