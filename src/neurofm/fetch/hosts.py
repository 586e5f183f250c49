"""Where the archives are reached from here: part of `site.yaml`, since a mirror changes no byte of any result."""

from __future__ import annotations

from urllib.parse import quote

from pydantic import Field

from neurofm.settings import Settings

_AMAZON = "https://s3.amazonaws.com"
_REGIONS = {
    "dandiarchive": "us-east-2",
    "allen-brain-observatory": "us-west-2",
    "visual-behavior-neuropixels-data": "us-west-2",
    "visual-behavior-ophys-data": "us-west-2",
}
"""Public buckets that are not in us-east-1: Amazon's global endpoint answers requests for their path with 301."""


class S3Place(Settings):
    """Where a bucket is reached."""

    endpoint: str = Field(pattern=r"^https?://")
    region: str = "us-east-1"
    bucket: str = ""
    """Its name there, where a mirror calls it otherwise."""
    signed: bool = False
    """Sign requests with the credentials of the environment (AWS_ACCESS_KEY_ID, AWS_PROFILE, ...). Public buckets are
    asked without."""


class Hosts(Settings):
    """Address of every archive; each can be a mirror."""

    openneuro_git: str = "https://github.com/OpenNeuroDatasets"
    openneuro_derivatives_git: str = "https://github.com/OpenNeuroDerivatives"
    openneuro_graphql: str = "https://openneuro.org/crn/graphql"
    dandi_api: str = "https://api.dandiarchive.org/api"
    allen_api: str = "http://api.brain-map.org"
    crcns: str = "https://portal.nersc.gov/project/crcns/download/index.php"
    s3: str = _AMAZON
    """Endpoint of every bucket that `buckets` does not name (Amazon's own: in the bucket's region); buckets are asked
    for in the path."""
    buckets: dict[str, S3Place] = Field(default_factory=dict)

    def place(self, bucket: str) -> S3Place:
        """Return where `bucket` is reached."""
        if bucket in self.buckets:
            return self.buckets[bucket]
        if self.s3 == _AMAZON and bucket in _REGIONS:
            return S3Place(endpoint=f"https://s3.{_REGIONS[bucket]}.amazonaws.com", region=_REGIONS[bucket])
        return S3Place(endpoint=self.s3)

    def object_url(self, bucket: str, key: str, *, version_id: str = "") -> str:
        """Return the address of an object, path-style."""
        place = self.place(bucket)
        version = f"?versionId={quote(version_id, safe='')}" if version_id else ""
        return f"{place.endpoint.rstrip('/')}/{place.bucket or bucket}/{quote(key)}{version}"


class FetchSite(Settings):
    """`fetch` in `site.yaml`: how files are brought here."""

    hosts: Hosts = Field(default_factory=Hosts)
    connections_per_host: int = Field(default=8, ge=1, le=64)
    timeout_s: float = Field(default=60.0, gt=0)
    """Seconds without a byte after which a connection counts as dead."""
    attempts: int = Field(default=6, ge=1)
    """Tries per file, with growing pauses."""
    longest_pause_s: float = Field(default=60.0, ge=0)
    """Bound on one pause, also where the server asks for a longer one."""
    offline: bool = False
    """Ask nobody: what is here is verified, what is missing is said. NEUROFM_OFFLINE=1 does the same."""
