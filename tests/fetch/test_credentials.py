"""Credentials: taken from the environment or netrc, sent to whom they are for, and written nowhere."""

from __future__ import annotations

import json
import logging
import traceback
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from neurofm.errors import UserError
from neurofm.fetch.ask import Ask
from neurofm.fetch.hosts import Hosts, S3Place
from neurofm.recording import ManifestFile
from tests.servers.fixtures import (  # noqa: F401  # fixtures are found by their names
    Fetching,
    edf_fixture,
    files_fixture,
    other_host_fixture,
    s3_fixture,
    sha256,
    start_child,
    wanted,
)
from tests.servers.http_files import Fault, FileServer, Page, Request
from tests.servers.seaweed import SeaweedServer

USER = "marked-user"
PASSWORD = "marked-5ecret-crcns"
NETRC_PASSWORD = "marked-5ecret-netrc"
AWS_KEY = "AKMARKED5ECRET"
AWS_SECRET = "marked-5ecret-aws"
AWS_TOKEN = "marked-5ecret-token"
DANDI_KEY = "marked-5ecret-dandi"
SIGNATURE = "marked-5ecret-signature"
MARK = "5ecret"
LOGIN_PAGE = (
    "<html><body>Invalid user name or password"
    '<form method="post"><input name="username"><input name="password" type="password"></form></body></html>'
)
NAMES = (
    "DANDI_API_KEY",
    "CRCNS_USERNAME",
    "CRCNS_PASSWORD",
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_PROFILE",
)
CRCNS_ENV = {"CRCNS_USERNAME": USER, "CRCNS_PASSWORD": PASSWORD}
AWS_ENV = {"AWS_ACCESS_KEY_ID": AWS_KEY, "AWS_SECRET_ACCESS_KEY": AWS_SECRET, "AWS_SESSION_TOKEN": AWS_TOKEN}


