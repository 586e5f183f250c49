"""Stage `report`: what came in, what was learned and how well, in one page."""

from pathlib import Path

from neurofm.catalog import load_entry
from neurofm.operations.stage import stage_run
from neurofm.params import load_params
from neurofm.report.build import build_report


def main() -> None:
    """Write ``reports/report.html``."""
    params = load_params()
    build_report(
        root=Path(),
        datasets=[load_entry(dataset) for dataset in sorted(params.all_datasets)],
        settings=params.report,
        out=Path("reports/report.html"),
        eeg_limits=params.preprocess.eeg.exclude,
    )


if __name__ == "__main__":
    with stage_run("report"):
        main()
