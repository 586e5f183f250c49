"""Push: whatever the remote lacks, each object checked before it goes and refused there if it arrives damaged."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError
from neurofm.progress import Progressing
from neurofm.remote.bucket import LARGE_BYTES, Bucket, Stored, open_bucket
from neurofm.remote.complaints import Answer, damaged_there
from neurofm.remote.contents import Blob, contents_of, list_blobs
from neurofm.remote.crew import WrongBytes, side_by_side
from neurofm.remote.place import Place, find_place
from neurofm.remote.project import Artefact, DvcProject, RemoteSettings, open_project
from neurofm.remote.withheld import withheld_problems
from neurofm.remote.words import some


@dataclass(frozen=True, kw_only=True)
class PushPlan:
    """What a push would send."""

    where: str
    missing: tuple[Blob, ...]
    damaged: tuple[Blob, ...]
    """There, but not with the bytes that their names say: replaced."""
    bytes: int
    there: int
    """Files that are on the remote already."""


@dataclass(frozen=True, kw_only=True)
class PushSummary:
    """What a push did."""

    sent: int
    bytes: int
    there: int
    repaired: tuple[str, ...] = ()
    """Paths whose objects were damaged on the remote."""


def push(
    root: Path, *, stage: str = "", dataset: str = "", reread: bool = False, announce: Callable[[PushPlan], None]
) -> PushSummary:
    """Send what the remote lacks of the project's artefacts.

    Unlike ``dvc push``, every file is looked for on the remote, by size and digest (DVC believes that a folder's list
    says that its files are there), so that what is missing or damaged is sent again.

    Parameters
    ----------
    root
        The project's root.
    stage, dataset
        Only these; see `DvcProject.artefacts`.
    reread
        Read every object back instead of believing what the remote says of it.
    announce
        Told before anything is sent.

    Raises
    ------
    UserError
        If something may not be handed on, is damaged here, or the remote does not take it.
    """
    with open_project(root) as project:
        settings = project.remote()
        settings.address.require_plugin()
        artefacts = project.artefacts(stage=stage, dataset=dataset)
        if problems := withheld_problems(artefacts, root=root):
            problem, _, mend = problems[0].partition(" Mend: ")
            raise UserError(f"nothing was pushed: {problem}", mend=mend)
        if settings.address.scheme != "s3" or not settings.plain:
            sent = project.push_by_dvc(sorted({item.stage for item in artefacts}) if stage or dataset else [])
            return PushSummary(sent=sent, bytes=0, there=0)
        place = find_place(settings)
        return asyncio.run(_push(project, artefacts, place=place, settings=settings, reread=reread, announce=announce))


async def _push(
    project: DvcProject,
    artefacts: list[Artefact],
    *,
    place: Place,
    settings: RemoteSettings,
    reread: bool,
    announce: Callable[[PushPlan], None],
) -> PushSummary:
    where = settings.address.url
    async with open_bucket(place, connections=settings.jobs) as bucket:
        fetched = await _lists_elsewhere(bucket, list_blobs(project, artefacts).values(), where=where)
        contents = contents_of(project, artefacts, fetched=fetched)
        blobs = contents.files | contents.lists
        stored = await _stored(bucket, blobs.values(), where=where)
        if reread:
            stored = await _reread(bucket, blobs, stored, where=where)
        plan, lost = _plan(blobs, stored, where=where)
        announce(plan)
        wanted = {blob.oid: blob for blob in (*plan.missing, *plan.damaged)}
        here = [blob for blob in wanted.values() if blob.oid in contents.files]
        with Progressing(f"push to {where}", total=plan.bytes, unit="bytes") as progress:
            sending = _Sending(project=project, bucket=bucket, progress=progress, of=len(wanted))
            await sending.send(here, where=where)
            whole = [
                contents.lists[oid]
                for oid, files in contents.folders.items()
                if oid in wanted and not files & lost.keys()
            ]
            await sending.send(whole, where=where)
    if lost:
        paths = [blob.path for blob in lost.values()]
        raise UserError(
            f"{some(paths)}: neither here nor on {where}.",
            mend="run `dvc repro` where they can be made, then push there",
        )
    return PushSummary(
        sent=sending.sent, bytes=plan.bytes, there=plan.there, repaired=tuple(blob.path for blob in plan.damaged)
    )


def _plan(blobs: Mapping[str, Blob], stored: Mapping[str, Stored], *, where: str) -> tuple[PushPlan, dict[str, Blob]]:
    """Sort objects into missing, damaged and there; the second are those that are nowhere."""
    missing: list[Blob] = []
    damaged: list[Blob] = []
    lost: dict[str, Blob] = {}
    size = 0
    for oid, blob in blobs.items():
        found = stored.get(oid)
        here = blob.cached.stat().st_size if blob.cached.is_file() else None
        if found is None:
            if here is None:
                lost[oid] = blob
                continue
            missing.append(blob)
        elif (found.md5 and found.md5 != blob.md5) or (here is not None and found.size != here):
            if here is None:
                lost[oid] = blob
                continue
            damaged.append(blob)
        else:
            continue
        size += here
    there = len(blobs) - len(missing) - len(damaged) - len(lost)
    plan = PushPlan(where=where, missing=tuple(missing), damaged=tuple(damaged), bytes=size, there=there)
    return plan, lost


async def _lists_elsewhere(bucket: Bucket, lists: Iterable[Blob], *, where: str) -> dict[str, bytes]:
    """Read the lists that are not here, as in a clone that pulled a part: what they name may be on the remote.

    One that is not there either is left out.
    """
    found: dict[str, bytes] = {}

    async def read(blob: Blob) -> None:
        try:
            content = await bucket.get(blob.key, large=True)
        except Answer as error:
            if error.is_absent:
                return
            raise
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != blob.md5:
            raise WrongBytes
        found[blob.oid] = content

    absent = [blob for blob in lists if not blob.cached.exists()]
    outcome = await side_by_side(absent, read, workers=bucket.connections)
    if outcome.wrong:
        raise damaged_there([blob.path for blob in outcome.wrong], where=where)
    outcome.require(doing="read", where=where, of=len(absent))
    return found


async def _stored(bucket: Bucket, blobs: Iterable[Blob], *, where: str) -> dict[str, Stored]:
    """Ask what the bucket has of these objects.

    One listing tells it all while the remote is not much larger than what is asked for; else each is asked for.
    """
    by_key = {blob.key: blob for blob in blobs}
    found: dict[str, Stored] = {}

    async def list_all() -> None:
        listed, complete = await bucket.listed(pages=3 + 2 * len(by_key) // 1000)
        found.update({by_key[key].oid: item for key, item in listed.items() if key in by_key})
        unseen.extend([] if complete else [blob for blob in by_key.values() if blob.oid not in found])

    async def ask(blob: Blob) -> None:
        if (item := await bucket.head(blob.key)) is not None:
            found[blob.oid] = item

    unseen: list[Blob] = []
    outcome = await side_by_side([list_all], lambda job: job(), workers=1)
    outcome.require(doing="list what is there", where=where, of=len(by_key))
    asked = await side_by_side(unseen, ask, workers=bucket.connections)
    asked.require(doing="look for what is there", where=where, of=len(by_key))
    # The ETag of an object that is encrypted with a key of its own looks like an MD5 and is none; one tells for all.
    strange = [blob for blob in by_key.values() if blob.oid in found and found[blob.oid].md5 not in {"", blob.md5}]
    told = await side_by_side(strange[:1], ask, workers=1)
    told.require(doing="look at what is there", where=where, of=len(by_key))
    if strange and not found[strange[0].oid].md5:
        found |= {blob.oid: Stored(size=found[blob.oid].size, etag="") for blob in strange}
    return found


async def _reread(
    bucket: Bucket, blobs: Mapping[str, Blob], stored: Mapping[str, Stored], *, where: str
) -> dict[str, Stored]:
    """Read every object back, of whatever size; one with other bytes gets an ETag that says so."""
    found: dict[str, Stored] = {}
    with Progressing(f"read back {where}", total=sum(item.size for item in stored.values()), unit="bytes") as progress:

        async def read(oid: str) -> None:
            if (item := await bucket.digest(blobs[oid].key)) is not None:
                found[oid] = item
                progress.advance(item.size)

        outcome = await side_by_side(list(stored), read, workers=bucket.connections)
    outcome.require(doing="read back", where=where, of=len(stored))
    return found


@dataclass(kw_only=True)
class _Sending:
    project: DvcProject
    bucket: Bucket
    progress: Progressing
    of: int
    sent: int = 0

    async def send(self, blobs: list[Blob], *, where: str) -> None:
        """Send objects; what went is not sent again by the next push.

        Raises
        ------
        UserError
            If not all went.
        """
        outcome = await side_by_side(blobs, self._one, workers=self.bucket.connections)
        if outcome.wrong:
            paths = [blob.path for blob in outcome.wrong]
            raise UserError(
                f"{some(paths)}: damaged in the cache of this machine, and not pushed.",
                mend=f"remove it there ({outcome.wrong[0].cached}), then `neurofm pull` or `dvc repro`",
            )
        outcome.require(doing="write", where=where, of=self.of)

    async def _one(self, blob: Blob) -> None:
        size = blob.cached.stat().st_size
        if size >= LARGE_BYTES:
            key = f"{self.bucket.place.bucket}/{self.bucket.place.prefix}{blob.key}"
            await asyncio.to_thread(_require_md5, blob)
            await asyncio.to_thread(self.project.put_by_dvc, blob.cached, key)
        else:
            body = blob.cached.read_bytes()
            if hashlib.md5(body, usedforsecurity=False).hexdigest() != blob.md5:
                raise WrongBytes
            await self.bucket.put(blob.key, body, md5=blob.md5)
        self.sent += 1
        self.progress.advance(size, note=f"{self.sent} of {self.of} files")


def _require_md5(blob: Blob) -> None:
    with blob.cached.open("rb") as file:
        if hashlib.file_digest(file, "md5").hexdigest() != blob.md5:
            raise WrongBytes
