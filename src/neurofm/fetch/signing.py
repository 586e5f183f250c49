"""Sign S3 requests with the credentials of the environment, by botocore."""

from __future__ import annotations

import logging

from neurofm.errors import UserError


class Signer:
    """Signs many requests; credentials are looked up once, and renewed by botocore where they expire.

    They come from botocore's chain: AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, instance roles.
    """

    def __init__(self) -> None:
        import botocore.session  # noqa: PLC0415  # half a second, for private buckets only

        # At level DEBUG botocore writes what it signs into the log, the session's token with it.
        logging.getLogger("botocore.auth").setLevel(logging.INFO)
        self._credentials = botocore.session.get_session().get_credentials()

    def headers(self, method: str, url: str, *, region: str) -> dict[str, str]:
        """Return the headers that authorise one request.

        Raises
        ------
        UserError
            If there are no credentials.
        """
        if self._credentials is None:
            raise UserError(
                f"no credentials for {url.partition('?')[0]}.",
                mend="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY (or AWS_PROFILE)",
            )
        from botocore.auth import S3SigV4Auth  # noqa: PLC0415
        from botocore.awsrequest import AWSRequest  # noqa: PLC0415

        request = AWSRequest(method=method, url=url)
        S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", region).add_auth(request)
        return dict(request.headers.items())


def sign(method: str, url: str, *, region: str) -> dict[str, str]:
    """Return the headers that authorise one request; see `Signer`."""
    return Signer().headers(method, url, region=region)
