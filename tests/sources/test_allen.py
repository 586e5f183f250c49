"""Listings of the Allen Institute's buckets, from a real S3 server laid out as theirs, beside allensdk itself.

Real NWB files of the Institute cannot be had here: recordings of `shared_data` stand in for them, one whole (an NWB
session of head-direction cells), the others HDF5 files of this test's own with real spike times of Visual Coding in
them. The tables in the Visual Coding bucket are those that allensdk wrote when it read the warehouse's stand-in; the
releases of Visual Behavior have the columns that allensdk 2.16.2 reads.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from neurofm.catalog import AllenSource, load_entry
from neurofm.errors import UserError
from neurofm.fetch import DatasetKey, Ledger, fetch_files
from neurofm.fetch.ask import Ask, S3Object
from neurofm.fetch.digests import matches
from neurofm.fetch.hosts import FetchSite, Hosts
from neurofm.sources import recordings_of
from neurofm.sources.allen import is_fixed, list_files
from neurofm.sources.allen_tables import session_table
from neurofm.sources.listing import Listing
from tests.servers.allen import NEUROPIXELS, TWO_PHOTON, Warehouse, visual_coding
from tests.servers.allensdk_environment import PROJECT, in_allensdk, project_with_allensdk
from tests.servers.seaweed import SeaweedServer, seaweed

CODING = "allen-brain-observatory"
EPHYS = "visual-coding-neuropixels/ecephys-cache"
_SESSIONS = "behavior_ecephys_sessions"
BEHAVIOR, BEHAVIOR_OPHYS = "visual-behavior-neuropixels", "visual-behavior-ophys"
FIRST, SECOND, THIRD = (f"sub-{one.donor}/session_{one.session}/session_{one.session}.nwb" for one in NEUROPIXELS)
IMAGED, IMAGED_AGAIN, IMAGED_LAST = (
    f"sub-{one.specimen}/ophys_experiment_data/{one.session}.nwb" for one in TWO_PHOTON
)


@dataclass(frozen=True, kw_only=True)
class Archive:
    """The buckets and the warehouse."""

    s3: SeaweedServer
    warehouse: Warehouse
    work: Path
    recordings: list[bytes]

    @property
    def site(self) -> FetchSite:
        return FetchSite(hosts=Hosts(s3=self.s3.url, allen_api=self.warehouse.url), timeout_s=20.0, attempts=2)

    def list(self, project: str, *, version: str = "listed", ask: Ask | None = None, **more: Any) -> Listing:
        with ask or Ask(self.site) as open_ask:
            return list_files(source_of(project, version=version, **more), ask=open_ask, work=self.work)


def source_of(project: str, **more: Any) -> AllenSource:
    return AllenSource.parse({"archive": "allen", "project": project, **more}, where="test", mend="-")


@pytest.fixture(autouse=True)
def _each_question_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask allensdk once for the same table: each question takes five seconds, most of them for its imports."""

    def remembered(project: str, **question: Any) -> Any:
        key = json.dumps([project, question["filters"], sorted(question["tables"].items())], default=repr)
        if key not in _ANSWERS:
            _ANSWERS[key] = session_table(project, **question)
        return _ANSWERS[key]

    monkeypatch.setattr("neurofm.sources.allen.session_table", remembered)


