"""IBL: tables of a tag made by ONE, a bucket laid out as IBL's, and a fetched tree that ONE reads again."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from shutil import copyfile, copytree
from typing import Any

import pandas as pd
import pytest
from one.alf import io as alfio
from one.alf.cache import make_parquet_db
from one.api import One

from neurofm.catalog import IblSource
from neurofm.errors import UserError
from neurofm.fetch import fetch_files
from neurofm.fetch.ask import Ask
from neurofm.fetch.digests import matches
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.fetch.ledger import DatasetKey, Ledger
from neurofm.sources import ibl
from neurofm.sources.listing import Listing
from tests.servers.ibl import Release, put_release
from tests.servers.seaweed import NoServer, SeaweedServer, seaweed

TAG = "2022_Q4_IBL_et_al_BWM"
SESSION = "cortexlab/Subjects/CQ002/2024-11-05/001"
TRIALS = "alf/task_00/_ibl_trials.table.pqt"
SIGNAL = "alf/photometry/photometry.signal.pqt"
RAW = "raw_ephys_data/probe00/_spikeglx_sync.channels.npy"
DESCRIPTION = "_ibl_experiment.description.yaml"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    try:
        with seaweed(tmp_path_factory.mktemp("weed")) as running:
            running.make_bucket(ibl.BUCKET)
            yield running
    except NoServer as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Path:
    """Return a real photometry session as an ALF tree, with a file where raw voltage would lie."""
    root = tmp_path_factory.mktemp("alf") / "tree"
    copytree(shared_data / "ephys" / "ibl_alf_photometry_CQ002", root, copy_function=copyfile)
    for folder in [root, *(path for path in root.rglob("*") if path.is_dir())]:
        folder.chmod(0o755)
    raw = root / SESSION / RAW
    raw.parent.mkdir(parents=True)
    copyfile(shared_data / "ephys" / "allen_visual_coding_spikeship" / "stim_label.npy", raw)
    return root


def _incomplete(datasets: pd.DataFrame) -> pd.DataFrame:
    """Take hash and size of the signal away, as old rows of the real tables lack them."""
    signal = datasets["rel_path"] == SIGNAL
    datasets.loc[signal, "hash"] = None
    datasets.loc[signal, "file_size"] = pd.NA
    return datasets


@pytest.fixture(scope="module")
def release(server: SeaweedServer, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return put_release(
        server,
        TAG,
        tree,
        tables=tmp_path_factory.mktemp("tables"),
        edit=_incomplete,
        moved={TRIALS: "alf/task_00/#2025-03-03#/_ibl_trials.table.pqt"},
        more={"../outside.txt": b"outside", "/absolute.txt": b"absolute", "notes.txt": b"notes"},
    )


def listing_of(server: SeaweedServer, work: Path, **source: Any) -> Listing:
    settings = IblSource.parse({"archive": "ibl", "version": TAG, **source}, where="test", mend="")
    with Ask(site_of(server)) as ask:
        return ibl.list_files(settings, ask=ask, work=work)


def site_of(server: SeaweedServer) -> FetchSite:
    return FetchSite(hosts=Hosts(buckets={ibl.BUCKET: server.place()}), attempts=2, longest_pause_s=0.0)


def test_never_fixed_by_its_version() -> None:
    assert not ibl.is_fixed(IblSource(archive="ibl", version=TAG))


@pytest.mark.usefixtures("release")
def test_lists_the_tree_without_raw_voltage(server: SeaweedServer, tree: Path, tmp_path: Path) -> None:
    listing = listing_of(server, tmp_path)
    expected = {path.relative_to(tree).as_posix() for path in tree.rglob("*") if path.is_file()} - {f"{SESSION}/{RAW}"}
    assert {file.path for file in listing.files} == expected
    for file in listing.files:
        assert matches(tree / file.path, file.digest, size=file.size)
    assert listing.facts == {"expect.subjects": 1}


@pytest.mark.usefixtures("release")
def test_raw_voltage_comes_when_it_is_named(server: SeaweedServer, tmp_path: Path) -> None:
    listing = listing_of(server, tmp_path, include=["**/raw_ephys_data/**"])
    assert [file.path for file in listing.files] == [f"{SESSION}/{RAW}"]


def test_uuid_of_the_table_finds_the_object(server: SeaweedServer, release: Release, tmp_path: Path) -> None:
    (trials,) = listing_of(server, tmp_path, include=["**/alf/task_00/**"]).files
    assert trials.path == f"{SESSION}/{TRIALS}"  # as the table calls it
    folder = f"s3://{ibl.BUCKET}/data/{SESSION}/alf/task_00/#2025-03-03#"  # where it was moved to
    assert trials.origin == f"{folder}/_ibl_trials.table.{release.id_of(TRIALS)}.pqt"
    assert trials.digest.startswith("md5:")


@pytest.mark.usefixtures("release")
def test_etag_and_size_of_the_object_stand_in_for_the_table(server: SeaweedServer, tree: Path, tmp_path: Path) -> None:
    (signal,) = listing_of(server, tmp_path, include=[f"**/{SIGNAL}"]).files
    assert signal.digest.startswith("s3-etag:")
    assert signal.size == (tree / SESSION / SIGNAL).stat().st_size


@pytest.mark.usefixtures("release")
def test_version_names_the_state_of_the_tables(server: SeaweedServer, tmp_path: Path) -> None:
    first = listing_of(server, tmp_path).version
    assert first.startswith(f"{TAG}@")
    assert listing_of(server, tmp_path, version=first).version == first


@pytest.mark.usefixtures("release")
def test_only_the_tables_are_unpacked(server: SeaweedServer, tmp_path: Path) -> None:
    work = tmp_path / "deep" / "work"
    listing_of(server, work)
    assert {path.name for path in tmp_path.rglob("*") if path.is_file()} == {"sessions.pqt", "datasets.pqt"}
    assert {path.name for path in (work / "ibl").iterdir()} == {TAG}


def test_what_is_not_there_is_left_out_and_counted(
    server: SeaweedServer, tree: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def without_trials(datasets: pd.DataFrame) -> pd.DataFrame:
        datasets.loc[datasets["rel_path"] == TRIALS, "exists"] = False
        return datasets

    put_release(server, "Less", tree, tables=tmp_path / "tables", edit=without_trials, missing=(DESCRIPTION,))
    listing = listing_of(server, tmp_path, version="Less")
    paths = {file.path.removeprefix(f"{SESSION}/") for file in listing.files}
    assert paths == {SIGNAL, "alf/photometry/photometryROI.locations.pqt"}
    assert "ibl Less: 2 of 4 datasets are not in the archive" in capsys.readouterr().err


@pytest.mark.usefixtures("release")
def test_sessions_choose(server: SeaweedServer, release: Release, tmp_path: Path) -> None:
    (session,) = release.sessions.index
    assert listing_of(server, tmp_path, sessions=[str(session)]).files
    with pytest.raises(UserError, match="has no session 0"):
        listing_of(server, tmp_path, sessions=["0" * 8 + "-0000-0000-0000-" + "0" * 12])


@pytest.mark.usefixtures("release")
@pytest.mark.parametrize("version", ["latest", "../other", ""])
def test_what_is_no_tag_is_refused(server: SeaweedServer, tmp_path: Path, version: str) -> None:
    with pytest.raises(UserError, match="is not a tag"):
        listing_of(server, tmp_path, version=version)


@pytest.mark.parametrize("content", [b"<html>sorry</html>", None])
def test_tables_that_are_none_are_refused(server: SeaweedServer, tmp_path: Path, content: bytes | None) -> None:
    if content is None:
        packed = BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            archive.writestr("sessions.pqt", b"PAR1")
        content = packed.getvalue()
    server.put(ibl.BUCKET, "caches/openalyx/Broken/cache.zip", content)
    with pytest.raises(UserError, match="tables cannot be unpacked"):
        listing_of(server, tmp_path, version="Broken")


@pytest.mark.usefixtures("release")
def test_nothing_is_written_to_the_home(server: SeaweedServer, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    script = (
        "import sys; from pathlib import Path; from neurofm.fetch.ask import Ask\n"
        "from neurofm.catalog import IblSource\n"
        "from neurofm.fetch.hosts import FetchSite, Hosts; from neurofm.sources import ibl\n"
        "with Ask(FetchSite(hosts=Hosts(s3=sys.argv[1]))) as ask:\n"
        "    source = IblSource(archive='ibl', version=sys.argv[2])\n"
        "    print(len(ibl.list_files(source, ask=ask, work=Path(sys.argv[3])).files))\n"
    )
    command = [sys.executable, "-c", script, server.url, TAG, str(tmp_path / "work")]
    done = subprocess.run(command, check=True, env=os.environ | {"HOME": str(home)}, stdout=subprocess.PIPE, text=True)
    assert int(done.stdout) > 0
    assert list(home.rglob("*")) == []


@pytest.mark.usefixtures("release")
def test_one_reads_what_was_fetched(server: SeaweedServer, tree: Path, tmp_path: Path) -> None:
    listing = listing_of(server, tmp_path / "work")
    folder = tmp_path / "raw"
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        who = DatasetKey(dataset="ibl-brainwide", archive="ibl", version=listing.version)
        summary = fetch_files(
            listing.files,
            who=who,
            folder=folder,
            ledger=ledger,
            site=site_of(server),
            work=tmp_path / "work",
            title="ibl",
        )
    assert (summary.failed, summary.quarantined) == ({}, {})
    assert summary.fetched_files == len(listing.files)

    tables = tmp_path / "tables"
    tables.mkdir()
    make_parquet_db(folder, out_dir=tables)
    one = One(cache_dir=folder, tables_dir=tables, mode="local")
    (session,) = one.search(subject="CQ002")
    for name, collection in (("trials", "alf/task_00"), ("photometry", "alf/photometry")):
        ours = one.load_object(session, name, collection=collection)
        theirs = alfio.load_object(tree / SESSION / collection, name)
        assert set(ours) == set(theirs)
        for attribute in theirs:
            pd.testing.assert_frame_equal(pd.DataFrame(ours[attribute]), pd.DataFrame(theirs[attribute]))
