"""The entities of a crate: people, code, datasets, files, actions, and how they belong together.

Terms: RO-Crate 1.1 (https://w3id.org/ro/crate/1.1) and the Process and Workflow Run profiles 0.5
(https://w3id.org/ro/wfrun/workflow/0.5), of which `md5`, `sha256` and `containerImage` are given inline, so that
nobody has to fetch their context.
"""

from __future__ import annotations

import mimetypes
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote

from neurofm.files import sha256_of
from neurofm.operations.crates.contents import Result
from neurofm.operations.crates.record import RunRecord
from neurofm.operations.provenance.dataset import DatasetFacts
from neurofm.operations.provenance.pipeline import Artefact, LockedStage

CRATE_VERSION = "1.1"
PROFILES = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
_TERMS = "https://w3id.org/ro/terms/workflow-run#"
_OWN_TERMS = ("md5", "sha256", "containerImage", "ContainerImage")

LANDING = {
    "openneuro": "https://openneuro.org/datasets/{source_id}/versions/{version}",
    "dandi": "https://dandiarchive.org/dandiset/{source_id}/{version}",
    "registry": "https://pypi.org/project/{source_id}/{version}/",
    "s3": "s3://{source_id}",
}
"""Pages of a dataset at its version, by archive; others are known by their identifier alone."""
_TYPES = {".yaml": "application/yaml", ".lock": "text/plain", ".safetensors": "application/octet-stream"}
_RAW, _RECEIPTS = "data/raw/", "data/receipts/"


