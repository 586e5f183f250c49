"""Which tests run one after the other in one process of `make test`, since they share what is costly to make."""

from __future__ import annotations

from pathlib import PurePosixPath

from xdist.scheduler import LoadScopeScheduling  # type: ignore[import-untyped]

FOLDERS = frozenset({"challenge", "ci", "containers", "report"})
"""Tests of these folders share a submission, a lab's project, podman's store, a report."""
PODMAN = frozenset({"test_derivatives_on_slurm.py"})
"""Of another folder, and share podman's store with `containers`."""
FIRST_RUN = frozenset({"test_certify.py", "test_pipeline.py", "test_provenance.py"})
"""These share a project after its first `dvc repro`."""


class ByGroup(LoadScopeScheduling):  # type: ignore[misc]  # untyped
    """Gives whole groups of tests to processes; a module is never shared out.

    Not ``--dist=loadgroup``, whose marks pytest-xdist 3.8 does not see with pytest 9.2.
    """

    def _split_scope(self, nodeid: str) -> str:
        path = PurePosixPath(nodeid.partition("::")[0])
        if path.name in FIRST_RUN:
            return "first run"
        if path.name in PODMAN:
            return str(path.parent.with_name("containers"))
        return str(path.parent if path.parent.name in FOLDERS else path)
