"""The remote of this project: made the default, checked, pushed to and pulled from."""

from __future__ import annotations

from pathlib import Path

from neurofm.errors import UserError
from neurofm.operations.tables import count_text, size_text
from neurofm.remote.address import check_endpoint, check_name, parse_address
from neurofm.remote.probe import Access, probe_remote
from neurofm.remote.project import RemoteSettings, open_project, read_settings, write_settings
from neurofm.remote.pull import PullPlan
from neurofm.remote.push import PushPlan
from neurofm.remote.withheld import withheld_problems

_IGNORED = "/config.local"


def use_remote(
    url: str,
    *,
    root: Path,
    name: str = "storage",
    region: str = "",
    endpoint: str = "",
    profile: str = "",
    read_only: bool = False,
    shared: bool = True,
) -> Access:
    """Make a remote the project's default, once it is known to work with this environment's credentials.

    Parameters
    ----------
    url
        ``s3://bucket/path``, ``gs://``, ``azure://``, ``ssh://`` or a folder.
    root
        The project's root.
    name
        What DVC calls it.
    region, endpoint
        Of S3; for servers other than AWS.
    profile
        Section of ``~/.aws``; personal, so it is written where git does not look.
    read_only
        Be content with a key that may not write.
    shared
        False: write nothing that git sees.

    Raises
    ------
    UserError
        If anything carries a secret, or the remote cannot be used; nothing is written then.
    """
    address = parse_address(url)
    if address.scheme != "s3" and (region or endpoint or profile):
        raise UserError("--region, --endpoint and --profile are for s3:// only.", mend="leave them out")
    settings = RemoteSettings(
        name=check_name("--name", name),
        address=address,
        endpoint=check_endpoint(endpoint) if endpoint else "",
        region=check_name("--region", region) if region else "",
        profile=check_name("--profile", profile) if profile else "",
    )
    access = probe_remote(settings)
    if not access.write and not read_only:
        raise UserError(
            f"{address.url}: this key may read, and not write.",
            mend="use a key that may write, or add --read-only on a machine that only pulls",
        )
    _keep_local_settings_out_of_git(root)
    write_settings(root, settings, shared=shared)
    return access


def remote_problems(root: Path) -> list[str]:
    """Say what keeps the remote from being used, each in a line with its mend; none if it can be read and written.

    A key that may only read is no problem: a machine may be one that pulls.
    """
    problems = []
    try:
        settings = read_settings(root)
        probe_remote(settings)
        require_verified(settings)
    except UserError as error:
        problems.append(str(error))
    return problems + push_problems(root)


def require_verified(settings: RemoteSettings) -> None:
    """Make sure that plain ``dvc pull`` compares what comes with its digest.

    Raises
    ------
    UserError
        If it is not set: a damaged shard would be recorded as right.
    """
    if settings.address.scheme in {"s3", "gs", "azure"} and not settings.verify:
        raise UserError(
            f"remote {settings.name!r}: plain `dvc pull` believes whatever comes.",
            mend=f"dvc remote modify {settings.name} verify true",
        )


def push_problems(root: Path) -> list[str]:
    """Say what `dvc push` would put on the remote although its terms forbid it."""
    try:
        with open_project(root) as project:
            return withheld_problems(project.artefacts(), root=root)
    except UserError as error:
        return [str(error)]


def remote_line(root: Path) -> str:
    """Say in one line what the default remote is."""
    settings = read_settings(root)
    facts = (("endpoint", settings.endpoint), ("region", settings.region), ("profile", settings.profile))
    more = ", ".join(f"{what} {value}" for what, value in facts if value)
    return f"{settings.name}: {settings.address.url}{f' ({more})' if more else ''}"


def push_lines(plan: PushPlan) -> list[str]:
    """Say what a push is going to send."""
    count = len(plan.missing) + len(plan.damaged)
    if not count:
        return [f"Nothing to push: all {count_text(plan.there)} files are on {plan.where}."]
    size, there = size_text(plan.bytes), count_text(plan.there)
    first = f"To push to {plan.where}: {count_text(count)} files, {size}; {there} are there already"
    return [first] + [f"  damaged there, replaced: {blob.path} ({blob.oid})" for blob in plan.damaged]


def pull_line(plan: PullPlan) -> str:
    """Say what a pull is going to bring."""
    if not plan.files:
        return f"Nothing to pull: all {count_text(plan.here)} files are in the cache."
    return (
        f"To pull from {plan.where}: {count_text(plan.files)} files, {size_text(plan.bytes)}; "
        f"{count_text(plan.here)} are here already"
    )


def _keep_local_settings_out_of_git(root: Path) -> None:
    """Make sure that git does not see ``.dvc/config.local``."""
    path = root / ".dvc" / ".gitignore"
    lines = path.read_text().splitlines() if path.is_file() else []
    if _IGNORED not in lines:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("\n".join([*lines, _IGNORED]) + "\n")
