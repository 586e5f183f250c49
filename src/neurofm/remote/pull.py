"""Pull: whatever the cache lacks comes from the remote, is checked against its digest, and put into its place."""

from __future__ import annotations

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError
from neurofm.progress import Progressing
from neurofm.remote.bucket import Bucket, TooLarge, open_bucket
from neurofm.remote.complaints import Answer, damaged_there
from neurofm.remote.contents import Blob, contents_of, list_blobs
from neurofm.remote.crew import Absent, WrongBytes, side_by_side
from neurofm.remote.place import Place, find_place
from neurofm.remote.project import Artefact, DvcProject, open_project
from neurofm.remote.words import some

_SMALL_BYTES = 1 << 20
"""Below this, handing an object to a thread costs more than it frees."""


@dataclass(frozen=True, kw_only=True)
class PullPlan:
    """What a pull would bring."""

    where: str
    files: int
    bytes: int
    """As dvc.lock has it; of a folder that is here in part, a part."""
    here: int
    """Files that are in the cache already."""


@dataclass(frozen=True, kw_only=True)
class PullSummary:
    """What a pull did."""

    came: int
    bytes: int
    here: int


def pull(
    root: Path,
    *,
    stage: str = "",
    dataset: str = "",
    force: bool = False,
    announce: Callable[[PullPlan], None],
) -> PullSummary:
    """Bring what the cache lacks of the project's artefacts, then put all into their places.

    Parameters
    ----------
    root
        The project's root.
    stage, dataset
        Only these; see `DvcProject.artefacts`.
    force
        Replace files that were changed here.
    announce
        Told before anything comes.

    Raises
    ------
    UserError
        If the remote lacks something, holds something else under its name, or cannot be reached. What came is kept.
    """
    with open_project(root) as project:
        settings = project.remote()
        settings.address.require_plugin()
        artefacts = project.artefacts(stage=stage, dataset=dataset)
        targets = sorted({item.stage for item in artefacts}) if stage or dataset else []
        if settings.address.scheme != "s3" or not settings.plain:
            summary = PullSummary(came=project.fetch_by_dvc(targets), bytes=0, here=0)
        else:
            place = find_place(settings)
            summary = asyncio.run(
                _Pulling(project=project, where=settings.address.url).run(
                    artefacts, place=place, jobs=settings.jobs, announce=announce
                )
            )
        project.checkout(targets, force=force)
    return summary


@dataclass(kw_only=True)
class _Pulling:
    project: DvcProject
    where: str
    came: int = 0
    received: int = 0
    progress: Progressing | None = None

    async def run(
        self, artefacts: list[Artefact], *, place: Place, jobs: int, announce: Callable[[PullPlan], None]
    ) -> PullSummary:
        async with open_bucket(place, connections=jobs) as bucket:
            lists = list_blobs(self.project, artefacts)
            absent = await self._bring(bucket, [blob for blob in lists.values() if not blob.cached.exists()])
            contents = contents_of(self.project, artefacts)
            missing = [blob for blob in contents.files.values() if not blob.cached.exists()]
            plan = PullPlan(
                where=self.where,
                files=len(missing),
                bytes=self._expected(artefacts, contents.folders, {blob.oid for blob in missing}),
                here=len(contents.files) - len(missing),
            )
            announce(plan)
            self.came = 0
            with Progressing(f"pull from {self.where}", total=plan.bytes, unit="bytes") as self.progress:
                absent += await self._bring(bucket, missing)
        if absent:
            raise UserError(
                f"{self.where} lacks {some([blob.path for blob in absent])}; all else is through.",
                mend="`neurofm push` on the machine that has it, then pull again",
            )
        return PullSummary(came=self.came, bytes=self.received, here=plan.here)

    @staticmethod
    def _expected(artefacts: Iterable[Artefact], folders: dict[str, frozenset[str]], missing: set[str]) -> int:
        expected = 0.0
        for oid, size in {item.oid: item.size or 0 for item in artefacts}.items():
            files = folders.get(oid, frozenset({oid}))
            expected += size * len(files & missing) / max(1, len(files))
        return round(expected)

    async def _bring(self, bucket: Bucket, blobs: list[Blob]) -> list[Blob]:
        """Bring objects into the cache; returns those that the remote does not have."""
        for folder in {blob.cached.parent for blob in blobs}:
            self.project.make_folder(folder)

        async def one(blob: Blob) -> None:
            try:
                await self._one(bucket, blob, of=len(blobs))
            except WrongBytes:
                # It may have been damaged on the way; what comes wrong twice is wrong there.
                await self._one(bucket, blob, of=len(blobs))

        outcome = await side_by_side(blobs, one, workers=bucket.connections)
        if outcome.wrong:
            through = f"{len(outcome.done)} of {len(blobs)} files are through"
            raise damaged_there([blob.path for blob in outcome.wrong], where=self.where, through=through)
        outcome.require(doing="read", where=self.where, of=len(blobs))
        return outcome.absent

    async def _one(self, bucket: Bucket, blob: Blob, *, of: int) -> None:
        try:
            content = await bucket.get(blob.key)
        except Answer as error:
            if error.is_absent:
                raise Absent from None
            raise
        except TooLarge:
            key = f"{bucket.place.bucket}/{bucket.place.prefix}{blob.key}"
            size = await asyncio.to_thread(self._land_large, blob, key)
        else:
            size = len(content)
            if size < _SMALL_BYTES:
                self._land(blob, content)
            else:
                await asyncio.to_thread(self._land, blob, content)
        self.came += 1
        self.received += size
        if self.progress is not None:
            self.progress.advance(size, note=f"{self.came} of {of} files")

    def _land(self, blob: Blob, content: bytes) -> None:
        """Give an object its name in the cache, once it is known to be what the name says."""
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != blob.md5:
            raise WrongBytes
        part = _part(blob.cached)
        try:
            part.write_bytes(content)
            part.replace(blob.cached)
        finally:
            part.unlink(missing_ok=True)
        self.project.protect(blob.cached)

    def _land_large(self, blob: Blob, key: str) -> int:
        part = _part(blob.cached)
        try:
            self.project.get_by_dvc(key, part)
            with part.open("rb") as file:
                if hashlib.file_digest(file, "md5").hexdigest() != blob.md5:
                    raise WrongBytes
            size = part.stat().st_size
            part.replace(blob.cached)
        finally:
            part.unlink(missing_ok=True)
        self.project.protect(blob.cached)
        return size


def _part(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(3)}.tmp")