_ANSWERS: dict[str, Any] = {}


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, shared_data: Path) -> Iterator[Archive]:
    folder = tmp_path_factory.mktemp("allen")
    work = project_with_allensdk(folder)
    times = np.load(shared_data / "ephys" / "allen_visual_coding_spikeship" / "spike_times.npy")
    recordings = [(shared_data / "ephys" / "neurosuite_A2929-200711" / "A2929-200711.nwb").read_bytes()]
    recordings += [spikes_file(folder / f"{number}.nwb", times[number::8]) for number in range(8)]
    with seaweed(folder) as s3, Warehouse() as warehouse:
        visual_coding(warehouse)
        warehouse.add_file(recordings[0], kind="EcephysNwb", attached="EcephysSession", to=NEUROPIXELS[0].session)
        warehouse.add_file(recordings[2], kind="EcephysNwb", attached="EcephysSession", to=NEUROPIXELS[2].session)
        warehouse.add_file(recordings[3], kind="NWBOphys", attached="OphysExperiment", to=TWO_PHOTON[0].session)
        warehouse.add_file(recordings[4], kind="NWBOphys", attached="OphysExperiment", to=TWO_PHOTON[1].session)
        put_visual_coding(s3, tables_of_allensdk(warehouse, folder / "cache"), recordings)
        for project in (BEHAVIOR, BEHAVIOR_OPHYS):
            s3.make_bucket(f"{project}-data", versioned=True)
        put_behavior_neuropixels(s3, recordings)
        put_behavior_ophys(s3, recordings)
        yield Archive(s3=s3, warehouse=warehouse, work=work, recordings=recordings)


def spikes_file(path: Path, spike_times: np.ndarray[Any, Any]) -> bytes:
    with h5py.File(path, "w") as file:
        file["units/spike_times"] = spike_times
        file["units/spike_times_index"] = [len(spike_times)]
    return path.read_bytes()


def tables_of_allensdk(warehouse: Warehouse, cache: Path) -> dict[str, str]:
    """Return the files of allensdk's two caches, as it writes them."""
    tables: dict[str, str] = in_allensdk(
        "from pathlib import Path\n"
        "from allensdk.brain_observatory.ecephys.ecephys_project_cache import EcephysProjectCache\n"
        "from allensdk.brain_observatory.ecephys.ecephys_project_api import EcephysProjectWarehouseApi\n"
        "from allensdk.brain_observatory.ecephys.ecephys_project_api.rma_engine import RmaEngine\n"
        "from allensdk.core.brain_observatory_cache import BrainObservatoryCache\n"
        "api = EcephysProjectWarehouseApi(RmaEngine(scheme='http', host=url.removeprefix('http://')))\n"
        "EcephysProjectCache(manifest=cache + '/manifest.json', fetch_api=api).get_session_table()\n"
        "BrainObservatoryCache(manifest_file=cache + '/2p.json', base_uri=url).get_ophys_experiments()\n"
        "answer = {path.name: path.read_text() for path in Path(cache).iterdir() if path.is_file()}",
        url=warehouse.url,
        cache=str(cache),
    )
    return tables


def put_visual_coding(s3: SeaweedServer, tables: Mapping[str, str], recordings: list[bytes]) -> None:
    s3.make_bucket(CODING, versioned=True)
    first, second, _ = (f"{EPHYS}/session_{one.session}" for one in NEUROPIXELS)
    s3.put_parts(CODING, f"{first}/session_{NEUROPIXELS[0].session}.nwb", recordings[0])
    imaged = TWO_PHOTON[0].session
    files = {f"{EPHYS}/{name}": tables[name].encode() for name in tables if name.endswith(".csv")}
    files |= {
        f"{first}/probe_810755797_lfp.nwb": b"field potentials",
        f"{first}/session_{NEUROPIXELS[0].session}_analysis_metrics.csv": b"ecephys_unit_id\n",
        f"{second}/session_{NEUROPIXELS[1].session}.nwb": recordings[1],
        f"{EPHYS}/natural_movie_templates/natural_movie_1.h5": b"movie",
        f"{EPHYS}/brain_observatory_1.1_analysis_metrics.csv": b"ecephys_unit_id\n",
        "visual-coding-2p/ophys_experiments.json": tables["ophys_experiments.json"].encode(),
        f"visual-coding-2p/ophys_experiment_data/{imaged}.nwb": recordings[3],
        f"visual-coding-2p/ophys_experiment_analysis/{imaged}_three_session_A_analysis.h5": b"analysis",
        f"visual-coding-2p/ophys_movies/ophys_experiment_{imaged}.h5": b"terabytes",
    }
    s3.put_files(CODING, files)


