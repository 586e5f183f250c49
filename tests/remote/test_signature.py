"""Our signature is botocore's, byte for byte."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from botocore import auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ReadOnlyCredentials

from neurofm.remote.signature import signed_headers

NOW = datetime(2026, 11, 25, 9, 0, 0, tzinfo=UTC)
BASE = "https://our-lab.s3.eu-west-1.amazonaws.com"


@pytest.mark.parametrize("token", [None, "of-a-role"])
@pytest.mark.parametrize(
    "asked",
    [
        ("GET", "/x/files/md5/ab/cd", b"", {}),
        ("GET", "/?continuation-token=a%2Bb%3D&list-type=2&max-keys=1000&prefix=x%2Ffiles%2Fmd5%2F", b"", {}),
        ("PUT", "/a%20b/files/md5/ab/cd.dir", b"body", {"content-md5": "hBotaJrYa9FhFEdFPCLG/A=="}),
    ],
)
def test_it_is_botocores(
    monkeypatch: pytest.MonkeyPatch, token: str | None, asked: tuple[str, str, bytes, dict[str, str]]
) -> None:
    method, path, body, headers = asked
    key: Any = ReadOnlyCredentials("AKIDEXAMPLE", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", token)
    request = AWSRequest(method=method, url=BASE + path, data=body, headers=headers)
    monkeypatch.setattr(auth, "get_current_datetime", lambda: NOW)
    auth.S3SigV4Auth(key, "s3", "eu-west-1").add_auth(request)
    ours = signed_headers(method, BASE + path, body=body, headers=headers, region="eu-west-1", key=key, now=NOW)
    assert ours["authorization"] == request.headers["Authorization"]
