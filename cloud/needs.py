"""Print the outputs that stages need and do not make themselves: what `dvc pull` is to bring.

DVC pulls no folder that is the parent of several outputs (`data/shards`), and `--with-deps` would bring raw files too.
"""

from __future__ import annotations

import sys
from pathlib import PurePosixPath

from dvc.repo import Repo  # type: ignore[import-untyped]


def needed(stages: list[str]) -> list[str]:
    """Return paths of outputs of other stages that lie in what these stages depend on.

    Raises
    ------
    SystemExit
        If there is no such stage, or nothing is needed: `dvc pull` without a path would bring everything.
    """
    with Repo() as repo:
        known = {stage.name: stage for stage in repo.index.stages}
        if strangers := sorted(set(stages) - known.keys()):
            sys.exit(f"no stage {strangers[0]!r} in dvc.yaml")
        deps = {PurePosixPath(dep.def_path) for name in stages for dep in known[name].deps}
        outs = {
            PurePosixPath(out.def_path)
            for name, stage in known.items()
            if name not in stages
            for out in stage.outs
            if out.use_cache
        }
    found = sorted(str(out) for out in outs if deps & {out, *out.parents})
    if not found:
        sys.exit(f"nothing is needed for {' '.join(stages)}")
    return found


if __name__ == "__main__":
    sys.stdout.writelines(f"{path}\n" for path in needed(sys.argv[1:]))
