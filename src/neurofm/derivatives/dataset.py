"""A dataset of derivatives: who is missing, changed or damaged is preprocessed, everybody else stays."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterable
from pathlib import Path

from neurofm.containers import EngineName
from neurofm.derivatives.inputs import input_digests, unseen_link
from neurofm.derivatives.methods import NAMING_FILES, Method, method_of
from neurofm.derivatives.placing import Staged, hand_on_people, index_path, merge_common, remove_strangers
from neurofm.derivatives.settings import DerivativesSettings
from neurofm.derivatives.task import ParticipantTask, Surroundings
from neurofm.errors import UserError
from neurofm.fmriprep import Participant, choose_participants, find_participants
from neurofm.recording import Modality, UnitStatus
from neurofm.units import Executor, ReceiptBook, Resources, Unit, UnitsSite, UnitSummary, run_units, unit_key
from neurofm.units.memory import total_memory_mb

DERIVATIVES = Path("data/derivatives")
_START_MINUTES = 5


def surroundings_of(root: Path, *, engine: EngineName, fmriprep_docker: bool = False) -> Surroundings:
    """Return what engines find here; the files that the environment names are named to every node.

    fMRIPrep's wrapper knows docker alone, whatever `engine` says.
    """
    named = {name: os.environ[name] for name in NAMING_FILES if name in os.environ}
    return Surroundings(
        root=root.resolve(),
        engine=EngineName.DOCKER if fmriprep_docker else engine,
        fmriprep_docker=fmriprep_docker,
        environment=named,
    )


def site_for(site: UnitsSite, settings: DerivativesSettings) -> UnitsSite:
    """Return where participants run: as many side by side as cores and memory hold, or as large a task as one needs.

    Parameters
    ----------
    site
        Of recordings, which take one core each.
    settings
        Their engine and its options say how many cores and how much memory a participant takes.
    """
    share = method_of(settings).share(settings)
    cores = (os.cpu_count() or 1) // share.cpus
    places = total_memory_mb() / 1024 // share.memory_gb
    wanted = site.slurm.derivatives
    resources = Resources(
        minutes=min(wanted.minutes, 60 * site.slurm.longest_hours - _START_MINUTES),
        memory_gb=max(wanted.memory_gb, share.memory_gb),
        cpus=max(wanted.cpus, share.cpus),
    )
    slurm = site.slurm.model_copy(
        update={
            "resources": {**site.slurm.resources, Modality.FMRI: resources},
            # It bounds what recordings are given by trial; what a participant takes is known.
            "most_memory_gb": max(site.slurm.most_memory_gb, resources.memory_gb),
        }
    )
    return site.model_copy(update={"workers": int(max(1, min(site.workers, cores, places))), "slurm": slurm})


def chosen_participants(settings: DerivativesSettings, *, root: Path) -> tuple[Participant, ...]:
    """Return the participants that take part, sorted; one who cannot be processed says why.

    Raises
    ------
    UserError
        If the folder is not there or no raw BIDS, or a name in `participants` is not in it.
    """
    # Resolved, since paths of images are compared with it: with a link or `..` in it no side file would be found.
    bids, made = (root / settings.bids).resolve(), (root / DERIVATIVES).resolve()
    if not bids.is_dir():
        raise UserError(f"{bids} is not a folder.", mend="correct `bids`, or mount the disk that holds it")
    if bids.is_relative_to(made) or made.is_relative_to(bids):
        # Whatever in the outputs is nobody's is removed: raw files would go first.
        raise UserError(
            f"{bids}: `bids` and {made}, where derivatives are made, lie in each other.",
            mend="keep raw BIDS in data/raw/<id>, or outside the project",
        )
    found = find_participants(bids, options=settings.options, needs_anatomical=method_of(settings).needs_anatomical)
    return choose_participants(settings.participants, found)


def derive_dataset(
    dataset: str,
    settings: DerivativesSettings,
    *,
    surroundings: Surroundings,
    runs_here: bool,
    executor: Executor[ParticipantTask],
) -> UnitSummary:
    """Preprocess every participant of a BIDS dataset; again only who is missing, changed or damaged.

    Parameters
    ----------
    dataset
        Id of the derivatives. They are made in ``data/derivatives/<id>``; participants that left the BIDS folder, or
        are no longer chosen, are removed there.
    settings
        ``derivatives.<id>`` in params.yaml.
    surroundings
        Where the project is, and what engines find.
    runs_here
        Whether participants are processed on this machine, so that what they need can be looked at before they start.
    executor
        Where `process` runs.

    Raises
    ------
    UserError
        For what would keep every participant from being processed, before the first one starts.
    """
    root, method = surroundings.root, method_of(settings)
    derivatives, work = root / DERIVATIVES / dataset, root / ".neurofm"
    book = ReceiptBook(root / "data" / "receipts" / f"{dataset}.jsonl", running=work / "receipts" / dataset)
    participants = chosen_participants(settings, root=root)
    with book.held():
        planner = _Planner(dataset, settings, method, surroundings=surroundings)
        units = [planner.unit(participant) for participant in participants]
        _refuse_strange(derivatives, book, staged=work / "derivatives" / dataset)
        if any(_is_to_run(unit, book) for unit in units):
            method.require(settings, surroundings, runs_here=runs_here)
        derivatives.mkdir(parents=True, exist_ok=True)
        summary = run_units(units, executor=executor, book=book, title=f"preprocess {dataset}", counted="participants")
        # Only now is nothing at work on them, not even what an earlier run left.
        whole = _labels(unit for unit, status in summary.statuses.items() if status is UnitStatus.SUCCEEDED)
        remove_strangers(derivatives, whole)
        merge_common(derivatives, whole)
        hand_on_people(root / settings.bids, derivatives)
        _remove_staged(work / "derivatives" / dataset, kept={participant.label for participant in participants})
    return summary


class _Planner:
    """Makes units of participants."""

    def __init__(
        self, dataset: str, settings: DerivativesSettings, method: Method, *, surroundings: Surroundings
    ) -> None:
        self._dataset = dataset
        self._settings = settings
        self._surroundings = surroundings
        self._bids = (surroundings.root / settings.bids).resolve()
        self._identity = dict(method.identity(settings, surroundings))
        self._image = method.image(settings, surroundings)

    def unit(self, participant: Participant) -> Unit[ParticipantTask]:
        """Return the unit of one participant."""
        label = participant.label
        missing = participant.missing or (unseen_link(self._bids, label) if self._image else "")
        precomputed = [
            (name, self._surroundings.root / path) for name, path in self._settings.options.derivatives.items()
        ]
        inputs = {} if missing else input_digests(self._bids, label, precomputed=precomputed)
        key = unit_key(
            inputs=inputs,
            params={"participant": label, "engine": self._settings.engine, **self._identity},
            code={},
            libraries={},
            container=self._image,
        )
        derivatives = self._surroundings.root / DERIVATIVES / self._dataset
        return Unit(
            id=f"sub-{label}",
            key=key,
            inputs=inputs,
            outputs=(index_path(derivatives, label),),
            indexed_in=derivatives,
            container=self._image,
            missing=missing,
            payload=ParticipantTask(
                dataset=self._dataset,
                participant=participant,
                settings=self._settings,
                bids=self._bids,
                derivatives=derivatives,
                staged=Staged(
                    folder=self._surroundings.root / ".neurofm" / "derivatives" / self._dataset, label=label, key=key
                ),
                surroundings=self._surroundings,
            ),
        )


def _refuse_strange(derivatives: Path, book: ReceiptBook, *, staged: Path) -> None:
    """Refuse a folder that is full and was not filled here: what belongs to nobody is removed from it, after a run."""
    ours = bool(book.known) or staged.is_dir() or any(derivatives.glob(index_path(Path(), "*").as_posix()))
    if not ours and derivatives.is_dir() and any(derivatives.iterdir()):
        raise UserError(
            f"{derivatives}: it has files that were not made here, and whatever is not made here is removed.",
            mend="choose another id under `derivatives`, or move it away (`neurofm dataset add` takes published "
            "derivatives where they lie)",
        )


def _is_to_run(unit: Unit[ParticipantTask], book: ReceiptBook) -> bool:
    """Whether a unit will run, as far as is told without reading what it left: that is GBs, and is read later."""
    receipt = book.known.get(unit.id)
    whole = receipt is not None and receipt.whole(unit.outputs, key=unit.key)
    return not whole and not unit.missing


def _labels(units: Iterable[str]) -> list[str]:
    return sorted(unit.removeprefix("sub-") for unit in units)


def _remove_staged(folder: Path, *, kept: set[str]) -> None:
    """Remove what was begun for participants that are no longer there."""
    for path in folder.glob("sub-*"):
        if re.split("[-.]", path.name)[1] not in kept:
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink()
