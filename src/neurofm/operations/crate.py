"""``neurofm crate export``: one run of the project as a Workflow Run RO-Crate."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from neurofm.errors import UserError
from neurofm.operations.crates.contents import Result, inputs_of, results_of
from neurofm.operations.crates.graph import CrateGraph
from neurofm.operations.crates.packing import refuse_existing, write_crate
from neurofm.operations.crates.record import RunRecord, read_run
from neurofm.operations.provenance.commits import History
from neurofm.params import Params
from neurofm.progress import Progressing

_AUTHOR = re.compile(r"(?P<name>[^<>\x00-\x1f]*?[^<>\x00-\x1f\s])(\s+(?P<orcid>https://orcid\.org/[0-9X-]{19}))?")


@dataclass(frozen=True, kw_only=True)
class CratePlan:
    """What a crate will hold; nothing is written yet."""

    out: Path
    run: RunRecord
    inputs: tuple[str, ...]
    """Files that git keeps."""
    results: tuple[Result, ...]
    size: int
    """Bytes of all files that are carried, before packing."""
    authors: tuple[tuple[str, str], ...]
    """Name, and ORCID address or nothing."""
    licence: str

    @property
    def files(self) -> int:
        """How many files it carries."""
        return len(self.inputs) + sum(len(result.packed) for result in self.results)

    @property
    def named_only(self) -> tuple[Result, ...]:
        """Results that it names by their digest alone."""
        return tuple(result for result in self.results if not result.packed)


def plan_crate(
    out: Path | None, *, root: Path, params: Params, authors: Sequence[str], licence: str, with_data: bool
) -> CratePlan:
    """Say what a crate of the current commit and dvc.lock will hold.

    Parameters
    ----------
    out
        Where to write it; a zip if it ends with ``.zip``, else a folder. None names it after the commit.
    root
        The project's root.
    params
        Which datasets take part.
    authors
        ``NAME`` or ``NAME https://orcid.org/0000-0000-0000-0000``; empty takes git's ``user.name``.
    licence
        SPDX id of the crate's licence; empty takes the project's.
    with_data
        Carry the model, and shards and manifests that may be passed on.

    Raises
    ------
    UserError
        If the run is not finished or not what lies here, nobody is its author, or `out` is taken.
    """
    if out is not None:
        refuse_existing(out)
    named = tuple(_author(text) for text in authors or [History(root).configured("user.name")])
    run = read_run(root, params)
    target = out or Path(f"{run.name}-{run.commit.sha[:12]}.crate.zip")
    refuse_existing(target)
    if not (licence or run.licence):
        raise UserError("pyproject.toml names no licence for the crate.", mend="say it: --licence CC-BY-4.0")
    inputs, results = inputs_of(run, root=root), results_of(run, with_data=with_data)
    carried = [*inputs, *(path for result in results for path in result.packed)]
    return CratePlan(
        out=target,
        run=run,
        inputs=tuple(inputs),
        results=tuple(results),
        size=sum((root / path).stat().st_size for path in carried),
        authors=named,
        licence=licence or run.licence,
    )


def export_crate(plan: CratePlan, *, root: Path) -> None:
    """Write a crate. The same commit, dvc.lock, files and authors give the same bytes."""
    graph = CrateGraph(plan.run, root=root, authors=plan.authors, licence=plan.licence)
    with Progressing("digests of the crate's files", total=len(plan.inputs) + len(plan.results), unit="parts") as bar:
        for path in plan.inputs:
            if path == "dvc.yaml":
                graph.add_workflow(path)
            else:
                graph.add_file(path, kind=("File", "SoftwareSourceCode") if path.endswith(".py") else "File")
            bar.advance(note=path)
        for result in plan.results:
            graph.add_result(result, plan.run.listings.get(result.artefact.path, {}))
            bar.advance(note=result.artefact.path)
    graph.add_actions(plan.run.stages)
    write_crate(graph.crate, plan.out)


def _author(text: str) -> tuple[str, str]:
    if not text:
        raise UserError(
            "Nobody is named as the run's author.", mend="say who: --author 'Jane Doe', or git config user.name"
        )
    match = _AUTHOR.fullmatch(text.strip())
    if match is None:
        raise UserError(
            f"--author {text!r} is not a name, nor a name and an ORCID.",
            mend="write 'Jane Doe' or 'Jane Doe https://orcid.org/0000-0002-1825-0097'",
        )
    return match["name"], match["orcid"] or ""
