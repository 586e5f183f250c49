"""Packed shards as a data set of PyTorch: the same batches for any number of processes, and everything cut along."""

from __future__ import annotations

import itertools
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from neurofm.errors import UserError
from neurofm.recording import Modality, Unreadable
from neurofm.shards import read_shard
from neurofm.shards.packed import PackedShard
from neurofm.windows.lightning import WindowDataModule
from neurofm.windows.loader import WindowDataset
from neurofm.windows.policy import Policy, StoreSite
from neurofm.windows.schedule import PoolSettings
from tests.servers.fixtures import s3_fixture
from tests.servers.seaweed import SeaweedServer
from tests.windows.conftest import Home

__all__ = ["s3_fixture"]

POOL = PoolSettings(megabytes=0.15, uses=4.0)


def _dataset(home: Home, **changed: Any) -> WindowDataset:
    # Ten samples of the counts and, as they must have one length in seconds, of the films alone five.
    given: dict[str, Any] = {"window_s": 10.0, "windows": 6, "seed": 5, "pool": POOL, "steps": 12}
    return WindowDataset(home.shards, **given | changed)


def _of(batches: Iterable[dict[str, Any]]) -> list[tuple[str, bytes, bytes]]:
    return [(one["recording"], one["starts"].numpy().tobytes(), one["values"].numpy().tobytes()) for one in batches]