@pytest.fixture(autouse=True)
def no_credentials(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Whoever runs the tests has credentials of their own: they take no part."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture
def crcns(files: FileServer, edf: bytes) -> FileServer:
    """CRCNS's download page: a form with login, a file or a page of HTML, both with 200."""
    files.files = {"/hc-3/a.eeg": edf, "/hc-3/b.eeg": edf[::-1]}

    def route(request: Request) -> str | Page:
        if request.path != "/download/index.php":
            return request.path
        if request.form.get("username") != USER or request.form.get("password") not in {PASSWORD, NETRC_PASSWORD}:
            return Page(body=LOGIN_PAGE.encode())
        return f"/{request.form['fn']}"

    files.route = route
    return files


def crcns_files(edf: bytes) -> list[ManifestFile]:
    return [
        wanted("crcns://hc-3/a.eeg", edf, path="a.eeg"),
        wanted("crcns://hc-3/b.eeg", edf[::-1], path="b.eeg"),
    ]


def at_crcns(home: Path, server: FileServer) -> Fetching:
    return _at(home, Hosts(crcns=f"{server.url}/download/index.php"))


def at_bucket(home: Path, url: str) -> Fetching:
    return _at(home, Hosts(buckets={"gated": S3Place(endpoint=url, signed=True)}))


def at_openneuro(home: Path, server: FileServer) -> Fetching:
    return _at(home, Hosts(openneuro_graphql=f"{server.url}/crn/graphql"))


def _at(home: Path, hosts: Hosts) -> Fetching:
    here = Fetching(home=home / "project")
    here.site = here.site.model_copy(update={"hosts": hosts})
    return here


def _set(monkeypatch: pytest.MonkeyPatch, env: Mapping[str, str]) -> None:
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def _write_netrc(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: str) -> None:
    place = tmp_path / "netrc"
    place.write_text(content)
    place.chmod(0o600)
    monkeypatch.setenv("NETRC", str(place))


def _secrets_in(request: Request) -> bool:
    return (
        MARK in request.everything
        or USER in request.everything
        or "authorization" in request.headers
        or any(name.startswith("x-amz-") for name in request.headers)
    )


# --- They are used, and missing ones are named.


def test_a_login_from_the_environment(
    crcns: FileServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, CRCNS_ENV)
    here = at_crcns(tmp_path, crcns)
    here.fetch(crcns_files(edf))
    assert here.present() == {"a.eeg": edf, "b.eeg": edf[::-1]}
    assert all(request.method == "POST" and not request.query for request in crcns.asked)


def test_a_login_from_netrc(crcns: FileServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _write_netrc(monkeypatch, tmp_path, f"machine crcns.org login {USER} password {NETRC_PASSWORD}\n")
    here = at_crcns(tmp_path, crcns)
    assert here.fetch(crcns_files(edf)).fetched_files == 2


@pytest.mark.parametrize(
    ("env", "named"),
    [
        ({}, "CRCNS_USERNAME and CRCNS_PASSWORD"),
        ({"CRCNS_USERNAME": USER}, "CRCNS_PASSWORD"),
        ({"CRCNS_USERNAME": USER, "CRCNS_PASSWORD": ""}, "CRCNS_PASSWORD"),
    ],
)
def test_a_missing_login_names_the_variable(
    *,
    crcns: FileServer,
    edf: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    env: dict[str, str],
    named: str,
) -> None:
    _set(monkeypatch, env)
    with pytest.raises(UserError, match=named):
        at_crcns(tmp_path, crcns).fetch(crcns_files(edf))
    assert crcns.asked == []


def test_a_default_of_netrc_is_not_a_login(
    crcns: FileServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _write_netrc(monkeypatch, tmp_path, f"default login {USER} password {NETRC_PASSWORD}\n")
    with pytest.raises(UserError, match="CRCNS_USERNAME"):
        at_crcns(tmp_path, crcns).fetch(crcns_files(edf))
    assert crcns.asked == []


def test_a_refused_login_is_said_once_and_not_tried_for_every_file(
    crcns: FileServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong password answers 200 with a page: an account must not be locked by hundreds of tries."""
    _set(monkeypatch, {"CRCNS_USERNAME": USER, "CRCNS_PASSWORD": "wrong"})
    here = at_crcns(tmp_path, crcns)
    with pytest.raises(UserError, match="CRCNS_PASSWORD"):
        here.fetch(crcns_files(edf))
    assert len(crcns.asked) <= 2
    assert here.present() == {}
    _set(monkeypatch, CRCNS_ENV)
    assert here.fetch(crcns_files(edf)).fetched_files == 2


def test_missing_keys_of_a_signed_bucket_are_named(files: FileServer, edf: bytes, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"AWS_ACCESS_KEY_ID.*AWS_SECRET_ACCESS_KEY"):
        at_bucket(tmp_path, files.url).fetch([wanted("s3://gated/eeg.edf", edf)])
    assert files.asked == []


def test_a_real_server_believes_the_signature(
    s3: SeaweedServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    s3.make_bucket("gated", versioned=True)
    stored = s3.put("gated", "sub 01/eeg+x.edf", edf)
    file = wanted(stored.origin, edf, path="eeg.edf").model_copy(update={"version_id": stored.version_id})
    here = at_bucket(tmp_path, s3.url)
    _set(monkeypatch, {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": "wrong"})
    assert set(here.fetch([file]).quarantined) == {"eeg.edf"}
    again = at_bucket(tmp_path / "again", s3.url)
    _set(monkeypatch, {"AWS_ACCESS_KEY_ID": s3.access_key, "AWS_SECRET_ACCESS_KEY": s3.secret_key})
    assert again.fetch([file]).fetched_files == 1


# --- They are sent to whom they are for.


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_login_is_not_sent_to_another_host(
    *,
    crcns: FileServer,
    other_host: FileServer,
    edf: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    _set(monkeypatch, CRCNS_ENV)
    other_host.files = {"/a.eeg": edf}
    crcns.script["/hc-3/a.eeg"] = [Fault(status=status, headers={"Location": f"{other_host.url}/a.eeg"})]
    here = at_crcns(tmp_path, crcns)
    here.fetch(crcns_files(edf)[:1])
    assert [_secrets_in(request) for request in other_host.asked] == [False]
    assert here.present() == {"a.eeg": edf}


@pytest.mark.parametrize("status", [302, 307])
def test_signed_headers_are_not_sent_to_another_host(
    *,
    files: FileServer,
    other_host: FileServer,
    edf: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    _set(monkeypatch, AWS_ENV)
    other_host.files = {"/eeg.edf": edf}
    files.script["/gated/eeg.edf"] = [Fault(status=status, headers={"Location": f"{other_host.url}/eeg.edf"})]
    here = at_bucket(tmp_path, files.url)
    here.fetch([wanted("s3://gated/eeg.edf", edf)])
    assert AWS_KEY in files.asked[0].headers["authorization"]
    assert [_secrets_in(request) for request in other_host.asked] == [False]
    assert here.present() == {"eeg.edf": edf}


def test_a_key_of_dandi_goes_to_dandi_alone(
    files: FileServer, other_host: FileServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Embargoed assets are asked for at the API, which sends on to a presigned address of the bucket."""
    _set(monkeypatch, {"DANDI_API_KEY": DANDI_KEY})
    other_host.files = {"/blob": edf, "/plain": edf}
    files.script["/api/assets/1/download/"] = [Fault(status=302, headers={"Location": f"{other_host.url}/blob"})]
    here = _at(tmp_path, Hosts(dandi_api=f"{files.url}/api"))
    embargoed = wanted(f"{files.url}/api/assets/1/download/", edf, path="a.nwb")
    here.fetch([embargoed, wanted(f"{other_host.url}/plain", edf, path="b.nwb")])
    assert here.present() == {"a.nwb": edf, "b.nwb": edf}
    assert [request.headers.get("authorization") for request in files.asked] == [f"token {DANDI_KEY}"]
    assert not any(_secrets_in(request) for request in other_host.asked)
    _nothing_under(here.home)


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_a_signed_question_is_not_sent_to_another_host(
    files: FileServer, other_host: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    """Listings go another way than files do."""
    _set(monkeypatch, AWS_ENV)
    other_host.route = lambda _: Page(kind="application/xml", body=b"<ListBucketResult></ListBucketResult>")
    files.script["/gated"] = [Fault(status=status, headers={"Location": f"{other_host.url}/gated"})]
    with Ask(at_bucket(tmp_path, files.url).site) as ask, suppress(UserError):
        list(ask.objects("gated", "sub-01/"))
    assert AWS_KEY in files.asked[0].headers["authorization"]
    assert not any(_secrets_in(request) for request in other_host.asked)


def test_what_netrc_says_of_one_host_is_not_sent_to_another(
    files: FileServer, other_host: FileServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hosts differ in name here (localhost, 127.0.0.1), as netrc knows no ports."""
    _write_netrc(monkeypatch, tmp_path, f"machine localhost login {USER} password {NETRC_PASSWORD}\n")
    other_host.files = {"/eeg.edf": edf}
    files.script["/eeg.edf"] = [Fault(status=302, headers={"Location": f"{other_host.url}/eeg.edf"})]
    here = _at(tmp_path, Hosts())
    here.fetch([wanted(f"http://localhost:{files.port}/eeg.edf", edf)])
    assert [_secrets_in(request) for request in other_host.asked] == [False]
    assert here.present() == {"eeg.edf": edf}


def test_a_default_of_netrc_is_sent_to_nobody(
    files: FileServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A `default` line names no host, so no host may have it: public archives are asked without a login."""
    _write_netrc(monkeypatch, tmp_path, f"default login {USER} password {NETRC_PASSWORD}\n")
    files.files = {"/eeg.edf": edf, "/bucket/eeg.edf": edf}
    here = _at(tmp_path, Hosts(s3=files.url))
    here.fetch([wanted(f"{files.url}/eeg.edf", edf), wanted("s3://bucket/eeg.edf", edf, path="b.edf")])
    assert len(files.asked) == 2
    assert not any(_secrets_in(request) for request in files.asked)


def test_a_line_of_netrc_does_not_disturb_a_signed_bucket(
    files: FileServer, edf: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, AWS_ENV)
    _write_netrc(monkeypatch, tmp_path, f"machine 127.0.0.1 login {USER} password {NETRC_PASSWORD}\n")
    files.files = {"/gated/eeg.edf": edf}
    here = at_bucket(tmp_path, files.url)
    here.fetch([wanted("s3://gated/eeg.edf", edf)])
    assert here.present() == {"eeg.edf": edf}
    assert all(request.headers["authorization"].startswith("AWS4-HMAC-SHA256") for request in files.asked)


# --- They are written nowhere.


@dataclass(frozen=True, kw_only=True)
class Leak:
    """One way in which a fetch that holds secrets can go."""

    archive: str
    answers: tuple[Fault, ...] = ()
    always: Fault | None = None
    down: bool = False
    """Nobody listens any more."""
    env: Mapping[str, str] | None = None


PAGE = Fault(status=200, headers={"Content-Type": "text/html"}, body=LOGIN_PAGE.encode())
WRONG = Fault(flip=0)
LEAKS = {
    **{
        f"{archive}, {name}": leak
        for archive in ("crcns", "s3", "openneuro")
        for name, leak in {
            "all well": Leak(archive=archive),
            "cut": Leak(archive=archive, answers=(Fault(stop_at=1000),)),
            "wrong bytes": Leak(archive=archive, always=WRONG),
            "refused": Leak(archive=archive, always=Fault(status=403)),
            "not there": Leak(archive=archive, always=Fault(status=404)),
            "busy": Leak(archive=archive, always=Fault(status=503)),
            "stalled": Leak(archive=archive, always=Fault(stall_at=0)),
            "a page": Leak(archive=archive, always=PAGE),
            "a broken answer": Leak(archive=archive, always=Fault(headers={"Content-Length": "nonsense"})),
            "a redirect to nowhere": Leak(
                archive=archive, always=Fault(status=307, headers={"Location": "http://127.0.0.1:1/x"})
            ),
            "a redirect to nonsense": Leak(
                archive=archive, always=Fault(status=307, headers={"Location": "ht!tp://[x"})
            ),
            "nobody there": Leak(archive=archive, down=True),
        }.items()
    },
    "crcns, a wrong password": Leak(archive="crcns", env={"CRCNS_USERNAME": USER, "CRCNS_PASSWORD": f"other-{MARK}"}),
    "crcns, half a login": Leak(archive="crcns", env={"CRCNS_PASSWORD": PASSWORD}),
    "s3, half a key": Leak(archive="s3", env={"AWS_SECRET_ACCESS_KEY": AWS_SECRET}),
}


@pytest.fixture
def servers(crcns: FileServer, edf: bytes) -> FileServer:
    """One server that is CRCNS, a signed bucket, and OpenNeuro with presigned addresses."""
    crcns.files |= {"/gated/a.eeg": edf, "/presigned/a.eeg": edf}
    login = crcns.route

    def route(request: Request) -> str | Page | None:
        if request.path == "/crn/graphql":
            url = f"{crcns.url}/presigned/a.eeg?X-Amz-Signature={SIGNATURE}"
            answer = {"data": {"snapshot": {"files": [{"filename": "a.eeg", "urls": [url]}]}}}
            return Page(kind="application/json", body=json.dumps(answer).encode())
        return login(request)

    crcns.route = route
    return crcns


def _leak_jobs(server: FileServer, edf: bytes, home: Path) -> dict[str, tuple[Fetching, ManifestFile, Leak]]:
    jobs = {}
    for number, (name, leak) in enumerate(LEAKS.items()):
        place = home / str(number)
        here, origin = {
            "crcns": (at_crcns(place, server), "crcns://hc-3/a.eeg"),
            "s3": (at_bucket(place, server.url), "s3://gated/a.eeg"),
            "openneuro": (at_openneuro(place, server), "openneuro://ds000001/1.0.0/a.eeg"),
        }[leak.archive]
        jobs[name] = (here, wanted(origin, edf, path="a.eeg"), leak)
    return jobs


SERVED = {"crcns": "/hc-3/a.eeg", "s3": "/gated/a.eeg", "openneuro": "/presigned/a.eeg"}


@pytest.mark.parametrize("name", LEAKS)
def test_no_secret_is_written_anywhere(
    *,
    name: str,
    servers: FileServer,
    edf: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """However a fetch ends: not in the ledger, the files, the quarantine, an error, a log or on the terminal."""
    caplog.set_level(logging.DEBUG)
    here, file, leak = _leak_jobs(servers, edf, tmp_path)[name]
    _set(monkeypatch, (CRCNS_ENV | AWS_ENV) if leak.env is None else leak.env)
    servers.script[SERVED[leak.archive]] = list(leak.answers)
    if leak.always is not None:
        servers.always[SERVED[leak.archive]] = leak.always
    if leak.down:
        servers._server.shutdown()
        servers._server.server_close()
    said = ""
    try:
        said = repr(here.fetch([file], attempts=2, timeout_s=0.3))
    except UserError as error:
        said = "".join(traceback.format_exception(error))
    out, err = capfd.readouterr()
    logs = "\n".join(f"{record.getMessage()} {record.exc_text}" for record in caplog.records)
    for place in (said, out, err, logs):
        assert MARK not in place
        assert USER not in place
        assert AWS_KEY not in place
    _nothing_under(here.home)


def _nothing_under(folder: Path) -> None:
    for place in folder.rglob("*"):
        assert MARK not in str(place)
        if place.is_file():
            content = place.read_bytes()
            for secret in (MARK, USER, AWS_KEY):
                assert secret.encode() not in content, place


def test_no_secret_is_written_by_a_process_that_logs_everything(
    servers: FileServer, edf: bytes, tmp_path: Path
) -> None:
    """The same in a process of its own, with every library's log at DEBUG and tracebacks printed, and asyncio's too."""
    chosen = ("crcns, all well", "s3, all well", "openneuro, all well", "s3, a redirect to nonsense")
    jobs: list[dict[str, Any]] = []
    places = []
    for name, (here, file, _) in _leak_jobs(servers, edf, tmp_path).items():
        if name in chosen:
            places.append(here.home)
            jobs.append(here.job([file], attempts=2))
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {NETRC_PASSWORD}\n")
    netrc.chmod(0o600)
    env = {**CRCNS_ENV, **AWS_ENV, "NETRC": str(netrc), "PYTHONASYNCIODEBUG": "1", "PYTHONDEVMODE": "1"}
    child = start_child(jobs, tmp_path / "spec.json", env=env)
    out, err = child.communicate(timeout=120)
    assert child.returncode == 0, err[-3000:]
    assert len(out.splitlines()) == 1 + len(jobs)
    assert "aiohttp" in err or "asyncio" in err
    for secret in (MARK, USER, AWS_KEY):
        assert secret not in out
        assert secret not in err
    for place in places:
        _nothing_under(place)


def test_the_marks_are_found_where_they_are(tmp_path: Path) -> None:
    """The search above finds a secret that is there."""
    (tmp_path / "ledger").write_bytes(b"\x00" + SIGNATURE.encode() + b"\x00")
    with pytest.raises(AssertionError):
        _nothing_under(tmp_path)
    assert sha256(b"") not in SIGNATURE
