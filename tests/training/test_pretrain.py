"""Training is repeatable to the bit, goes on where it was killed, and never reads what is scored."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurofm.errors import UserError
from neurofm.recording import Channels, Clock, Modality, Recording, Signal
from neurofm.shards import Provenance, write_shard
from neurofm.shards.packed import PackedShard
from neurofm.splits import Fold, Splits
from neurofm.training.batches import cut
from neurofm.training.live import log_curves
from neurofm.training.pretrain import FoldResult, pretrain, pretrain_all_folds
from neurofm.training.recordings import training_recordings
from neurofm.training.settings import PretrainSettings
from neurofm.training.step import Drawn
from neurofm.training.tuning import choose_cores
from neurofm.windows import RecordingView, WindowsSettings
from neurofm.windows.policy import Policy, StoreSite
from neurofm.windows.sampling import Choices, blocks_of, source_of
from neurofm.windows.schedule import PoolSettings, Schedule
from tests.training.conftest import short_windows, simulate, view_of

FILES = ("config.json", "model.safetensors", "statistics.safetensors")


def _bytes(folder: Path) -> dict[str, bytes]:
    assert sorted(path.name for path in folder.iterdir()) == sorted(FILES)
    return {name: (folder / name).read_bytes() for name in FILES}


@dataclass
class _Trainer:
    """Trains into folders of its own."""

    views: list[RecordingView]
    settings: PretrainSettings
    windows: WindowsSettings
    at: Path

    def __call__(self, name: str) -> FoldResult:
        return pretrain(
            self.views,
            settings=self.settings,
            windows=self.windows,
            fold=0,
            run_dir=self.at / name / "run",
            out_dir=self.at / name / "out",
        )

    def files(self, name: str) -> dict[str, bytes]:
        return _bytes(self.at / name / "out")


@pytest.fixture
def trainer(
    views: list[RecordingView], settings: PretrainSettings, windows: WindowsSettings, tmp_path: Path
) -> _Trainer:
    return _Trainer(views, settings, windows, tmp_path)


def test_two_runs_write_the_same_bytes_and_leave_torch_as_it_was(trainer: _Trainer) -> None:
    torch.manual_seed(3)
    expected = torch.random.get_rng_state()
    first, second = trainer("one"), trainer("two")
    assert first == second
    assert trainer.files("one") == trainer.files("two")
    assert torch.equal(torch.random.get_rng_state(), expected)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("killed_at", [1, 6, 11])
def test_a_killed_run_ends_with_the_same_bits(
    killed_at: int, trainer: _Trainer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = trainer("whole")
    steps: list[int] = []

    draw = Schedule.at

    def killing_draw(schedule: Schedule, step: int) -> Any:
        steps.append(step)
        if step == killed_at and steps.count(killed_at) == 1:
            raise KeyboardInterrupt
        return draw(schedule, step)

    monkeypatch.setattr(Schedule, "at", killing_draw)
    with pytest.raises(KeyboardInterrupt):
        trainer("killed")
    assert not (trainer.at / "killed" / "out").exists()
    assert trainer("killed") == expected
    assert trainer.files("killed") == trainer.files("whole")
    assert steps.count(0) == (2 if killed_at < 4 else 1), "a validated step is not done again"


def test_a_limit_that_is_not_reached_changes_no_bit(trainer: _Trainer) -> None:
    expected = trainer("without")
    trainer.settings = trainer.settings.model_copy(update={"max_hours": 1000.0})
    assert trainer("with") == expected
    assert expected.stopped_by is None
    assert trainer.files("with") == trainer.files("without")


def test_a_run_whose_time_is_up_stops_says_so_and_goes_on_with_more(trainer: _Trainer) -> None:
    expected = trainer("without")
    unlimited = trainer.settings
    trainer.settings = unlimited.model_copy(update={"max_hours": 1e-9})
    for _ in range(2):  # asked again it does no further step
        stopped = trainer("with")
        assert (stopped.steps, stopped.stopped_by) == (unlimited.validate_every_steps, "max_hours")
        assert len(stopped.curve) == 1
        assert trainer.files("with")["model.safetensors"] != trainer.files("without")["model.safetensors"]
    trainer.settings = unlimited
    assert trainer("with") == expected
    assert trainer.files("with") == trainer.files("without")


def test_another_seed_gives_another_model(trainer: _Trainer) -> None:
    trainer("one")
    trainer.settings = trainer.settings.model_copy(update={"seed": 2})
    trainer("two")
    assert trainer.files("one")["model.safetensors"] != trainer.files("two")["model.safetensors"]


def test_a_state_of_other_settings_is_not_resumed(trainer: _Trainer) -> None:
    trainer("one")
    trainer.settings = trainer.settings.model_copy(update={"seed": 2})
    trainer("one")
    trainer("fresh")
    assert trainer.files("one") == trainer.files("fresh")


def test_corrupting_everything_that_is_scored_changes_no_bit(trainer: _Trainer) -> None:
    trainer("clean")
    poisoned = []
    for view in trainer.views:
        stored = view.stored[:].copy()
        for segment in view.roles.test:
            stored[segment.start : segment.stop] = 77
        poisoned.append(replace(view, stored=stored))
    trainer.views = poisoned
    trainer("poisoned")
    assert trainer.files("clean") == trainer.files("poisoned")


def test_validation_is_never_worse_than_the_linear_core(trainer: _Trainer) -> None:
    trainer.settings = trainer.settings.model_copy(update={"learning_rate": 1.0})
    result = trainer("wild")
    linear = trainer.settings.model_copy(update={"steps": 0})
    trainer.settings = linear
    assert trainer("linear").residual_gain == dict.fromkeys([str(m) for m in short_windows().modalities], 0.0)
    assert set(result.residual_gain.values()) <= {0.0, 0.5, 1.0}
    assert result.residual_gain["eeg"] == 0.0


def test_a_network_that_trains_longer_beats_its_core(trainer: _Trainer) -> None:
    # Enough data that a log link and context show: on a minute of eight units the linear core is hard to beat.
    long = simulate(Modality.SPIKES, samples=8000, channels=8, seed=0)
    trainer.views[0] = view_of(
        long, modality=Modality.SPIKES, train=[(0, 5000)], validation=[(5100, 6900)], test=[(7000, 8000)]
    )
    trainer.settings = trainer.settings.model_copy(
        update={"steps": 300, "validate_every_steps": 100, "batch_windows": 16, "validation_windows": 64}
    )
    result = trainer("long")
    assert result.best_step > 0
    assert result.residual_gain["spikes"] > 0
    first, last = result.curve[0]["validation"]["spikes"], min(point["validation"]["spikes"] for point in result.curve)
    assert last <= first < 1


def test_a_loss_that_is_not_a_number_names_step_and_modality(trainer: _Trainer) -> None:
    trainer.settings = trainer.settings.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"the loss of (spikes|fmri) \(.*\) is (nan|inf) at step \d+"):
        trainer("diverging")


def test_a_fold_without_train_segments_is_refused(trainer: _Trainer) -> None:
    trainer.views = [view for view in trainer.views if not view.roles.train]
    with pytest.raises(UserError, match="fold 0 has no recording with train segments"):
        trainer("none")


def test_curves_are_logged_for_dvc(trainer: _Trainer, tmp_path: Path) -> None:
    result = trainer("one")
    log_curves({"folds": [vars(result)]}, tmp_path / "live")
    table = (tmp_path / "live" / "fold-0" / "plots" / "metrics" / "validation" / "fmri.tsv").read_text().splitlines()
    assert table[0].split("\t") == ["step", "fmri"]
    assert [row.split("\t")[0] for row in table[1:]] == ["4", "8", "12"]
    assert float(table[-1].split("\t")[1]) == pytest.approx(result.curve[-1]["validation"]["fmri"])


def _write_shards(folder: Path, views: list[RecordingView]) -> None:
    for view in views:
        channels = len(view.channel_ids)
        spikes = view.modality is Modality.SPIKES
        recording = Recording(
            dataset=view.dataset,
            subject=view.subject,
            session="",
            run="",
            task="",
            species="Homo sapiens",
            modality=view.modality,
            channels=Channels(
                id=view.channel_ids, position=view.position, position_unit="", quality={"usable": np.ones(channels)}
            ),
            clock=Clock(id=view.name),
            signal=Signal(
                values=view.stored[:].astype(np.int64) if spikes else view.values(0, len(view.stored)),
                sampling_rate_hz=view.sampling_rate_hz,
                units="counts" if spikes else "z",
            ),
        )
        provenance = Provenance(
            archive="local", source_id="x", version="1", files=(), licence="CC0-1.0", citation="x", libraries={}
        )
        write_shard(recording, provenance=provenance, path=folder / f"{view.name}.zarr.zip")


@pytest.mark.long
def test_results_do_not_depend_on_the_number_of_processes(trainer: _Trainer, tmp_path: Path) -> None:
    _write_shards(tmp_path / "shards", trainer.views)
    fold = Fold(recordings=tuple(view.roles for view in trainer.views))
    splits = Splits(seed=0, folds=(fold, fold), left_out=())
    results = [
        pretrain_all_folds(
            splits,
            shards=tmp_path / "shards",
            settings=trainer.settings,
            windows=trainer.windows,
            runs=tmp_path / f"runs{workers}",
            out=tmp_path / f"out{workers}",
            workers=workers,
        )
        for workers in (1, 2)
    ]
    assert results[0] == results[1]
    assert "stopped_by" not in results[0]["folds"][0]
    assert [result["fold"] for result in results[0]["folds"]] == [0, 1]
    assert _bytes(tmp_path / "out1" / "fold-1") == _bytes(tmp_path / "out2" / "fold-1")


def _train_from_shards(
    trainer: _Trainer, shards: Path, settings: PretrainSettings, out: Path, site: StoreSite | None = None
) -> dict[str, Any]:
    """Return the curves, and the weights after the last step."""
    fold = Fold(recordings=tuple(view.roles for view in trainer.views))
    result = pretrain_all_folds(
        Splits(seed=0, folds=(fold,), left_out=()),
        shards=shards,
        settings=settings,
        windows=trainer.windows,
        runs=out / "runs",
        out=out,
        workers=1,
        site=site,
    )
    (state,) = (out / "runs").glob("*/fold-0/last.pt")
    weights = torch.load(state, weights_only=True)["weights"]
    return result | {name: value.numpy().tobytes() for name, value in weights.items()}


def test_where_samples_lie_changes_no_bit_of_a_model_and_what_is_in_params_does(
    trainer: _Trainer, tmp_path: Path
) -> None:
    shards = tmp_path / "shards"
    _write_shards(shards, trainer.views)

    def train(name: str, policy: Policy, **changed: object) -> dict[str, Any]:
        settings = trainer.settings.model_copy(update=changed)
        return _train_from_shards(trainer, shards, settings, tmp_path / name, StoreSite(policy=policy, decoders=0))

    pool = PoolSettings(megabytes=0.006, uses=4.0)
    whole, rotated = train("ram", Policy.ALL_IN_RAM), train("pool", Policy.HOST_POOL, pool=pool)
    assert train("mmap", Policy.MMAP) == whole
    assert train("hybrid", Policy.HYBRID, pool=pool) == rotated
    rounded = train("bfloat16", Policy.ALL_IN_RAM, bfloat16=True)
    assert whole != rotated
    assert whole != rounded


def test_a_damaged_chunk_is_skipped_and_counted_and_more_ends_the_training(
    trainer: _Trainer, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("neurofm.shards.write.CHUNK_BYTES", 256)
    shards = tmp_path / "shards"
    _write_shards(shards, trainer.views)
    path = shards / f"{trainer.views[0].name}.zarr.zip"
    array = PackedShard(path).array("signal")
    content = bytearray(path.read_bytes())
    content[array.offset + int(array.index[0, 0]) + 20] ^= 1
    path.write_bytes(bytes(content))
    allowed = trainer.settings.model_copy(update={"most_damaged": 0.5})
    _train_from_shards(trainer, shards, allowed, tmp_path / "allowed")
    said = capsys.readouterr().err
    assert "signal: chunk 0 has another checksum" in said
    assert "pretrain fold 0: 1 damaged chunks" in said
    refused = trainer.settings.model_copy(update={"most_damaged": 0.0})
    with pytest.raises(UserError, match="chunk 0 has another checksum"):
        _train_from_shards(trainer, shards, refused, tmp_path / "refused")
    assert not (tmp_path / "refused" / "fold-0").exists()


def test_what_cannot_be_learned_from_is_named(trainer: _Trainer, capsys: pytest.CaptureFixture[str]) -> None:
    short = view_of(
        simulate(Modality.EEG, samples=40, channels=4, seed=9), modality=Modality.EEG, train=[(0, 4)], test=[(10, 40)]
    )
    trainer.views.append(short)
    trainer.settings = trainer.settings.model_copy(update={"dataset_shares": {"eeg": 2.0}})
    trainer("short")
    said = capsys.readouterr().err
    assert "1 recordings have too few channels, or too little signal for two patches, to learn from: eeg/r" in said
    assert "eeg has no recording to learn from in this fold; its share goes to the others" in said
    trainer.settings = trainer.settings.model_copy(update={"dataset_shares": {"hcp": 2.0}})
    with pytest.raises(UserError, match="'hcp' has no recording to learn from; there are eeg, fmri, spikes"):
        trainer("absent")


def test_of_many_hidden_channels_some_are_asked_for_evenly(
    views: list[RecordingView], settings: PretrainSettings
) -> None:
    source = source_of(
        views[0].roles, usable=views[0].usable, window=short_windows().of(Modality.SPIKES), episodes=settings.episodes
    )
    assert source is not None
    blocks = blocks_of([source], most_samples=[None])
    drawn = Choices([source], blocks, shares=settings.shares.of()).draw(
        seed=1, step=0, windows=2, hidden_fraction=(0.8, 0.8)
    )
    learned = training_recordings(
        views[:1],
        choices=choose_cores(views[:1], settings=settings, windows=short_windows()),
        settings=settings,
        windows=short_windows(),
    )
    z, counts = cut(views[0], drawn.starts, window_samples=20)
    one = Drawn(recording=learned[0], draw=drawn, z=z, counts=counts)
    hidden = drawn.hidden.tolist()
    assert len(hidden) == 6
    assert one.asked(most=6).tolist() == one.asked(most=100).tolist() == hidden
    assert one.asked(most=3).tolist() == [hidden[0], hidden[2], hidden[5]]
    # What is asked for is predicted as if everything were.
    some, every = (
        one.lesson(step=0, patch=5, settings=settings.model_copy(update={"most_targets": most})) for most in (3, 6)
    )
    torch.testing.assert_close(some.batch.linear, every.batch.linear[..., [0, 2, 5]])
    assert torch.equal(some.truth, every.truth[..., [0, 2, 5]])
    assert len(some.batch.query.identity) == 3
    assert torch.equal(some.batch.seen.values, every.batch.seen.values)
