"""A bank takes the place of the linear core only where it predicts better, and its weights never saw what is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from neurofm.errors import UserError
from neurofm.evaluation.scores import poisson_bits
from neurofm.model.bank import SPIKES_BANK
from neurofm.model.whole_channels import network_of
from neurofm.readers.shared.variables import load_variables
from neurofm.recording import Modality
from neurofm.training import mixtures
from neurofm.training.checkpoint import patch_samples
from neurofm.training.contexts import CoreKind
from neurofm.training.fold import checkpoint_of, pretrain, save_model
from neurofm.training.kinds import ChosenKinds, Judged, choose_kinds
from neurofm.training.mixtures import learn_banks
from neurofm.training.predict import Predictor
from neurofm.training.settings import CoreGrid, PretrainSettings
from neurofm.training.tuning import choose_cores
from neurofm.windows import RecordingView, WindowsSettings
from tests.training.conftest import short_windows, small_settings, view_of

UNITS = 100
"""Of Steinmetz's session 1, the most active; trials are 20 bins of 20 ms."""
BINS = 20
TRIALS = {"train": range(70), "validation": range(70, 90), "test": range(90, 114)}


def _settings() -> PretrainSettings:
    grid = {"smoothing_samples": [1.0], "ridge": [3.0], "prior_samples": [0.0], "rate_floors": [0.1]}
    core = CoreGrid.parse(grid, where="core", mend="")
    shares = small_settings().shares.model_copy(update={"spikes": 1.0, "fmri": 0.0})
    return small_settings().model_copy(update={"core": core, "steps": 0, "shares": shares, "validation_windows": 64})


@pytest.fixture(scope="module")
def session(shared_data: Path) -> RecordingView:
    """A real session, trial by trial."""
    fine = np.stack(load_variables(shared_data / "ephys/steinmetz2019_rds/session1.rds")["spks"])
    counts = fine.reshape(*fine.shape[:2], -1, 2).sum(axis=-1).transpose(0, 2, 1).astype(np.float64)
    active = np.sort(counts[TRIALS["train"]].sum(axis=(0, 1)).argsort()[-UNITS:])
    roles = {role: [(BINS * trial, BINS * (trial + 1)) for trial in trials] for role, trials in TRIALS.items()}
    view = view_of(
        counts[..., active].reshape(-1, UNITS),
        modality=Modality.SPIKES,
        train=roles["train"],
        validation=roles["validation"],
        test=roles["test"],
    )
    return replace(view, sampling_rate_hz=50.0)


def _chosen(view: RecordingView) -> ChosenKinds:
    settings, windows = _settings(), short_windows()
    return choose_kinds(
        choose_cores([view], settings=settings, windows=windows), [view], settings=settings, windows=windows
    )


@pytest.fixture(scope="module")
def chosen(session: RecordingView) -> ChosenKinds:
    """What the session chose."""
    return _chosen(session)


