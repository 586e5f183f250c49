"""A task of a training on two nodes: ``srun python -m tests.integration.slurm.train FOLDER SHARED_DATA``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path

from neurofm.training.site import TrainingSite
from neurofm.training.watchdog import train_folds
from tests.training.joint import train

SITE = TrainingSite(nodes=2)

if __name__ == "__main__":
    one = partial(train, at=Path(sys.argv[1]), shared_data=Path(sys.argv[2]), site=SITE, slow_s=0.5)
    train_folds(one, [0], workers=1, site=SITE)