class CrateGraph:
    """Builds the entities of one crate.

    Parameters
    ----------
    run
        What is told.
    root
        The project's root, for the files that are carried.
    authors
        Who made the run: name, and ORCID address or nothing.
    licence
        Of the crate itself: an SPDX id.
    """

    def __init__(self, run: RunRecord, *, root: Path, authors: Sequence[tuple[str, str]], licence: str) -> None:
        from rocrate.rocrate import ROCrate  # type: ignore[import-untyped]  # noqa: PLC0415  # half a second

        self.crate: Any = ROCrate(version=CRATE_VERSION)
        self.crate.metadata.extra_terms = {name: f"{_TERMS}{name}" for name in _OWN_TERMS}
        self._run = run
        self._root = root
        self._by_path: dict[str, Any] = {}
        """Entities of files and folders of the project, by path."""
        self._authors = [self._add(orcid or f"#author/{_slug(name)}", "Person", name=name) for name, orcid in authors]
        self._code = self._code_entity()
        self._datasets = {facts.id: self._dataset(facts) for facts in run.datasets}
        self._describe_root(licence)

    def _add(self, name_of: str, kind: str | Sequence[str], /, **properties: Any) -> Any:
        """Add a contextual entity under its `@id`; what is empty is left out."""
        from rocrate.model.contextentity import ContextEntity  # type: ignore[import-untyped]  # noqa: PLC0415

        known = {name: _plain(value) for name, value in properties.items() if value not in ("", None, [])}
        return self.crate.add(ContextEntity(self.crate, name_of, properties={"@type": kind, **known}))

    def _describe_root(self, licence: str) -> None:
        run, top = self._run, self.crate.root_dataset
        top["name"] = f"{run.name}, run of commit {run.commit.sha[:12]}"
        state = f" {len(run.uncommitted)} files were not as committed." if run.uncommitted else ""
        top["description"] = (
            f"One run of {run.name}: {len(run.datasets)} datasets, from pinned files to an evaluated model. dvc.lock "
            f"has every step with the digests of what it read and wrote.{state}"
        )
        # The commit's date and not the clock's: the same run makes the same bytes.
        top["datePublished"] = run.commit.date
        top["version"] = run.commit.sha
        top["author"] = _plain(self._authors)
        top["license"] = self._licence(licence, "")
        top["conformsTo"] = [
            self._add(address, "CreativeWork", name=name, version=version)
            for address, (name, version) in PROFILES.items()
        ]
        top["isBasedOn"] = list(self._datasets.values())

    def _code_entity(self) -> Any:
        run = self._run
        packages = [
            self._add(
                f"https://pypi.org/project/{name}/{version}/",
                "SoftwareApplication",
                name=name,
                softwareVersion=version,
                url=f"https://pypi.org/project/{name}/{version}/",
            )
            for name, version in run.packages
        ]
        return self._add(
            f"#code/{run.commit.sha}",
            "SoftwareSourceCode",
            name=run.name,
            version=run.commit.sha,
            codeRepository=run.address,
            license=self._licence(run.licence, "") if run.licence else "",
            dateModified=run.commit.date,
            softwareRequirements=packages,
            description=f"Not as committed: {', '.join(run.uncommitted)}" if run.uncommitted else "",
        )

    def _licence(self, name: str, url: str) -> Any:
        """Return the entity of a licence: its address, or a name that only the crate knows."""
        spdx = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9.+-]*", name)
        address = url or (f"https://spdx.org/licenses/{name}" if spdx else f"#licence/{_slug(name)}")
        return self.crate.get(address) or self._add(address, "CreativeWork", name=name, url=url)

    def _dataset(self, facts: DatasetFacts) -> Any:
        place = facts.source_id or facts.source
        doi = f"https://doi.org/{quote(facts.doi, safe='/')}" if facts.doi else ""
        # Several datasets may stem from one paper.
        paper = doi or f"#citation/{facts.id}"
        cited = self.crate.get(paper) or self._add(paper, "ScholarlyArticle", name=facts.citation, identifier=doi)
        web = facts.licence_url if facts.licence_url.startswith(("https://", "http://")) else ""
        known = facts.source_id and facts.archive in LANDING
        return self._add(
            f"#dataset/{facts.id}",
            "Dataset",
            name=facts.title,
            identifier=f"{facts.archive}:{place}@{facts.version}",
            description=f"{facts.source}, version {facts.version}",
            version=facts.version,
            license=self._licence(facts.licence, web),
            citation=cited,
            url=LANDING[facts.archive].format(source_id=quote(facts.source_id, safe="/"), version=facts.version)
            if known
            else "",
            conditionsOfAccess="" if facts.redistribute else "Raw files may not be passed on.",
        )

    def add_workflow(self, path: str) -> None:
        """Add dvc.yaml as the crate's workflow."""
        version = dict(self._run.packages).get("dvc", "")
        language = self._add(
            "https://dvc.org/", "ComputerLanguage", name="DVC", url="https://dvc.org/", version=version
        )
        self.add_file(path, kind=("File", "SoftwareSourceCode", "ComputationalWorkflow"), name="neurofm pipeline")
        workflow = self._by_path[path]
        workflow["programmingLanguage"] = language
        workflow["isPartOf"] = self._code
        workflow["softwareRequirements"] = self._code
        self.crate.mainEntity = workflow
        self.crate.metadata["conformsTo"] = [
            {"@id": address} for address in (self.crate.metadata.profile, list(PROFILES)[-1])
        ]

    def add_file(self, path: str, *, kind: str | Sequence[str] = "File", name: str = "", md5: str = "") -> Any:
        """Add a file that the crate carries."""
        source = self._root / path
        properties: dict[str, Any] = {
            "@type": kind if isinstance(kind, str) else list(kind),
            "name": name or path,
            "contentSize": str(source.stat().st_size),
            "encodingFormat": _media_type(path),
            "sha256": sha256_of(source),
        }
        if md5:
            properties["md5"] = md5
        if "SoftwareSourceCode" in properties["@type"]:
            properties["version"] = self._run.commit.sha
        self._by_path[path] = self.crate.add_file(str(source), dest_path=path, properties=properties)
        return self._by_path[path]

    def add_result(self, result: Result, listing: Mapping[str, str]) -> None:
        """Add an output: with its files, or by its digest alone."""
        out = result.artefact
        if not result.packed:
            self._by_path[out.path] = self._add(
                f"#{quote(out.path)}",
                "Dataset" if out.files is not None else "CreativeWork",
                name=out.path,
                identifier=out.digest,
                size=f"{out.size} bytes" if out.size is not None else "",
                contentUrl=self._address(out.digest),
                description=f"Not in this crate: {result.reason}. `dvc pull {out.path}` brings it.",
            )
            return
        if out.files is None:
            self.add_file(out.path, md5=out.digest.partition(":")[2])
            return
        folder = self.crate.add_dataset(
            dest_path=out.path, properties={"name": out.path, "identifier": out.digest, "size": f"{out.size} bytes"}
        )
        folder["hasPart"] = _plain(
            [
                self.add_file(path, md5=listing[path.removeprefix(f"{out.path}/")].partition(":")[2])
                for path in result.packed
            ]
        )
        self._by_path[out.path] = folder

    def _address(self, digest: str) -> str:
        """Return where DVC's default remote keeps a file, or the list of a folder's files; empty without one."""
        kind, _, value = digest.partition(":")
        return f"{self._run.remote}/files/{kind}/{value[:2]}/{value[2:]}" if self._run.remote else ""

    def add_actions(self, stages: Sequence[LockedStage]) -> None:
        """Add what was done: each stage by its script, and the whole by the workflow."""
        whole = self._add(
            "#run",
            "CreateAction",
            name="dvc repro",
            description="The whole pipeline, stage by stage as told beside this action.",
            instrument=self.crate.mainEntity,
            agent=self._authors,
            object=[*self._datasets.values(), *self._carried(("params.yaml", "data/catalog"))],
            result=self._unique(self._results(stage) for stage in stages if not stage.dataset),
            actionStatus="http://schema.org/CompletedActionStatus",
        )
        actions = [whole, *(self._action(stage) for stage in stages)]
        self.crate.root_dataset["mentions"] = actions

    def _action(self, stage: LockedStage) -> Any:
        script = next((dep.path for dep in stage.deps if dep.path in self._by_path and dep.path.endswith(".py")), "")
        inputs = self._unique(self._entities(dep) for dep in stage.deps if not dep.is_code)
        origin = [self._datasets[stage.dataset]] if stage.dataset in self._datasets else []
        images = [image for facts in self._run.datasets if facts.id == stage.dataset for image in facts.containers]
        return self._add(
            f"#run/{quote(stage.name)}",
            "CreateAction",
            name=stage.name,
            description=stage.command,
            instrument=self._by_path[script] if script else self._code,
            agent=self._authors,
            object=[*origin, *inputs, *self._carried(("params.yaml",) if stage.params else ())],
            result=self._results(stage),
            containerImage=[self._image(image) for image in images] if _makes_shards(stage) else [],
            actionStatus="http://schema.org/CompletedActionStatus",
        )

    def _results(self, stage: LockedStage) -> list[Any]:
        return [self._by_path[out.path] for out in stage.outs]

    def _entities(self, dep: Artefact) -> list[Any]:
        """Return the entities of an input: the file or folder itself, or what lies in it."""
        return [self._by_path[dep.path]] if dep.path in self._by_path else self._carried((dep.path,))

    def _carried(self, paths: Iterable[str]) -> list[Any]:
        """Return the entities at `paths` and right below."""
        wanted = {PurePosixPath(path) for path in paths}
        return [
            entity
            for path, entity in self._by_path.items()
            if PurePosixPath(path) in wanted or PurePosixPath(path).parent in wanted
        ]

    def _image(self, image: str) -> Any:
        name, _, digest = image.partition("sha256:")  # A receipt knows the digest alone.
        return self._add(
            f"#image/{_slug(image)}",
            "ContainerImage",
            name=name.rstrip("@") or "neurofm",
            sha256=digest,
            additionalType={"@id": f"{_TERMS}DockerImage"},
        )

    @staticmethod
    def _unique(groups: Iterable[Sequence[Any]]) -> list[Any]:
        return list({entity.id: entity for group in groups for entity in group}.values())


def _plain(value: Any) -> Any:
    """Return the only entry of a list of one, as RO-Crate advises."""
    return value[0] if isinstance(value, list) and len(value) == 1 else value


def _makes_shards(stage: LockedStage) -> bool:
    return any(out.path.startswith("data/shards/") for out in stage.outs)


def _media_type(path: str) -> str:
    suffix = PurePosixPath(path).suffix
    return _TYPES.get(suffix) or mimetypes.types_map.get(suffix) or "application/octet-stream"


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9.]+", "-", text).strip("-") or "unnamed"