def test_batches_are_what_the_shards_hold(home: Home) -> None:
    whole = {path.name.removesuffix(".zarr.zip"): read_shard(path, extra=True) for path in home.shards}
    seen = set()
    for batch in _dataset(home, steps=40, stimulus=True):
        shard = whole[batch["recording"].rpartition("/")[2]]
        seen.add(batch["modality"])
        length = round(10 * shard.sampling_rate_hz)
        rows = batch["starts"].numpy()[:, None] + np.arange(length)
        assert rows.shape == (6, length)
        expected = np.where(shard.valid[rows][..., None], shard.stored[rows] * shard.scale + shard.offset, 0)
        np.testing.assert_allclose(batch["values"].numpy(), expected, rtol=1e-5, atol=1e-4)
        np.testing.assert_array_equal(batch["valid"].numpy(), shard.valid[rows])
        np.testing.assert_array_equal(batch["targets"]["sample"].numpy()[..., 0], rows)
        for events, first in zip(batch["events"], rows[:, 0], strict=True):
            inside = range(-(-first // 100) * 100, first + length, 100)
            assert [label for _, label in events] == [f"at {at}" for at in inside]
            lags = [(at - first) / shard.sampling_rate_hz for at in inside]
            np.testing.assert_allclose([onset for onset, _ in events], lags, atol=1e-6)
        assert not set(batch["visible"].tolist()) & set(batch["hidden"].tolist())
        stimulus = shard.recording.stimulus
        assert ("frames" in batch) == (stimulus is not None)
        if stimulus is not None:
            shown = stimulus.shown[rows]
            np.testing.assert_array_equal(batch["shown"].numpy(), shown)
            frames = np.where((shown >= 0)[..., None, None], stimulus.frames[shown], 0)
            np.testing.assert_array_equal(batch["frames"].numpy(), frames)
    assert seen == {"spikes", "fmri"}


@pytest.mark.parametrize("workers", [0, 2])
def test_a_data_loader_gives_the_same_batches_in_the_same_order(workers: int, home: Home) -> None:
    loader = DataLoader(_dataset(home), batch_size=None, num_workers=workers)
    assert _of(loader) == _of(_dataset(home))


def test_a_run_that_goes_on_later_sees_what_comes_next(home: Home) -> None:
    assert _of(_dataset(home))[7:] == _of(_dataset(home, first_step=7, steps=5))


def test_processes_part_every_step(home: Home) -> None:
    parts = zip(*(_dataset(home, rank=rank, world_size=2) for rank in range(2)), strict=True)
    for whole, (first, second) in zip(_dataset(home), parts, strict=True):
        assert torch.equal(first["values"], whole["values"][0::2])
        assert torch.equal(second["values"], whole["values"][1::2])


def test_a_film_that_several_saw_is_held_once(home: Home) -> None:
    batches = iter(_dataset(home, stimulus=True, shares={Modality.FMRI: 1.0}))
    next(batches)
    films = [PackedShard(path).array("stimulus/frames") for path in home.shards[6:]]
    assert len({film.fingerprint() for film in films}) == 1
    held = batches.gi_frame.f_locals["films"]  # type: ignore[attr-defined]
    assert held.count == 1


def test_only_the_spans_given_are_drawn(home: Home) -> None:
    spans = {path: [(100, 150)] for path in home.shards}
    for batch in _dataset(home, window_s=2.0, spans=spans, pool=None, shares={Modality.SPIKES: 1.0}):
        assert int(batch["starts"].min()) >= 100
        assert int(batch["starts"].max()) <= 110


class _Mean(LightningModule):
    """Learns the mean of what it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.mean = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[int] = []

    def training_step(self, batch: dict[str, Any], _: int) -> Tensor:
        self.seen.append(batch["step"])
        loss: Tensor = (batch["values"].mean() - self.mean).square().sum()
        return loss

    def validation_step(self, batch: dict[str, Any], _: int) -> None:
        self.log("validation", batch["values"].mean(), batch_size=1)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def test_lightning_trains_on_it(home: Home, tmp_path: Path) -> None:
    data = WindowDataModule(_dataset(home, steps=None), _dataset(home, steps=2))
    model = _Mean()
    trainer = Trainer(
        max_steps=5,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        num_sanity_val_steps=0,
        limit_val_batches=2,
        val_check_interval=5,
        default_root_dir=tmp_path,
    )
    trainer.fit(model, data)
    assert model.seen == [0, 1, 2, 3, 4]
    assert "validation" in trainer.callback_metrics


def _damaged(home: Home, folder: Path, *, chunk: int) -> list[Path]:
    """The shards, with one bit of the first one's signal turned."""
    copies = [Path(shutil.copy(path, folder / path.name)) for path in home.shards]
    array = PackedShard(copies[0]).array("signal")
    content = bytearray(copies[0].read_bytes())
    content[array.offset + int(array.index[chunk, 0]) + 30] ^= 1
    copies[0].write_bytes(bytes(content))
    return copies


@pytest.mark.parametrize("decoders", [0, 1])
def test_a_damaged_chunk_is_skipped_and_counted(
    decoders: int, home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copies = _damaged(home, tmp_path, chunk=2)
    rows = PackedShard(copies[0]).array("signal").chunk_rows
    site = StoreSite(policy=Policy.HOST_POOL, decoders=decoders)
    met = 0
    for batch in WindowDataset(
        copies, window_s=4.0, windows=6, seed=5, pool=POOL, steps=400, store=site, most_damaged=0.1
    ):
        if batch["recording"] == "spikes/r0":
            lost = (batch["starts"][:, None] + torch.arange(80)) // rows == 2
            met += int(lost.sum())
            assert not batch["valid"][lost].any()
            assert (batch["values"][lost] == 0).all()
    assert met
    said = capsys.readouterr().err
    assert said.count("signal: chunk 2 has another checksum") == 1
    assert "windows: 1 damaged chunks" in said


def test_more_damage_than_allowed_stops(home: Home, tmp_path: Path) -> None:
    copies = _damaged(home, tmp_path, chunk=2)
    with pytest.raises(UserError, match=r"r0\.zarr\.zip: signal: chunk 2 has another checksum") as error:
        list(WindowDataset(copies, window_s=4.0, windows=6, seed=5, steps=400, most_damaged=0.0))
    assert error.value.mend == "neurofm shards repair"


def test_a_shard_replaced_while_open_is_named(home: Home, tmp_path: Path) -> None:
    copies = [Path(shutil.copy(path, tmp_path / path.name)) for path in home.shards]
    batches = iter(WindowDataset(copies, window_s=4.0, windows=6, seed=5, pool=POOL, store=StoreSite(decoders=0)))
    next(batches)
    for path in copies:
        other = path.with_suffix(".new")
        shutil.copy(path, other)
        other.replace(path)
    with pytest.raises(Unreadable, match=r"\.zarr\.zip: was replaced while it was in use"):
        list(itertools.islice(batches, 500))


def test_another_schema_is_refused(home: Home, tmp_path: Path) -> None:
    path = tmp_path / "old.zarr.zip"
    with zipfile.ZipFile(home.shards[0]) as old, zipfile.ZipFile(path, "w") as new:
        for entry in old.infolist():
            content = old.read(entry)
            new.writestr(entry, content.replace(b"neurofm", b"NEUROFM") if entry.filename == "zarr.json" else content)
    with pytest.raises(Unreadable, match=r"old\.zarr\.zip: schema is"):
        WindowDataset([path], window_s=4.0, windows=6, seed=5)


def test_recordings_too_short_are_named_and_none_is_refused(home: Home) -> None:
    # The counts last 200 s, the films 336 s.
    dataset = _dataset(home, window_s=300.0, pool=None)
    assert dataset.left_out == tuple(str(path) for path in home.shards[:6])
    with pytest.raises(UserError, match="none of 14 shards has a stretch of 1000 s"):
        _dataset(home, window_s=1000.0)


def test_a_share_of_a_dataset_that_is_not_there_is_refused(home: Home) -> None:
    with pytest.raises(UserError, match="'hcp' has no recording to learn from; there are fmri, spikes"):
        _dataset(home, dataset_shares={"hcp": 1.0})


def test_the_example_of_the_docs_runs(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "memory.md").read_text()
    code = text.split("```python\n")[1].split("```")[0]
    folder = tmp_path / "data" / "shards" / "d"
    folder.mkdir(parents=True)
    for path in home.shards[:3]:
        shutil.copy(path, folder)
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/memory.md", "exec"), {})  # our own documentation
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 10
    assert all(line.startswith("spikes/r") and "torch.Size([64, 40, " in line for line in said)


def test_shards_on_s3_give_the_same_batches(home: Home, s3: SeaweedServer) -> None:
    s3.make_bucket("lab")
    chosen = [*home.shards[:2], home.shards[7]]
    for path in chosen:
        s3.put("lab", f"shards/{path.name}", path.read_bytes())
    credentials = s3.environment
    there = WindowDataset(
        [f"s3://lab/shards/{path.name}" for path in chosen],
        window_s=10.0,
        windows=6,
        seed=5,
        steps=8,
        options={
            "endpoint_url": s3.url,
            "key": credentials["AWS_ACCESS_KEY_ID"],
            "secret": credentials["AWS_SECRET_ACCESS_KEY"],
        },
    )
    assert _of(there) == _of(WindowDataset(chosen, window_s=10.0, windows=6, seed=5, steps=8))
