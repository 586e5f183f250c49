"""Where an S3 remote is reached, and requests signed for it, as botocore's own chain has it."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote
from urllib.request import getproxies, proxy_bypass

from neurofm.errors import UserError
from neurofm.remote.complaints import answered, complaint, only_errors_speak
from neurofm.remote.project import RemoteSettings
from neurofm.remote.signature import signed_headers


@dataclass(frozen=True, kw_only=True)
class Place:
    """A bucket's address with the key that opens it."""

    bucket: str
    base: str
    """Address of the bucket, with ``/`` at the end: ``https://bucket.s3.eu-central-1.amazonaws.com/``."""
    prefix: str
    """Before every key: ``neurofm/files/md5/``."""
    region: str
    proxy: str | None
    tls: ssl.SSLContext | bool
    _credentials: Any

    def url(self, key: str) -> str:
        """Return the address of an object below `prefix`."""
        return self.base + quote(self.prefix + key, safe="/-_.~")

    def headers(
        self, method: str, url: str, *, body: bytes = b"", headers: dict[str, str] | None = None
    ) -> dict[str, str]:
        """Return the headers that authorise one request; botocore renews credentials that expire where it can.

        Raises
        ------
        Answer
            If they could not be renewed.
        """
        with answered():
            key = self._credentials.get_frozen_credentials()
        return signed_headers(
            method,
            url,
            body=body,
            headers=headers or {},
            region=self.region,
            key=key,
            now=datetime.now(UTC),
        )


def find_place(settings: RemoteSettings) -> Place:
    """Find out where the bucket is and which credentials the environment has.

    Raises
    ------
    UserError
        If there are no credentials, no such profile, or its role is refused; if the endpoint is not an address.
    """
    import botocore.session  # noqa: PLC0415  # a quarter of a second, for S3 alone
    from botocore.exceptions import BotoCoreError, ClientError, NoCredentialsError  # noqa: PLC0415

    bucket = settings.address.bucket
    only_errors_speak()
    try:
        session = botocore.session.Session(profile=settings.profile or None)
        credentials = session.get_credentials()
        if credentials is None:
            raise NoCredentialsError  # as botocore itself does, later
        client = session.create_client(
            "s3", region_name=settings.region or None, endpoint_url=settings.endpoint or None
        )
        # botocore knows a hundred rules for addresses; its own signed one tells where this bucket's objects are.
        told: str = client.generate_presigned_url("get_object", Params={"Bucket": bucket, "Key": "x"})
    except (BotoCoreError, ClientError, ValueError) as error:
        raise complaint(error, doing="go there", where=settings.address.url) from None
    base = told.partition("?")[0].removesuffix("x")
    prefix = f"{settings.address.prefix}/" if settings.address.prefix else ""
    return Place(
        bucket=bucket,
        base=base,
        prefix=f"{prefix}files/md5/",
        region=client.meta.region_name,
        proxy=_proxy(base),
        tls=_tls(),
        _credentials=credentials,
    )


def _proxy(url: str) -> str | None:
    scheme, _, rest = url.partition("://")
    host = rest.partition("/")[0]
    return None if proxy_bypass(host) else getproxies().get(scheme)


def _tls() -> ssl.SSLContext | bool:
    """Trust what AWS_CA_BUNDLE names, as botocore does."""
    bundle = os.environ.get("AWS_CA_BUNDLE", "")
    try:
        return ssl.create_default_context(cafile=bundle) if bundle else True
    except OSError as error:
        raise UserError(
            f"AWS_CA_BUNDLE: {bundle} holds no certificates: {error.strerror}.", mend="correct it, or unset it"
        ) from None
