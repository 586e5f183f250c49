"""allensdk's tables by its subprocess: filters, and a warehouse that hangs, breaks and dribbles."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from neurofm.errors import UserError
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.sources import allensdk_worker
from neurofm.sources.allen_tables import Session, session_table
from tests.servers.allen import NEUROPIXELS, TWO_PHOTON, Faults, Warehouse, visual_coding
from tests.servers.allensdk_environment import in_allensdk
from tests.servers.isolated import isolated_python


@pytest.fixture(scope="module")
def warehouse() -> Iterator[Warehouse]:
    with Warehouse() as server:
        visual_coding(server)
        yield server


@pytest.fixture(autouse=True)
def _healthy(warehouse: Warehouse) -> None:
    warehouse.faults = Faults()
    warehouse.asked.clear()


def ask(
    warehouse: Warehouse, work: Path, project: str = "visual-coding-neuropixels", **more: Any
) -> tuple[Session, ...]:
    options: dict[str, Any] = {"filters": {}, "tables": {}, "python": isolated_python("allensdk"), **more}
    site = FetchSite(hosts=Hosts(allen_api=warehouse.url), timeout_s=options.pop("timeout_s", 10.0), attempts=3)
    return session_table(project, site=site, work=work, **options)


@pytest.fixture(scope="module")
def theirs(warehouse: Warehouse, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """What allensdk gives by itself: its table of sessions, and the files that it leaves in its cache."""
    return in_allensdk(
        "from pathlib import Path\n"
        "from allensdk.brain_observatory.ecephys.ecephys_project_cache import EcephysProjectCache\n"
        "from allensdk.brain_observatory.ecephys.ecephys_project_api import EcephysProjectWarehouseApi\n"
        "from allensdk.brain_observatory.ecephys.ecephys_project_api.rma_engine import RmaEngine\n"
        "api = EcephysProjectWarehouseApi(RmaEngine(scheme='http', host=host))\n"
        "table = EcephysProjectCache(manifest=folder + '/manifest.json', fetch_api=api).get_session_table()\n"
        "table = table.reset_index().drop(columns='ecephys_structure_acronyms')\n"
        "files = {path.name: path.read_text() for path in Path(folder).glob('*.csv')}\n"
        "answer = {'table': json.loads(table.to_json(orient='records')), 'files': files}",
        host=warehouse.url.removeprefix("http://"),
        folder=str(tmp_path_factory.mktemp("theirs")),
    )


def without_structures(session: Session) -> dict[str, Any]:
    return {name: value for name, value in session.columns.items() if name != "ecephys_structure_acronyms"}


def test_the_table_is_the_one_that_allensdk_gives(warehouse: Warehouse, theirs: Any, tmp_path: Path) -> None:
    ours = ask(warehouse, tmp_path)
    assert [without_structures(session) for session in ours] == theirs["table"]
    assert [session.columns["ecephys_structure_acronyms"] for session in ours] == [
        [*animal.structures, None] for animal in NEUROPIXELS
    ]
    # The animal is the donor, as in the names of DANDI's files: sub-699733573_ses-715093703.nwb.
    assert [(session.id, session.subject) for session in ours] == [
        (str(animal.session), str(animal.donor)) for animal in NEUROPIXELS
    ]


def test_two_photon_experiments_are_those_of_allensdk(warehouse: Warehouse, tmp_path: Path) -> None:
    ours = ask(warehouse, tmp_path, "visual-coding-2p")
    theirs = in_allensdk(
        "from allensdk.core.brain_observatory_cache import BrainObservatoryCache\n"
        "answer = BrainObservatoryCache(manifest_file=manifest, base_uri=uri).get_ophys_experiments()",
        uri=warehouse.url,
        manifest=str(tmp_path / "theirs" / "manifest.json"),
    )
    assert [dict(session.columns) for session in ours] == theirs
    assert [session.subject for session in ours] == [str(animal.specimen) for animal in TWO_PHOTON]
    assert ours[0].subject == ours[1].subject


@pytest.mark.parametrize(
    ("filters", "kept"),
    [
        ({"session_type": ["brain_observatory_1.1"]}, [715093703, 719161530]),
        ({"session_type": ["brain_observatory_1.1"], "age_in_days": [122]}, [719161530]),
        ({"age_in_days": [118.0]}, [715093703]),
        ({"id": ["766640955", 715093703]}, [715093703, 766640955]),
        ({"structures": ["LP", "CA1"]}, [715093703, 766640955]),
    ],
)
def test_filters_keep_the_allowed(filters: dict[str, list[Any]], kept: list[int]) -> None:
    table = pd.DataFrame(
        {
            "id": [animal.session for animal in NEUROPIXELS],
            "session_type": [animal.stimulus for animal in NEUROPIXELS],
            "age_in_days": [animal.age_days for animal in NEUROPIXELS],
            "structures": [np.array(animal.structures, dtype=object) for animal in NEUROPIXELS],
        }
    )
    assert list(allensdk_worker._chosen(table, filters, project="p")["id"]) == kept


def test_values_become_plain() -> None:
    values = [np.float64("nan"), np.int64(3), pd.NA, pd.NaT, pd.Timestamp("2019-01-19", tz="UTC"), np.array([1.5])]
    assert [allensdk_worker._plain(value) for value in values] == [
        None,
        3,
        None,
        None,
        "2019-01-19T00:00:00+00:00",
        [1.5],
    ]


def test_unknown_column_is_answered_with_the_columns(warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"`source\.sessions\.stimulus`.*no such column.*use one of: id, .*session_type"
    ):
        ask(warehouse, tmp_path, filters={"stimulus": ["brain_observatory_1.1"]})


def test_filter_that_leaves_nothing_is_answered_with_the_values(warehouse: Warehouse, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none of 3 sessions.*brain_observatory_1\.1, functional_connectivity"):
        ask(warehouse, tmp_path, filters={"session_type": ["brain_observatory"]})


@pytest.mark.parametrize("project", ["visual-coding-neuropixels", "visual-coding-2p"])
def test_requests_that_hang_or_break_are_asked_again(warehouse: Warehouse, tmp_path: Path, project: str) -> None:
    warehouse.faults = Faults(hang=1, busy=1)
    assert len(ask(warehouse, tmp_path, project, timeout_s=1.0)) == 3
    assert (warehouse.faults.hang, warehouse.faults.busy) == (0, 0)


def test_warehouse_that_stays_down_ends_in_one_line(warehouse: Warehouse, tmp_path: Path) -> None:
    warehouse.faults = Faults(busy=1000)
    with pytest.raises(UserError, match=r"ended with code 1: .*503") as caught:
        ask(warehouse, tmp_path, timeout_s=1.0)
    assert "\n" not in str(caught.value)


def test_worker_that_goes_silent_is_killed_and_given_up(warehouse: Warehouse, tmp_path: Path) -> None:
    # A byte now and then holds off every timeout of allensdk's client: only the watch over the worker ends it.
    warehouse.faults = Faults(dribble=True)
    with pytest.raises(UserError, match=r"hung 2 times, 8 s without a word each"):
        ask(warehouse, tmp_path, quiet_s=8.0)
    assert [path.name for path in (tmp_path / "allensdk").iterdir() if path.name != "matplotlib"] == []


def files_of(theirs: Any) -> dict[str, bytes]:
    return {name: text.encode() for name, text in theirs["files"].items()}


def test_session_without_an_animal_is_refused(theirs: Any, tmp_path: Path) -> None:
    with Warehouse() as server:
        visual_coding(server)
        server.models["EcephysSession"].pop()
        with pytest.raises(UserError, match="session 766640955 has no animal"):
            ask(server, tmp_path, tables=files_of(theirs))


def test_tables_at_hand_are_not_asked_for(warehouse: Warehouse, theirs: Any, tmp_path: Path) -> None:
    assert sorted(theirs["files"]) == ["channels.csv", "probes.csv", "sessions.csv", "units.csv"]
    ours = ask(warehouse, tmp_path, tables=files_of(theirs), filters={"session_type": ["brain_observatory_1.1"]})
    assert [without_structures(session) for session in ours] == theirs["table"][:2]
    assert len(warehouse.asked) == 1
    assert "specimen(donor)" in warehouse.asked[0]


def test_crash_is_reported_by_its_last_line(warehouse: Warehouse, tmp_path: Path) -> None:
    broken = tmp_path / "python"
    broken.write_text("#!/bin/sh\necho first >&2\necho 'no room left' >&2\nexit 7\n")
    broken.chmod(stat.S_IRWXU)
    with pytest.raises(UserError, match=r"ended with code 7: no room left\."):
        ask(warehouse, tmp_path, python=broken)


def test_our_own_environment_does_not_reach_the_worker(
    warehouse: Warehouse, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "pandas.py").write_text("raise SystemExit('the wrong pandas')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    assert len(ask(warehouse, tmp_path, "visual-coding-2p")) == 3