def put_release(
    s3: SeaweedServer, project: str, version: str, tables: Mapping[str, str], data: Mapping[str, tuple[str, bytes]]
) -> None:
    """Put a release of a Visual Behavior project: tables, files by file id, and the manifest that names both."""

    def released(path: str, content: bytes) -> dict[str, str]:
        key = f"{project}/{path}"
        return {
            "url": f"https://{project}-data.s3.us-west-2.amazonaws.com/{key}",
            "version_id": s3.put(f"{project}-data", key, content).version_id,
            "file_hash": hashlib.blake2b(content).hexdigest(),
        }

    manifest = {
        "project_name": project,
        "manifest_version": version,
        "data_pipeline": [{"name": "AllenSDK", "version": "2.16.2", "comment": ""}],
        "metadata_file_id_column_name": "file_id",
        "metadata_files": {
            name: released(f"project_metadata/{name}.csv", text.encode()) for name, text in tables.items()
        },
        "data_files": {file_id: released(path, content) for file_id, (path, content) in data.items()},
    }
    name = f"{project}/manifests/{project}_project_manifest_v{version}.json"
    s3.put(f"{project}-data", name, json.dumps(manifest).encode())


def put_behavior_neuropixels(s3: SeaweedServer, recordings: list[bytes]) -> None:
    """Three releases; the file of session 1044385384 was replaced in the last. Their order is not that of letters."""
    sessions = (
        "ecephys_session_id,behavior_session_id,date_of_acquisition,mouse_id,session_type,age_in_days,unit_count,"
        "probe_count,channel_count,prior_exposures_to_image_set,file_id,abnormal_histology,abnormal_activity\n"
        "1044385384,1044408432,2020-08-19 14:36:09,524761,EPHYS_1_images_G_5uL_reward,151,1696,4,2304,65,870,,\n"
        "1044594870,1044624428,2020-08-20 15:03:54,524761,EPHYS_1_images_H_3uL_reward,152,1711,5,2304,0,872,,\n"
        "1056495334,1056532402,2020-10-14 13:00:00,531237,EPHYS_1_images_G_5uL_reward,147,1600,5,1920,42,874,,"
        "\"['photobleaching']\"\n"
    )
    tables = {
        "ecephys_sessions": sessions,
        "behavior_sessions": "behavior_session_id,ecephys_session_id,mouse_id,file_id\n1043752325,,524761,1207\n",
        "units": "unit_id,ecephys_session_id\n1\n",
        "probes": "ecephys_probe_id,ecephys_session_id,has_lfp_data,file_id\n1044506933,1044385384,True,1000\n",
        "channels": "ecephys_channel_id\n1\n",
    }
    folder = _SESSIONS
    data = {
        "870": (f"{folder}/1044385384/ecephys_session_1044385384.nwb", recordings[1]),
        "872": (f"{folder}/1044594870/ecephys_session_1044594870.nwb", recordings[2]),
        "874": (f"{folder}/1056495334/ecephys_session_1056495334.nwb", recordings[3]),
        "1000": (f"{folder}/1044385384/probe_probeA_lfp.nwb", b"field potentials"),
        "1207": ("behavior_only_sessions/1043752325/behavior_session_1043752325.nwb", b"training"),
    }
    put_release(s3, BEHAVIOR, "0.9.0", tables, data)
    data["870"] = (data["870"][0], recordings[4])
    put_release(s3, BEHAVIOR, "0.10.0", tables, data)


