"""A few rounds of the soak, and proof that it sees what it looks for; two hundred rounds are `make soak`."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from neurofm.fetch.ledger import FileState, Ledger
from neurofm.recording import ManifestFile
from tests.fetch.soak import Disagreement, Plan, Soak, soak
from tests.servers.fixtures import Fetching, missing_part, sha256
from tests.servers.proxy import Exchange, Proxy
from tests.servers.seaweed import NoServer


def test_a_fetch_that_is_killed_again_and_again(shared_data: Path, tmp_path: Path) -> None:
    plan = Plan(kills=6, seed=20_261_121, files=60, most=3_000_000, rate=8e6, life_s=1.5, cuts=0.05)
    try:
        figures = soak(plan, data=shared_data, home=tmp_path)
    except NoServer as error:
        missing_part(str(error))
        raise
    assert figures.kills == 6
    assert figures.bytes >= figures.dataset_bytes * figures.campaigns


# --- What the soak would say of a fetch that does it wrong.

RIGHT = ManifestFile(path="a.edf", size=5, digest=sha256(b"right"), origin="s3://soak/a.edf")


@pytest.fixture
def here(tmp_path: Path) -> Fetching:
    """A dataset of which `a.edf` was fetched."""
    here = Fetching(home=tmp_path)
    here.raw.mkdir()
    (here.raw / "a.edf").write_bytes(b"right")
    with Ledger.open(here.ledger) as ledger:
        ledger.plan(here.who, [RIGHT])
        ledger.record(here.who, RIGHT, FileState.VERIFIED, bytes=5)
    return here


@pytest.fixture
def looking(here: Fetching) -> Soak:
    """A soak that looks at it."""
    truth = {"a.edf": sha256(b"right").removeprefix("sha256:")}
    plan, proxy = Plan(kills=1, seed=1), Proxy(("127.0.0.1", 9))
    return Soak(plan=plan, home=here.home, proxy=proxy, manifest=[RIGHT], truth=truth, draw=random.Random(1))


def test_what_is_right_passes(looking: Soak, here: Fetching) -> None:
    there = looking._check_disk(here)
    assert there == {"a.edf"}
    looking._check_restart(here, there)
    looking._nothing_asked_again([], there, {})


@pytest.mark.parametrize("content", [b"rig", b"wrong", b""])
def test_a_wrong_file_under_its_name_is_seen(looking: Soak, here: Fetching, content: bytes) -> None:
    (here.raw / "a.edf").write_bytes(content)
    with pytest.raises(Disagreement, match="believed and wrong"):
        looking._check_disk(here)


def test_a_file_that_is_called_verified_and_missing_is_seen(looking: Soak, here: Fetching) -> None:
    (here.raw / "a.edf").unlink()
    with pytest.raises(Disagreement, match="differ"):
        looking._check_disk(here)


def test_a_request_for_what_is_there_is_seen(looking: Soak) -> None:
    again = Exchange(method="GET", path="/soak/a.edf", query="", range="")
    with pytest.raises(Disagreement, match="although it was there"):
        looking._nothing_asked_again([again], frozenset({"a.edf"}), {})
    with pytest.raises(Disagreement, match="all of it"):
        looking._nothing_asked_again([again], frozenset(), {"a.edf": 5})


@pytest.mark.parametrize("wanted", ["", "bytes=0-", "bytes=2-"])
def test_a_request_for_bytes_that_are_there_is_seen(looking: Soak, wanted: str) -> None:
    again = Exchange(method="GET", path="/soak/a.edf", query="", range=wanted)
    with pytest.raises(Disagreement, match="3 bytes were there"):
        looking._nothing_asked_again([again], frozenset(), {"a.edf": 3})
