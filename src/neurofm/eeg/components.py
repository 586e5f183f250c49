"""Takes out independent components that are eyes, muscles, heart or the power line."""

from __future__ import annotations

import warnings
from importlib.util import find_spec

import mne
import numpy as np
import numpy.typing as npt
from pydantic import Field
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it has no stubs

from neurofm.eeg.state import State
from neurofm.eeg.usable import fit_part, good_channels, positioned, rank, removed_fraction
from neurofm.errors import UserError
from neurofm.recording import Step, Unreadable
from neurofm.settings import Settings

LABELS = ("brain", "muscle", "eye", "heart", "line", "channel_noise", "other")
"""ICLabel's classes in the order of its probabilities."""
_REMOVED = ("muscle", "eye", "heart", "line", "channel_noise")
_BAND_HZ = (1.0, 100.0)
"""The band that ICLabel was trained on."""
_MIN_RATE_HZ = 200.0
"""A slower recording has no such band."""
_MIN_FIT_RATE_HZ = 225.0
"""The low-pass ends at 125 Hz: at this rate nothing folds back into the band."""
_FEWEST = 4
"""With fewer channels there is nothing to unmix, and no map of the head to label."""


class ComponentSettings(Settings):
    """How components are found, and which are taken out."""

    max_components: int = Field(ge=4)
    """No more components than this, nor than the data's rank (30)."""
    max_iterations: int = Field(ge=1)
    """Where picard ends if it has not converged (200)."""
    tolerance: float = Field(gt=0)
    """Norm of the gradient at which picard has converged (1e-5)."""
    min_probability: float = Field(ge=0, le=1)
    """A component is taken out if a label that is neither brain nor other has at least this probability (0.8)."""
    seed: int = Field(ge=0)


def step(state: State, *, settings: ComponentSettings) -> State:
    """Unmix with picard, label with ICLabel, and subtract what is no brain.

    Components are found in a copy between 1 and 100 Hz (Ablin 2018, 10.1109/TSP.2018.2844203, in its form that is
    equivalent to extended infomax), labelled by Pion-Tonachini 2019 (10.1016/j.neuroimage.2019.05.026), and
    subtracted from the signal as it is given. To be run after the average reference, on 200 Hz or more. Channels
    that are bad or have no position are left as they are. Masked samples are not learnt from, yet cleaned.

    Returns
    -------
    State
        Quality ``ica_components``, ``ica_iterations`` (``max_iterations`` of them: not converged), ``ica_removed``
        and ``ica_removed_LABEL`` (numbers of components) and ``ica_removed_variance_fraction``.

    Raises
    ------
    Unreadable
        If the sampling rate is too low, the reference is no average, or too few channels have a position.
    UserError
        If there is no torch for ICLabel's network.
    """
    require_torch()
    import mne_icalabel  # noqa: PLC0415  # slow, and every command reads this module's settings
    import picard  # noqa: PLC0415

    rate_hz = float(state.raw.info["sfreq"])
    if rate_hz < _MIN_RATE_HZ:
        raise Unreadable(f"sampled at {rate_hz:g} Hz; labels of components need at least {_MIN_RATE_HZ:g} Hz")
    if not state.raw.info["custom_ref_applied"]:
        raise Unreadable("labels of components need the average reference, which was not applied before")
    known = positioned(state.raw)
    channels = [name for name in good_channels(state) if name in known]
    if len(channels) < _FEWEST:
        raise Unreadable(f"{len(channels)} good channels with a position; labels of components need {_FEWEST}")
    part = fit_part(state, channels)
    part.filter(_BAND_HZ[0], None if rate_hz <= 2 * _BAND_HZ[1] else _BAND_HZ[1], n_jobs=1, verbose="error")
    with threadpool_limits(1):  # Sums in another order would be other bytes.
        ica = _unmixed(part, rank(state, part), settings)
        probability = _labelled(part, ica)
        labels = {int(i): _label(probability[i], settings.min_probability) for i in range(ica.n_components_)}
        removed = [i for i, label in labels.items() if label in _REMOVED]
        raw = ica.apply(state.raw.copy(), exclude=removed, verbose="error")
    counts = {f"ica_removed_{label}": sum(labels[i] == label for i in removed) for label in _REMOVED}
    return state.after(
        Step(
            name="components",
            version=f"picard {picard.__version__}, mne-icalabel {mne_icalabel.__version__}",
            params=settings.model_dump(),
        ),
        raw=raw,
        quality={
            "ica_components": int(ica.n_components_),
            "ica_iterations": int(ica.n_iter_),
            "ica_removed": len(removed),
            **counts,
            "ica_removed_variance_fraction": removed_fraction(
                state.raw.get_data(picks=channels), raw.get_data(picks=channels)
            ),
        },
    )


def require_torch() -> None:
    """Raise `UserError` if there is nothing that ICLabel's network could run on: known before hours are spent."""
    if find_spec("torch") is None:
        raise UserError(
            "preprocess.eeg.clean: `artefacts: ica` needs torch for ICLabel's network, and there is none here.",
            mend="use the image that has torch (neurofm, not neurofm-preprocess), or set `artefacts: asr`",
        )


def _unmixed(part: mne.io.BaseRaw, independent: int, settings: ComponentSettings) -> mne.preprocessing.ICA:
    """Find the components of `part`."""
    if independent < 2:
        raise Unreadable("good channels that were not interpolated are too few to unmix")
    ica = mne.preprocessing.ICA(
        n_components=min(independent, settings.max_components),
        method="picard",
        fit_params={"ortho": False, "extended": True, "tol": settings.tolerance},
        max_iter=settings.max_iterations,
        random_state=settings.seed,
        verbose="error",
    )
    with warnings.catch_warnings():
        # Quality says how many iterations it took.
        warnings.filterwarnings("ignore", message="Picard did not converge")
        ica.fit(part, decim=max(1, int(part.info["sfreq"] // _MIN_FIT_RATE_HZ)), verbose="error")
    return ica


def _labelled(part: mne.io.BaseRaw, ica: mne.preprocessing.ICA) -> npt.NDArray[np.float32]:
    """Return the probability of each of `LABELS`, [component, label]."""
    from mne_icalabel.iclabel import iclabel_label_components  # noqa: PLC0415

    with warnings.catch_warnings(), mne.use_log_level("error"):
        # At 200 Hz exactly there is no low-pass to be found.
        warnings.filterwarnings("ignore", message=".*not filtered between 1 and 100 Hz")
        labelled = iclabel_label_components(part, ica, inplace=False, backend="torch")
    return np.asarray(labelled, dtype=np.float32)


def _label(probability: npt.NDArray[np.float32], least: float) -> str:
    """Return the likeliest label, or ``other`` if it is no likelier than `least`."""
    best = int(probability.argmax())
    return LABELS[best] if probability[best] >= least else "other"