def put_behavior_ophys(s3: SeaweedServer, recordings: list[bytes]) -> None:
    experiments = (
        "behavior_session_id,ophys_session_id,ophys_container_id,mouse_id,session_type,cre_line,date_of_acquisition,"
        "imaging_depth,targeted_structure,ophys_experiment_id,file_id\n"
        "951520319,951410079,1018028342,457841,OPHYS_1_images_A,Sst-IRES-Cre,2019-09-20 08:05:39,150,VISp,951980471,3\n"
        "951520319,951410079,1018028345,457841,OPHYS_1_images_A,Sst-IRES-Cre,2019-09-20 08:05:39,225,VISp,951980473,4\n"
        "977247474,976708945,1018028339,498401,OPHYS_4_images_B,Vip-IRES-Cre,2019-11-07 12:00:00,175,VISl,977978329,5\n"
    )
    dates = "behavior_session_id,ophys_session_id,ophys_experiment_id,mouse_id,date_of_acquisition,file_id\n"
    tables = {
        "ophys_experiment_table": experiments,
        "ophys_session_table": dates + '951520319,951410079,"[951980471, 951980473]",457841,2019-09-20 08:05:39,\n',
        "behavior_session_table": dates + "870987812,,,457841,2019-05-18 09:20:21,6\n",
        "ophys_cells_table": "cell_roi_id,cell_specimen_id,ophys_experiment_id\n1080884343,,951980471\n",
    }
    data = {
        file_id: (f"behavior_ophys_experiments/behavior_ophys_experiment_{experiment}.nwb", recordings[number])
        for file_id, experiment, number in (("3", 951980471, 1), ("4", 951980473, 2), ("5", 977978329, 3))
    }
    data["6"] = ("behavior_sessions/behavior_session_870987812.nwb", b"training")
    put_release(s3, BEHAVIOR_OPHYS, "1.1.0", tables, data)


def test_only_releases_are_fixed_by_their_version() -> None:
    projects = ("visual-coding-neuropixels", "visual-coding-2p", BEHAVIOR, BEHAVIOR_OPHYS)
    assert [is_fixed(source_of(project, version="1.0.0")) for project in projects] == [False, False, True, True]


def test_sessions_are_chosen_and_held_by_etag_and_version(archive: Archive, tmp_path: Path) -> None:
    archive.warehouse.asked.clear()
    listing = archive.list(
        "visual-coding-neuropixels", version="latest", sessions={"session_type": ["brain_observatory_1.1"]}
    )
    assert (listing.source_id, listing.version) == ("visual-coding-neuropixels", "listed")
    files = {file.path: file for file in listing.files}
    metrics = f"{FIRST.removesuffix('.nwb')}_analysis_metrics.csv"
    tables = ("channels.csv", "probes.csv", "sessions.csv", "units.csv", "brain_observatory_1.1_analysis_metrics.csv")
    assert list(files) == sorted((*tables, "natural_movie_templates/natural_movie_1.h5", FIRST, metrics, SECOND))
    assert files[FIRST].digest.endswith("-2")
    for path, content in ((FIRST, archive.recordings[0]), (SECOND, archive.recordings[1])):
        there = tmp_path / "there"
        there.write_bytes(content)
        assert matches(there, files[path].digest, size=files[path].size)
        assert files[path].version_id
        assert files[path].origin == f"s3://{CODING}/{EPHYS}/{path.partition('/')[2]}"
    assert listing.facts == {"expect.subjects": 2, "expect.recordings": 2}
    # The tables come from the bucket: of the warehouse only the animals are asked.
    assert len(archive.warehouse.asked) == 1
    assert "specimen(donor)" in archive.warehouse.asked[0]


def test_field_potentials_only_when_named(archive: Archive) -> None:
    listing = archive.list("visual-coding-neuropixels", include=["**/*_lfp.nwb"])
    assert [file.path for file in listing.files] == [f"{FIRST.rpartition('/')[0]}/probe_810755797_lfp.nwb"]


def test_what_the_bucket_lacks_comes_from_the_warehouse(archive: Archive, capsys: pytest.CaptureFixture[str]) -> None:
    listing = archive.list("visual-coding-neuropixels", include=["sub-*/session_*/session_*.nwb"])
    assert [file.path for file in listing.files] == sorted((FIRST, SECOND, THIRD))
    third = next(file for file in listing.files if file.path == THIRD)
    assert (third.size, third.digest, third.version_id) == (len(archive.recordings[2]), "first-use", "")
    assert third.origin.startswith("allen:///api/v2/well_known_file_download/")
    assert f"session {NEUROPIXELS[2].session} is not in s3://{CODING}" in capsys.readouterr().err


