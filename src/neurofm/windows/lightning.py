"""A `LightningDataModule` of packed shards; needs ``pip install 'neurofm[lightning]'``."""

from __future__ import annotations

from typing import Any

from pytorch_lightning import LightningDataModule
from torch.utils.data import DataLoader

from neurofm.windows.loader import WindowDataset


class WindowDataModule(LightningDataModule):
    """Batches of packed shards for a `Trainer`.

    Every process of a distributed training draws its share of each step by itself: give the Trainer
    ``use_distributed_sampler=False``.

    Parameters
    ----------
    train
        Without end: the Trainer is told how many steps (``max_steps``).
    validation
        With `steps`, so that it ends.
    """

    def __init__(self, train: WindowDataset, validation: WindowDataset | None = None) -> None:
        super().__init__()
        self._train = train
        self._validation = validation

    def train_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Windows to learn from."""
        return DataLoader(self._train, batch_size=None)

    def val_dataloader(self) -> DataLoader[dict[str, Any]] | list[Any]:
        """Windows to validate on; none where they were not given."""
        return [] if self._validation is None else DataLoader(self._validation, batch_size=None)
