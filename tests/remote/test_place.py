"""Credentials of every kind are asked for by botocore; what it raises becomes one line, also in the middle."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from neurofm.errors import UserError
from neurofm.remote.address import parse_address
from neurofm.remote.complaints import Answer, reason_of
from neurofm.remote.place import find_place
from neurofm.remote.project import RemoteSettings

REFUSED = b"<ErrorResponse><Error><Code>AccessDenied</Code><Message>not for you</Message></Error></ErrorResponse>"
ON_LOAN = '{"Version": 1, "AccessKeyId": "AK", "SecretAccessKey": "s", "SessionToken": "t", "Expiration": "%s"}'


@pytest.fixture(autouse=True)
def aws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A person's ``~/.aws/config``, and nothing in the environment."""
    for name in list(os.environ):
        if name.startswith("AWS_"):
            monkeypatch.delenv(name)
    config = tmp_path / "config"
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    return config


@pytest.fixture
def sts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Amazon's service for roles, refusing one as it does."""

    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(403)
            self.send_header("Content-Length", str(len(REFUSED)))
            self.end_headers()
            self.wfile.write(REFUSED)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL_STS", f"http://127.0.0.1:{server.server_port}")
        yield
        server.shutdown()


def settings(profile: str = "lab", endpoint: str = "") -> RemoteSettings:
    return RemoteSettings(
        name="storage", address=parse_address("s3://our-lab/x"), profile=profile, region="eu-west-1", endpoint=endpoint
    )


@pytest.mark.usefixtures("sts")
def test_a_role_that_is_refused(aws: Path, caplog: pytest.LogCaptureFixture) -> None:
    aws.write_text(
        "[profile lab]\nrole_arn = arn:aws:iam::123456789012:role/lab\nsource_profile = me\n"
        "region = eu-west-1\n"
        "[profile me]\naws_access_key_id = AK\naws_secret_access_key = secret\n"
    )
    with pytest.raises(UserError, match="may not take the role") as refused:
        find_place(settings())
    assert "role_arn" in refused.value.mend
    assert not caplog.text, "botocore's own traceback"


def test_credentials_that_cannot_be_renewed_in_the_middle(aws: Path, tmp_path: Path) -> None:
    """They are on loan by a program of the lab's, which works at first."""
    program = tmp_path / "loan.py"
    program.write_text(f"""\
from datetime import UTC, datetime, timedelta
from pathlib import Path
asked = Path({str(tmp_path / "asked")!r})
asked.open("a").write("x")
if len(asked.read_text()) > 4:
    raise SystemExit("log in again")
print({ON_LOAN!r} % (datetime.now(UTC) + timedelta(seconds=60)).isoformat())
""")
    aws.write_text(f"[profile lab]\ncredential_process = {sys.executable} {program}\n")
    place = find_place(settings())

    def go_on() -> None:
        for _ in range(10):
            place.headers("GET", place.url("ab/cd"))

    with pytest.raises(Answer, match="log in again") as refused:
        go_on()
    assert reason_of(refused.value) == "ExpiredToken"


def test_what_is_no_endpoint_or_no_certificate(aws: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    aws.write_text("[profile lab]\naws_access_key_id = AK\naws_secret_access_key = secret\n")
    with pytest.raises(UserError, match="Invalid endpoint"):
        find_place(settings(endpoint="s3.lab.example"))
    monkeypatch.setenv("AWS_CA_BUNDLE", str(tmp_path / "nowhere.pem"))
    with pytest.raises(UserError, match=r"AWS_CA_BUNDLE: \S+nowhere.pem"):
        find_place(settings())