def test_two_photon_experiments_of_one_animal_share_its_folder(
    archive: Archive, capsys: pytest.CaptureFixture[str]
) -> None:
    listing = archive.list("visual-coding-2p")
    analysis = (
        f"sub-{TWO_PHOTON[0].specimen}/ophys_experiment_analysis/{TWO_PHOTON[0].session}_three_session_A_analysis.h5"
    )
    assert [file.path for file in listing.files] == sorted((IMAGED, IMAGED_AGAIN, analysis, "ophys_experiments.json"))
    assert IMAGED.partition("/")[0] == IMAGED_AGAIN.partition("/")[0]
    assert listing.facts == {"expect.subjects": 1, "expect.recordings": 2}
    said = capsys.readouterr().err
    assert f"1 sessions have no file in the archive and are left out: {TWO_PHOTON[2].session}" in said
    assert IMAGED_LAST not in said


def test_globs_leave_sessions_unasked_for(archive: Archive) -> None:
    archive.warehouse.asked.clear()
    listing = archive.list("visual-coding-2p", include=["ophys_experiments.json"])
    assert [file.path for file in listing.files] == ["ophys_experiments.json"]
    assert not any("NWBOphys" in asked or asked.startswith("HEAD") for asked in archive.warehouse.asked)


@pytest.mark.parametrize(("version", "recording"), [("0.9.0", 1), ("latest", 4)])
def test_release_is_held_by_blake2b_and_version(archive: Archive, version: str, recording: int) -> None:
    listing = archive.list(BEHAVIOR, version=version)
    first, second = (
        f"sub-524761/behavior_ecephys_sessions/{session}/ecephys_session_{session}.nwb"
        for session in (1044385384, 1044594870)
    )
    assert listing.version == ("0.10.0" if version == "latest" else version)
    files = {file.path: file for file in listing.files}
    tables = [
        f"project_metadata/{name}.csv"
        for name in ("behavior_sessions", "channels", "ecephys_sessions", "probes", "units")
    ]
    # allensdk leaves the session of abnormal activity out; field potentials and training sessions were not asked for.
    assert list(files) == [*tables, first, second]
    content = archive.recordings[recording]
    assert files[first].digest == f"blake2b:{hashlib.blake2b(content).hexdigest()}"
    assert files[first].size == len(content)
    with Ask(archive.site) as ask:
        key = files[first].origin.removeprefix(f"s3://{BEHAVIOR}-data/")
        assert ask.object_content(f"{BEHAVIOR}-data", key, version_id=files[first].version_id) == content


def test_unknown_version_is_answered_with_the_versions(archive: Archive) -> None:
    with pytest.raises(UserError, match=r"has no version '0\.5\.0'.*use one of: 0\.9\.0, 0\.10\.0"):
        archive.list(BEHAVIOR, version="0.5.0")


def test_imaging_planes_are_chosen(archive: Archive) -> None:
    listing = archive.list(
        BEHAVIOR_OPHYS, version="1.1.0", include=["sub-*/**"], sessions={"cre_line": ["Sst-IRES-Cre"]}
    )
    assert [file.path for file in listing.files] == [
        f"sub-457841/behavior_ophys_experiments/behavior_ophys_experiment_{experiment}.nwb"
        for experiment in (951980471, 951980473)
    ]
    assert listing.facts == {"expect.subjects": 1, "expect.recordings": 2}


def test_unknown_column_names_the_columns(archive: Archive) -> None:
    with pytest.raises(UserError, match=r"`source\.sessions\.genotype`.*cre_line"):
        archive.list(BEHAVIOR_OPHYS, version="1.1.0", sessions={"genotype": ["wt"]})


class _Closed(Ask):
    """A bucket that does not list its versions to everybody."""

    def objects(self, bucket: str, prefix: str, *, versions: bool = False, older: bool = False) -> Iterator[S3Object]:
        if versions:
            raise UserError("HTTP 403, access refused.", mend="-")
        return super().objects(bucket, prefix)


