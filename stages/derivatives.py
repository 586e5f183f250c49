"""Stage `derivatives`: every participant of one raw BIDS dataset is preprocessed."""

import sys
from pathlib import Path

from neurofm.derivatives.dataset import derive_dataset, site_for, surroundings_of
from neurofm.derivatives.participant import process
from neurofm.ingest.dataset import refuse_too_many_failures
from neurofm.operations.stage import stage_run
from neurofm.params import load_params, load_site
from neurofm.recording import Modality
from neurofm.units import ExecutorName, open_executor


def main(dataset: str) -> None:
    """Fill ``data/derivatives/<dataset>/`` and say how many participants were processed."""
    settings, site = load_params(dataset=dataset, groups=("derivatives",)).derivatives[dataset], load_site()
    executor = open_executor(
        process,
        site=site_for(site, settings),
        modality=Modality.FMRI,
        running=Path(f".neurofm/receipts/{dataset}"),
    )
    summary = derive_dataset(
        dataset,
        settings,
        surroundings=surroundings_of(Path(), engine=site.engine, fmriprep_docker=site.fmriprep_docker),
        runs_here=site.executor is ExecutorName.LOCAL,
        executor=executor,
    )
    print(f"{dataset}: {summary.ran} participants processed, {summary.whole} whole already")
    refuse_too_many_failures(
        dataset,
        summary,
        max_failed_fraction=settings.max_failed_fraction,
        units="participants",
        setting=f"derivatives.{dataset}.max_failed_fraction",
        mend="do what each line says (the other participants are done and kept), then `dvc repro` again",
    )


if __name__ == "__main__":
    with stage_run("derivatives", sys.argv[1]):
        main(sys.argv[1])
