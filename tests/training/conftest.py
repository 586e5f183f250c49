"""Small recordings with known structure, as one fold sees them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from neurofm.recording import Modality
from neurofm.training.pretrain import FoldResult
from neurofm.training.settings import CoreGrid, PretrainSettings
from neurofm.windows import RecordingView, WindowsSettings
from tests.training.faults import Lab
from tests.views import Span, view_of

__all__ = ["Span", "view_of"]

MakeView = Callable[..., RecordingView]


def simulate(modality: Modality, *, samples: int, channels: int, seed: int) -> npt.NDArray[np.float64]:
    """[time, channel]: two slow latents seen by all channels; counts whose log rate they drive for spikes."""
    rng = np.random.default_rng(seed)
    kernel = np.exp(-0.5 * (np.arange(-12, 13) / 3.0) ** 2)
    latents = np.stack([np.convolve(rng.normal(size=samples), kernel, mode="same") for _ in range(2)], axis=1)
    latents /= latents.std(axis=0)
    loadings = np.random.default_rng(100).normal(size=(2, channels))
    drive: npt.NDArray[np.float64] = latents @ loadings
    if modality is Modality.SPIKES:
        counts: npt.NDArray[np.float64] = rng.poisson(np.exp(0.7 * drive - 1)).clip(0, 255).astype(np.float64)
        return counts
    return drive + 0.7 * rng.normal(size=drive.shape)


@pytest.fixture
def make_view() -> MakeView:
    return view_of


def two_kinds() -> list[RecordingView]:
    """One recording split in time, and an atlas of four subjects split by subject."""
    spikes = view_of(
        simulate(Modality.SPIKES, samples=1200, channels=8, seed=0),
        modality=Modality.SPIKES,
        train=[(0, 400), (500, 700)],
        validation=[(720, 900)],
        test=[(920, 1200)],
    )
    subjects = []
    for number, role in enumerate(("train", "train", "validation", "test")):
        whole = [(0, 240)]
        segments: dict[str, list[Span]] = {"train": whole} if role == "train" else {role: [(80, 240)]}
        subjects.append(
            view_of(
                simulate(Modality.FMRI, samples=240, channels=6, seed=number + 1),
                modality=Modality.FMRI,
                name=f"sub{number}",
                channel_set="fmri-atlas",
                kind="subject",
                calibration=whole if role == "train" else [(0, 30)],
                **segments,
            )
        )
    return [spikes, *subjects]


def short_windows() -> WindowsSettings:
    """Four patches a window."""
    section = {"window_samples": 20, "patch_samples": 5}
    those = [str(modality) for modality in Modality if modality is not Modality.MEG]  # As in a project without MEG.
    return WindowsSettings.parse(dict.fromkeys(those, section), where="windows", mend="")


def small_settings() -> PretrainSettings:
    """Small enough that a fold trains in a second."""
    return PretrainSettings.parse(
        {
            "seed": 1,
            "steps": 12,
            "batch_windows": 4,
            "learning_rate": 0.002,
            "weight_decay": 0.01,
            "warmup_steps": 2,
            "hidden_fraction_min": 0.2,
            "hidden_fraction_max": 0.5,
            "episodes": 4,
            "shares": {"spikes": 0.5, "calcium": 0.0, "miniscope": 0.0, "fmri": 0.5, "eeg": 0.0},
            "validate_every_steps": 4,
            "validation_windows": 8,
            "patience": 10,
            "ema_decay": 0.9,
            "mask_groups": 3,
            "residual_gains": [0.5, 1.0],
            "core": {
                "smoothing_samples": [0.0, 1.0, 4.0],
                "ridge": [0.001, 0.1],
                "prior_samples": [0.0, 100.0],
                "rate_floors": [0.1],
                "bank": False,
            },
            "model": {"backbone": "transformer", "width": 16, "layers": 1, "heads": 2, "dropout": 0.1},
        },
        where="pretrain",
        mend="",
    )


@pytest.fixture
def views() -> list[RecordingView]:
    """One recording split in time, and an atlas of four subjects split by subject."""
    return two_kinds()


@pytest.fixture
def windows() -> WindowsSettings:
    """Four patches a window."""
    return short_windows()


@pytest.fixture
def settings() -> PretrainSettings:
    """Small enough that a fold trains in a second."""
    return small_settings()


def small_lab(at: Path) -> Lab:
    """Where one fold is trained in no time: its linear core has no choice."""
    core = {"smoothing_samples": [1.0], "ridge": [0.1], "prior_samples": [100.0], "rate_floors": [0.1], "bank": False}
    settings = small_settings().model_copy(update={"core": CoreGrid.parse(core, where="core", mend="")})
    return Lab(views=two_kinds(), settings=settings, windows=short_windows(), at=at)


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    """Where one fold is trained, with faults."""
    return small_lab(tmp_path)


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory) -> tuple[FoldResult, dict[str, bytes]]:
    """What a training without faults gives: its result and its model."""
    lab = small_lab(tmp_path_factory.mktemp("whole"))
    return lab.train("whole"), lab.model("whole")