def test_bucket_that_hides_its_versions_is_listed_without(archive: Archive) -> None:
    for project, version in ((BEHAVIOR, "0.10.0"), ("visual-coding-neuropixels", "listed")):
        listing = archive.list(project, version=version, include=["sub-*/**/*session_*.nwb"], ask=_Closed(archive.site))
        assert len(listing.files) >= 2
        assert {file.version_id for file in listing.files} == {""}


class _Tampered(Ask):
    """An archive, or somebody between, that changes a byte of every table."""

    def object_content(self, bucket: str, key: str, *, version_id: str = "") -> bytes:
        content = super().object_content(bucket, key, version_id=version_id)
        return content if key.endswith("_v1.1.0.json") else content[:-1] + b"!"


def test_tables_with_wrong_bytes_are_refused(archive: Archive) -> None:
    for project in ("visual-coding-2p", BEHAVIOR_OPHYS):
        with pytest.raises(UserError, match="bytes that came are not the"):
            archive.list(project, version="1.1.0", ask=_Tampered(archive.site))


def test_hostile_paths_and_links_are_refused(archive: Archive) -> None:
    class Hostile(Ask):
        def objects(
            self, bucket: str, prefix: str, *, versions: bool = False, older: bool = False
        ) -> Iterator[S3Object]:
            yield S3Object(key=f"{prefix}../../etc/passwd", size=1, etag="0" * 32)

    with pytest.raises(UserError, match="hostile path"):
        archive.list("visual-coding-2p", ask=Hostile(archive.site))

    class Elsewhere(Ask):
        def json(self, *question: Any, **more: Any) -> Any:
            answer = super().json(*question, **more)
            return answer | {"msg": [record | {"download_link": "//evil/x"} for record in answer["msg"]]}

    with pytest.raises(UserError, match="not asked for"):
        archive.list("visual-coding-2p", ask=Elsewhere(archive.site))


def test_offline_nothing_is_made_or_asked(archive: Archive, tmp_path: Path) -> None:
    with (
        Ask(archive.site.model_copy(update={"offline": True})) as ask,
        pytest.raises(UserError, match="this run is offline"),
    ):
        list_files(source_of("visual-coding-2p", version="listed"), ask=ask, work=tmp_path / ".neurofm")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("dataset", "version", "recordings"),
    [
        ("allen-vc-neuropixels-bo11", "listed", [f"sub-{one.donor}_ses-{one.session}" for one in NEUROPIXELS[:2]]),
        ("allen-vc-neuropixels-fc", "listed", [f"sub-{one.donor}_ses-{one.session}" for one in NEUROPIXELS[2:]]),
        ("allen-vc-2p", "listed", [f"sub-{one.specimen}_ses-{one.session}" for one in TWO_PHOTON[:2]]),
        ("allen-vb-neuropixels", "0.10.0", ["sub-524761_ses-1044385384", "sub-524761_ses-1044594870"]),
        (
            "allen-vb-ophys",
            "1.1.0",
            [f"sub-{one}" for one in ("457841_ses-951980471", "457841_ses-951980473", "498401_ses-977978329")],
        ),
    ],
)
def test_entry_of_the_catalogue_makes_recordings(
    archive: Archive, dataset: str, version: str, recordings: list[str]
) -> None:
    entry = load_entry(dataset, root=PROJECT)
    assert isinstance(entry.source, AllenSource)
    with Ask(archive.site) as ask:
        source = entry.source.model_copy(update={"version": version})
        listing = list_files(source, ask=ask, work=archive.work)
    found = recordings_of(
        [file.path for file in listing.files], entry.recordings, namespace=entry.subject_namespace, where=dataset
    )
    assert [recording.id for recording in found] == recordings
    assert len(listing.files) == len(recordings)