def test_draws_of_mixtures_take_no_more_memory_than_they_may(
    session: RecordingView, chosen: ChosenKinds, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = chosen.choices.banks[Modality.SPIKES]
    monkeypatch.setattr(mixtures, "_DRAWS", 8)

    def drawn() -> list[mixtures.MixtureDraw]:
        settings, windows = _settings(), short_windows()
        return list(
            mixtures._draws([session], shared=shared, choices=chosen.choices, settings=settings, windows=windows)
        )

    def taken(draws: list[mixtures.MixtureDraw]) -> int:
        return sum(draw.estimates.nbytes + draw.wanted.nbytes for draw in draws)

    whole = drawn()
    least = taken(whole) // 2
    monkeypatch.setattr(mixtures, "_MOST_BYTES", least)
    bounded = drawn()
    assert len(bounded) == len(whole)
    assert 0 < taken(bounded) <= least


@pytest.fixture(scope="module")
def folder(session: RecordingView, chosen: ChosenKinds, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of the session: its core alone."""
    at = tmp_path_factory.mktemp("bank")
    settings, windows = _settings(), short_windows()
    network = network_of(settings.model, patch_samples=patch_samples(windows))
    gains = dict.fromkeys(map(str, Modality), 0.0)
    made = checkpoint_of(network, [session], choices=chosen.choices, gains=gains, settings=settings, windows=windows)
    save_model(made, at)
    return at


def test_spikes_of_a_real_session_choose_learned_weights(session: RecordingView, chosen: ChosenKinds) -> None:
    losses = chosen.by_channel_set[session.channel_set].losses
    assert losses["mixture"] < min(losses["bank"], losses["linear"]) < 1
    assert chosen.choices.of(session).kind == "mixture"
    assert chosen.report()[0] == {
        "modality": "spikes",
        "channels": None,
        "recordings": ["spikes/r"],
        "core": "mixture",
        "validation_loss": chosen.by_modality[Modality.SPIKES].losses,
        "standard_error": chosen.by_modality[Modality.SPIKES].errors,
    }


def test_what_judges_and_what_is_scored_move_no_bit_of_the_weights(
    session: RecordingView, chosen: ChosenKinds, tmp_path: Path
) -> None:
    stored = session.stored[:].copy()
    for segment in (*session.roles.validation, *session.roles.test):
        stored[segment.start : segment.stop] = np.random.default_rng(0).integers(0, 9, UNITS)
    result = pretrain(
        [replace(session, stored=stored)],
        settings=_settings(),
        windows=short_windows(),
        fold=0,
        run_dir=tmp_path / "run",
        out_dir=tmp_path / "out",
    )
    again = Predictor.load(tmp_path / "out").checkpoint.choices.banks[Modality.SPIKES].mixture.by_identity
    learned = chosen.choices.banks[Modality.SPIKES].mixture.by_identity
    assert torch.equal(learned.weight, again.weight)
    assert torch.equal(learned.bias, again.bias)
    assert learned.weight.abs().max() > 0
    assert result.cores
    assert result.cores != chosen.report(), "validation segments do judge"


def test_the_model_that_is_written_beats_ridge_on_trials_that_nothing_saw(session: RecordingView, folder: Path) -> None:
    predictor = Predictor.load(folder)
    choices = predictor.checkpoint.choices
    linear = replace(
        choices, by_channel_set={name: replace(c, kind="linear") for name, c in choices.by_channel_set.items()}
    )
    ridge = Predictor(replace(predictor.checkpoint, choices=linear))
    assert _bits(ridge, session) > 0.02
    assert _bits(predictor, session) > _bits(ridge, session)


def test_what_is_scored_moves_no_bit_of_a_prediction(session: RecordingView, folder: Path) -> None:
    stored = session.stored[:].copy()
    for segment in (*session.roles.validation, *session.roles.test):
        stored[segment.start : segment.stop] = 9
    seen, (visible, hidden) = session.z(1800, 1820)[None], (np.arange(0, 80), np.arange(80, UNITS))
    one, other = (
        Predictor.load(folder).predict(view, seen[..., visible], visible, hidden)
        for view in (session, replace(session, stored=stored))
    )
    np.testing.assert_array_equal(one, other)


def _bits(predictor: Predictor, view: RecordingView) -> float:
    """Bits per spike of 30 % of the units, in the trials for the test."""
    hidden = np.sort(np.random.default_rng(0).permutation(UNITS)[: round(0.3 * UNITS)])
    visible = np.setdiff1d(np.arange(UNITS), hidden)
    z = np.stack([view.z(segment.start, segment.stop) for segment in view.roles.test])
    counts = np.stack([view.values(segment.start, segment.stop) for segment in view.roles.test])[..., hidden]
    rate = view.normaliser.rate(predictor.predict(view, z[..., visible], visible, hidden), hidden)
    everything = np.ones(counts.shape[:2], dtype=bool)
    gained = poisson_bits(counts.astype(np.float64), rate, view.normaliser.mean[hidden], everything)
    return float(gained.sum() / counts.sum())


def test_a_written_bank_is_the_one_that_was_learned_and_is_kept_by_later_trainings(
    session: RecordingView, chosen: ChosenKinds, folder: Path, tmp_path: Path
) -> None:
    read = Predictor.load(folder).checkpoint.choices
    assert read == chosen.choices
    bank, learned = read.banks[Modality.SPIKES], chosen.choices.banks[Modality.SPIKES]
    assert bank.members == SPIKES_BANK
    assert torch.equal(bank.mixture.by_identity.weight, learned.mixture.by_identity.weight)
    later = learn_banks(
        [session],
        choices=read,
        settings=_settings().model_copy(update={"seed": 5}),
        windows=short_windows(),
        known=read.banks,
    )
    assert later[Modality.SPIKES].shared is bank
    assert later[Modality.SPIKES].judging(1).mixture is bank.mixture
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = tmp_path / "config.json"
    config.write_text(config.read_text().replace('"mixture"', '"oracle"'))
    with pytest.raises(UserError, match="not a readable model"):
        Predictor.load(tmp_path)


@pytest.mark.parametrize(
    ("losses", "error", "expected"),
    [
        ((0.8, 0.9, 0.7), 0.0, "mixture"),
        ((0.8, 0.9, 0.7), 0.09, "mixture"),
        ((0.8, 0.9, 0.7), 0.11, "linear"),
        ((0.8, 0.7, 0.699), 0.0, "bank"),
        ((0.7, 0.6999, 0.6995), 0.0, "linear"),
        ((0.8, 0.7, 0.9), 0.0, "bank"),
    ],
)
def test_the_simpler_is_kept_where_it_is_about_as_good(
    losses: tuple[float, float, float], error: float, expected: CoreKind
) -> None:
    kinds: tuple[CoreKind, ...] = ("linear", "bank", "mixture")
    judged = Judged(
        modality=Modality.SPIKES,
        recordings=(),
        losses=dict(zip(kinds, losses, strict=True)),
        errors=dict.fromkeys(kinds, error),
    )
    assert judged.best() == expected


def test_without_banks_nothing_is_learned(views: list[RecordingView], windows: WindowsSettings) -> None:
    settings = small_settings()
    linear = choose_cores(views, settings=settings, windows=windows)
    assert choose_kinds(linear, views, settings=settings, windows=windows) == ChosenKinds(
        choices=linear, by_channel_set={}, by_modality={}
    )
