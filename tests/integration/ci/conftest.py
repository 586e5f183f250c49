"""A lab's project, and what its pipeline did in turn: everything new, then a merge request."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.integration.ci.lab import Lab, Ran, make_lab
from tests.servers.fixtures import missing_part
from tests.servers.node_clients import node_program
from tests.servers.seaweed import NoServer, SeaweedServer, seaweed

SUBJECTS = 6


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SeaweedServer]:
    with ExitStack() as running:
        try:
            server = running.enter_context(seaweed(tmp_path_factory.mktemp("seaweed")))
        except NoServer as error:
            missing_part(str(error))
            raise
        yield server


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory, shared_data: Path, s3: SeaweedServer) -> Lab:
    """The project as the lab commits it, with six people's parcel series; nothing was run yet."""
    source = shared_data / "fmri" / "ds000228_pixar_rois"
    paths = sorted((source / "timeseries").glob("*AAL_timeseries.npy"))[:SUBJECTS]
    series = {path.name: path for path in (*paths, source / "participants.tsv")}
    return make_lab(tmp_path_factory.mktemp("lab"), series=series, s3=s3, program=node_program("gitlab-ci-local"))


@dataclass(frozen=True, kw_only=True)
class Built:
    """The lab's project after its first pipeline on the default branch, whose commit was pulled."""

    lab: Lab
    ran: Ran


@pytest.fixture(scope="session")
def built(lab: Lab) -> Built:
    ran = lab.pipeline()
    if not ran.failed and ran.code == 0:
        lab.pull()
    return Built(lab=lab, ran=ran)