@pytest.mark.parametrize(
    ("project", "version", "recordings"),
    [
        ("visual-coding-neuropixels", "listed", {FIRST: 0, SECOND: 1, THIRD: 2}),
        (BEHAVIOR, "0.9.0", {f"sub-524761/{_SESSIONS}/1044385384/ecephys_session_1044385384.nwb": 1}),
    ],
)
def test_listed_files_are_fetched_and_a_second_time_not(
    archive: Archive, tmp_path: Path, project: str, version: str, recordings: dict[str, int]
) -> None:
    """From the bucket in parts, from the warehouse without a digest, and a version that has been replaced since."""
    files = archive.list(project, version=version, include=list(recordings)).files
    who = DatasetKey(dataset=f"test-{project}", archive="allen", version=version)
    where: dict[str, Any] = {"who": who, "folder": tmp_path / "raw", "site": archive.site, "work": tmp_path / "work"}
    with Ledger.open(tmp_path / "ledger.sqlite") as ledger:
        ledger.plan(who, files)
        summary = fetch_files(files, ledger=ledger, **where)
        assert (summary.fetched_files, summary.failed, summary.quarantined) == (len(recordings), {}, {})
        again = fetch_files(files, ledger=ledger, **where)
        assert (again.requests, again.kept_files) == (0, len(recordings))
    for path, number in recordings.items():
        assert (tmp_path / "raw" / path).read_bytes() == archive.recordings[number]


def test_allensdk_downloads_what_we_verify(archive: Archive, tmp_path: Path) -> None:
    """By its own client, from the same servers: one session of each project."""
    got = in_allensdk(
        "from allensdk.brain_observatory.ecephys.ecephys_project_api import EcephysProjectWarehouseApi as Api\n"
        "from allensdk.brain_observatory.ecephys.ecephys_project_api.rma_engine import RmaEngine\n"
        "from allensdk.core.brain_observatory_cache import BrainObservatoryCache\n"
        "from allensdk.brain_observatory.behavior.behavior_project_cache import (\n"
        "    VisualBehaviorNeuropixelsProjectCache, VisualBehaviorOphysProjectCache)\n"
        "api = Api(RmaEngine(scheme='http', host=url.removeprefix('http://')))\n"
        "api.rma_engine.write_bytes(folder + '/ephys.nwb', api.get_session_data(int(session)))\n"
        "boc = BrainObservatoryCache(manifest_file=folder + '/boc/manifest.json', base_uri=url)\n"
        "boc.api.save_ophys_experiment_data(int(experiment), folder + '/2p.nwb')\n"
        "vbn = VisualBehaviorNeuropixelsProjectCache.from_s3_cache(folder + '/vbn')\n"
        "vbo = VisualBehaviorOphysProjectCache.from_s3_cache(folder + '/vbo')\n"
        "answer = {\n"
        "    'files': [folder + '/ephys.nwb', folder + '/2p.nwb',\n"
        "              str(vbn.fetch_api.cache.download_data('870')), str(vbo.fetch_api.cache.download_data('3'))],\n"
        "    'vbn': json.loads(vbn.get_ecephys_session_table().reset_index().to_json(orient='records')),\n"
        "    'vbo': [int(one) for one in vbo.get_ophys_experiment_table().index],\n"
        "}",
        variables={"AWS_ENDPOINT_URL": archive.s3.url, "AWS_DEFAULT_REGION": "us-east-1"},
        url=archive.warehouse.url,
        folder=str(tmp_path),
        session=str(NEUROPIXELS[0].session),
        experiment=str(TWO_PHOTON[0].session),
    )
    wanted = (
        ("visual-coding-neuropixels", "listed", FIRST),
        ("visual-coding-2p", "listed", IMAGED),
        (BEHAVIOR, "0.10.0", "sub-524761/behavior_ecephys_sessions/1044385384/ecephys_session_1044385384.nwb"),
        (BEHAVIOR_OPHYS, "1.1.0", "sub-457841/behavior_ophys_experiments/behavior_ophys_experiment_951980471.nwb"),
    )
    for (project, version, path), downloaded in zip(wanted, got["files"], strict=True):
        (file,) = archive.list(project, version=version, include=[path]).files
        assert matches(Path(downloaded), file.digest, size=file.size), project
    assert [row["ecephys_session_id"] for row in got["vbn"]] == [1044385384, 1044594870]
    assert got["vbo"] == [951980471, 951980473, 977978329]
