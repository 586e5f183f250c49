"""Rebuild: the slice's recordings from the catalogue to scores, in a folder of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.catalog import CatalogEntry, LocalSource, RegistrySource, load_entry
from neurofm.catalog.terms import require_terms
from neurofm.errors import UserError
from neurofm.fetch import package_path
from neurofm.fetch.waiting import is_offline
from neurofm.ingest.dataset import ingest_dataset
from neurofm.ingest.recording import ingest
from neurofm.operations.certify.finding import Finding, Part, Status
from neurofm.operations.certify.shards import judge_shard
from neurofm.operations.tables import counted, size_text
from neurofm.params import PARAMS, Params, Site
from neurofm.recording import Manifest, UnitStatus
from neurofm.slices.result import SliceRecording, SliceResult
from neurofm.sources import build_manifest, read_manifest, write_manifest
from neurofm.sources.selection import used_paths
from neurofm.stream import stream_dataset
from neurofm.units import UnitSummary, read_receipts
from neurofm.units.local import LocalExecutor
from neurofm.units.processor import processor_id

SLICE = Path("metrics/slice.json")


@dataclass(frozen=True, kw_only=True)
class Rebuild:
    """One rebuild of the slice.

    Nothing of the project is written: raw files are read where they lie, or fetched into `work`.
    """

    root: Path
    work: Path
    """An empty folder under ``.neurofm``, removed by the caller."""
    params: Params
    site: Site
    exact: bool
    """This machine is of the kind on which the original's slice was made. A shard that was made on such a one too (its
    receipt knows) may not differ by a bit."""

    def run(self, reference: SliceResult) -> tuple[list[Finding], SliceResult | None]:
        """Build the slice again from catalogue entries to scores, as far as can be.

        What cannot be built again is said in a finding, and the original's stands in for it, so that what follows can
        still be compared.

        Returns
        -------
        list of Finding
            Of manifests and shards.
        SliceResult or None
            None if the slice's stage failed; it has said why.
        """
        findings: list[Finding] = []
        by_dataset: defaultdict[str, list[SliceRecording]] = defaultdict(list)
        for one in reference.recordings:
            by_dataset[one.dataset].append(one)
        for dataset, recordings in by_dataset.items():
            findings += self._dataset(dataset, recordings)
        return findings, self._slice()

    def _dataset(self, dataset: str, recordings: Sequence[SliceRecording]) -> list[Finding]:
        """Build one dataset's manifest, and the shards of these recordings."""
        if dataset not in self.params.all_datasets:
            detail, mend = "it no longer takes part", "`dvc repro slice`"
            return [Finding(part=Part.SHARD, item=dataset, status=Status.DIFFERS, detail=detail, mend=mend)]
        entry = load_entry(dataset, root=self.root)
        manifest, finding = self._manifest(entry)
        wanted = _only(manifest, {one.recording for one in recordings})
        try:
            summary = self._shards(entry, wanted)
            reasons = dict(summary.reasons)
            statuses = dict(summary.statuses)
        except UserError as error:
            statuses, reasons = {}, {one.recording: str(error) for one in recordings}
        receipts = read_receipts(self.root / "data" / "receipts" / f"{dataset}.jsonl")
        costs = {name: receipt.cost for name, receipt in receipts.items()}
        alike = {name for name, cost in costs.items() if cost is None or cost.processor in {"", processor_id()}}
        return [
            finding,
            *(
                self._shard(one, statuses.get(one.recording), reasons, exact=self.exact and one.recording in alike)
                for one in recordings
            ),
        ]

    def _manifest(self, entry: CatalogEntry) -> tuple[Manifest, Finding]:
        """Make the dataset's manifest from its catalogue entry and compare it; where that fails, take the kept one."""
        kept = self.root / "data" / "manifests" / f"{entry.id}.json"
        made = self.work / "data" / "manifests" / kept.name
        chosen = self.params.all_datasets[entry.id]
        try:
            manifest = build_manifest(entry, root=self.root, site=self.site.fetch, max_subjects=chosen.max_subjects)
        except UserError as error:
            finding = Finding(
                part=Part.MANIFEST, item=entry.id, status=Status.NOT_REBUILT, detail=error.problem, mend=error.mend
            )
            return read_manifest(kept), finding
        write_manifest(manifest, made)
        same = kept.read_bytes() == made.read_bytes()
        finding = Finding(
            part=Part.MANIFEST,
            item=entry.id,
            status=Status.EQUAL if same else Status.DIFFERS,
            detail=counted(len(manifest.files), "file")
            if same
            else "the catalogue, or the folder, gives other files than the run had",
            mend="" if same else f"`dvc repro`, if data/catalog/{entry.id}.yaml or the folder was meant to change",
        )
        return manifest, finding

    def _shards(self, entry: CatalogEntry, manifest: Manifest) -> UnitSummary:
        """Read, preprocess and write the manifest's recordings, by the code of the stages."""
        settings = self.params.preprocess
        receipts = self.work / "data" / "receipts" / f"{entry.id}.jsonl"
        receipts.parent.mkdir(parents=True, exist_ok=True)
        # They know the digests of files for which the archive publishes none.
        shutil.copyfile(self.root / "data" / "receipts" / receipts.name, receipts)
        shards, work = self.work / "data" / "shards" / entry.id, self.work / ".neurofm"
        executor = LocalExecutor(ingest, workers=self.site.workers)
        if entry.id not in self.params.streamed:
            source = entry.source
            raw = self.root / (source.path if isinstance(source, LocalSource) else f"data/raw/{entry.id}")
            return ingest_dataset(
                entry,
                manifest,
                raw=raw,
                shards=shards,
                receipts=receipts,
                work=work,
                settings=settings.of(entry.modality),
                common=settings.common,
                executor=executor,
            )
        require_terms(entry)
        self._announce(entry, manifest)
        return stream_dataset(
            entry,
            manifest,
            shards=shards,
            receipts=receipts,
            work=work,
            settings=settings.of(entry.modality),
            common=settings.common,
            executor=executor,
            budget_bytes=round(self.site.disk_budget_gb * 1e9),
            site=self.site.fetch,
        ).units

    def _announce(self, entry: CatalogEntry, manifest: Manifest) -> None:
        """Say what is fetched again, or let a package that is here still serve."""
        size = sum(file.size for file in manifest.files)
        if isinstance(entry.source, RegistrySource):
            here = package_path(entry.source, work=self.root / ".neurofm")
            if here.is_file():
                there = package_path(entry.source, work=self.work / ".neurofm")
                there.parent.mkdir(parents=True, exist_ok=True)
                if not there.exists():  # Datasets may share one.
                    os.link(here, there)
                return
            size = entry.source.size
        if not is_offline(self.site.fetch):
            sys.stderr.write(f"{entry.id}: its raw files are not kept; fetching {size_text(size)} again\n")

    def _shard(
        self, one: SliceRecording, status: UnitStatus | None, reasons: Mapping[str, str], *, exact: bool
    ) -> Finding:
        """Say how one shard came out; the original stands in for one that could not be made."""
        name = f"{one.recording}.zarr.zip"
        kept = self.root / "data" / "shards" / one.dataset / name
        made = self.work / "data" / "shards" / one.dataset / name
        if status is UnitStatus.SUCCEEDED:
            return judge_shard(kept, made, reference_sha256=one.shard_sha256, exact=exact, name=one.name)
        if not kept.is_file():
            detail, mend = "neither it nor its raw files are here", f"`dvc checkout data/shards/{one.dataset}`"
            return Finding(part=Part.SHARD, item=one.name, status=Status.DIFFERS, detail=detail, mend=mend)
        made.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(kept, made)
        reason = reasons.get(one.recording) or "the manifest does not name it any more"
        failed = status is UnitStatus.FAILED
        return Finding(
            part=Part.SHARD,
            item=one.name,
            status=Status.DIFFERS if failed else Status.NOT_REBUILT,
            detail=f"{reason} (what follows is made from the shard that is kept)",
            mend=f"`neurofm run {_stage(self.params, one.dataset)} --dataset {one.dataset}` says more"
            if failed
            else "bring its raw files (`dvc pull`, the network, or the folder that they are in) and certify again",
        )

    def _slice(self) -> SliceResult | None:
        """Run the stage `slice`, the same script as DVC's, on what was built."""
        (self.work / "data").mkdir(parents=True, exist_ok=True)
        (self.work / "data" / "catalog").symlink_to((self.root / "data" / "catalog").absolute())
        shutil.copyfile(self.root / PARAMS, self.work / PARAMS)
        shutil.copyfile(self.root / "data" / "splits.json", self.work / "data" / "splits.json")
        script = (self.root / "stages" / "slice.py").absolute()
        paths = [str(Path(path).absolute()) for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
        # One thread, as in dvc.yaml: two would sum in another order.
        # Where the whole of this runs is where the slice does too: in no other container.
        environment = {
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "NEUROFM_CONTAINER": "0",
            "PYTHONPATH": os.pathsep.join(paths),
        }
        command = [sys.executable, str(script)]
        done = subprocess.run(command, cwd=self.work, env=environment, stdout=sys.stderr, check=False)  # noqa: S603
        return None if done.returncode else SliceResult.read(self.work / SLICE)


def _only(manifest: Manifest, names: Iterable[str]) -> Manifest:
    """Return the manifest of these recordings, and of the files that they read."""
    wanted = frozenset(names)
    recordings = tuple(recording for recording in manifest.recordings if recording.id in wanted)
    used = used_paths(recordings)
    files = tuple(file for file in manifest.files if file.path in used)
    return Manifest(**dict(manifest) | {"recordings": recordings, "files": files})


def _stage(params: Params, dataset: str) -> str:
    return "stream" if dataset in params.streamed else "preprocess"
