"""Embeddings in the plane: windows by dataset, subject, task and state, patches by a target, channels by region.

Principal components, and not UMAP: they are linear, have no setting to be tuned until a picture pleases, give the same
bytes every time, and distances in them mean something.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from neurofm.evaluation.attributes import Attributes
from neurofm.evaluation.findings import Embedding, Floats, classes_of, is_angle, plane, spread
from neurofm.evaluation.settings import EvaluateSettings
from neurofm.training.predict import Predictor
from neurofm.windows import RecordingView, WindowsSettings

_POINTS = 120
"""Of a dataset at most, evenly over its recordings and over each recording's time."""
_RECORDINGS = 40
_PATCHES = 400
_LEAST_POINTS = 3


@dataclass(frozen=True, kw_only=True)
class _Sampled:
    """Some windows of one recording."""

    view: RecordingView
    start: Sequence[int]
    length: int

    @property
    def z(self) -> npt.NDArray[np.float32]:
        """[window, time, channel] in SDs."""
        return np.stack([self.view.z(start, start + self.length) for start in self.start])

    def held_out(self) -> list[float]:
        """Whether each lies in what is scored."""
        return [
            float(any(part.start <= start and start + self.length <= part.stop for part in self.view.roles.test))
            for start in self.start
        ]

    def state(self, target: str) -> list[float]:
        """1 or 0 where all of a window is in one of the two states, else NaN."""
        if target not in self.view.targets:
            return [float("nan")] * len(self.start)
        values = self.view.targets[target][:, 0]
        parts = [values[start : start + self.length] for start in self.start]
        return [1.0 if (part == 1).all() else 0.0 if (part == 0).all() else float("nan") for part in parts]


def embed(
    views: Sequence[RecordingView],
    predictor: Predictor,
    attributes: Mapping[str, Attributes],
    *,
    fold: int,
    settings: EvaluateSettings,
    windows: WindowsSettings,
) -> tuple[Embedding, ...]:
    """Embed some windows of every recording, with all channels shown, and project them.

    Parameters
    ----------
    views
        Of one fold.
    predictor
        The fold's model.
    attributes
        What is known of each recording, by name (`chosen_views`).
    fold
        Which one.
    settings
        Which targets are states, and which are decoded from patches.
    windows
        How long a window is.

    Returns
    -------
    All windows together by dataset; each dataset's windows by subject, task and state, where there are two or more
    of any; patches by each target that is decoded; channels by region, where two or more are known.
    """
    by_dataset: defaultdict[str, list[_Sampled]] = defaultdict(list)
    for view in views:
        by_dataset[view.dataset].append(_sample(view, length=windows.of(view.modality).window_samples))
    found: list[Embedding] = []
    latents: dict[str, Floats] = {}
    for dataset, recordings in sorted(by_dataset.items()):
        each = max(1, _POINTS // len(recordings))
        some = [_thinned(one, each) for one in recordings if one.start]
        if some:
            latents[dataset] = np.concatenate([_latents(one, predictor) for one in some])
            by_dataset[dataset] = some
            found += _of_dataset(latents[dataset], some, attributes, fold=fold, settings=settings)
    together = _together({name: by_dataset[name] for name in latents}, latents, fold=fold)
    parts = [
        *(
            _of_patches(one, predictor, target, fold=fold, windows=windows)
            for own in by_dataset.values()
            for one in own[:1]
            if one.start
            for target in settings.decode
            if target in one.view.targets
        ),
        *(_of_channels(one.view, predictor, fold=fold) for own in by_dataset.values() for one in own[:1]),
    ]
    return (*together, *found, *(part for part in parts if part is not None))


def chosen_views(views: Sequence[RecordingView]) -> list[RecordingView]:
    """Choose the recordings of each dataset that are embedded: all, or some of them evenly."""
    by_dataset: defaultdict[str, list[RecordingView]] = defaultdict(list)
    for view in sorted(views, key=lambda view: view.name):
        by_dataset[view.dataset].append(view)
    return [own[index] for own in by_dataset.values() for index in spread(len(own), _RECORDINGS)]


def _sample(view: RecordingView, *, length: int) -> _Sampled:
    """Cut a recording into windows that are valid throughout."""
    starts = [
        start for start in range(0, len(view.valid) - length + 1, length) if view.valid[start : start + length].all()
    ]
    return _Sampled(view=view, start=starts, length=length)


def _thinned(sampled: _Sampled, most: int) -> _Sampled:
    kept = [sampled.start[index] for index in spread(len(sampled.start), most)]
    return _Sampled(view=sampled.view, start=kept, length=sampled.length)


def _latents(sampled: _Sampled, predictor: Predictor) -> Floats:
    """[window, latent] mean over a window's patches; components are a recording's own, and do not compare."""
    encoded = predictor.encode(sampled.view, sampled.z)[..., : predictor.checkpoint.model.width]
    return np.asarray(encoded.mean(axis=1), dtype=np.float64)


def _together(
    by_dataset: Mapping[str, Sequence[_Sampled]], latents: Mapping[str, Floats], *, fold: int
) -> list[Embedding]:
    if len(latents) < 2:
        return []
    datasets = sorted(latents)
    xy, explained = plane(np.concatenate([latents[dataset] for dataset in datasets]))
    held_out = [flag for dataset in datasets for one in by_dataset[dataset] for flag in one.held_out()]
    classes, values = classes_of([dataset for dataset in datasets for _ in latents[dataset]])
    return [
        Embedding(
            dataset="",
            modality="",
            recording="",
            fold=fold,
            point="window",
            explained=explained,
            xy=xy,
            held_out=np.array(held_out),
            labels=("dataset",),
            classes=(classes,),
            values=values[None],
        )
    ]


def _of_dataset(
    latents: Floats,
    recordings: Sequence[_Sampled],
    attributes: Mapping[str, Attributes],
    *,
    fold: int,
    settings: EvaluateSettings,
) -> list[Embedding]:
    """Windows of one dataset by whatever tells two or more apart; none where nothing does."""
    named = {
        "subject": [one.view.subject.rpartition(":")[2] for one in recordings],
        "task": [str(attributes[one.view.name].get("task") or "") for one in recordings],
    }
    labels: dict[str, tuple[tuple[str, ...], Floats]] = {
        name: classes_of([value for value, one in zip(values, recordings, strict=True) for _ in one.start])
        for name, values in named.items()
    }
    for target in settings.classify:
        words = target.replace("_", " ")
        labels[target] = ((f"not {words}", words), np.array([s for one in recordings for s in one.state(target)]))
    told = {name: both for name, both in labels.items() if len(np.unique(both[1][np.isfinite(both[1])])) > 1}
    if not told or len(latents) < _LEAST_POINTS:
        return []
    view = recordings[0].view
    xy, explained = plane(latents)
    return [
        Embedding(
            dataset=view.dataset,
            modality=str(view.modality),
            recording="",
            fold=fold,
            point="window",
            explained=explained,
            xy=xy,
            held_out=np.array([flag for one in recordings for flag in one.held_out()]),
            labels=tuple(told),
            classes=tuple(classes for classes, _ in told.values()),
            values=np.stack([values for _, values in told.values()]),
        )
    ]


def _of_patches(
    sampled: _Sampled, predictor: Predictor, target: str, *, fold: int, windows: WindowsSettings
) -> Embedding | None:
    """Patches of one recording by a target that is an angle, in what its read-out sees."""
    view, patch = sampled.view, windows.of(sampled.view.modality).patch_samples
    if not is_angle(view.targets[target]):
        return None
    measured = np.isfinite(view.targets[target].sum(axis=1))
    starts = [
        start for start in _sample(view, length=sampled.length).start if measured[start : start + sampled.length].all()
    ]
    some = _thinned(_Sampled(view=view, start=starts, length=sampled.length), -(-_PATCHES * patch // sampled.length))
    if len(some.start) < _LEAST_POINTS:
        return None
    encoded = predictor.encode(view, some.z).astype(np.float64)
    values = np.stack([view.targets[target][start : start + some.length] for start in some.start]).astype(np.float64)
    mean = values.reshape(len(values), -1, patch, 2).mean(axis=2).reshape(-1, 2)
    features = encoded.reshape(-1, encoded.shape[-1])
    xy, explained = plane((features - features.mean(axis=0)) / np.maximum(features.std(axis=0), 1e-9))
    return Embedding(
        dataset=view.dataset,
        modality=str(view.modality),
        recording=view.recording,
        fold=fold,
        point="patch",
        explained=explained,
        xy=xy,
        held_out=np.repeat(some.held_out(), some.length // patch),
        labels=(target,),
        classes=((),),
        values=(np.degrees(np.arctan2(mean[:, 1], mean[:, 0])) % 360)[None],
    )


def _of_channels(view: RecordingView, predictor: Predictor, *, fold: int) -> Embedding | None:
    """Channels of one recording by region, as the network knows them: from position and statistics, not by name."""
    usable = np.flatnonzero(view.usable)
    regions = [view.region[channel] for channel in usable.tolist()]
    classes, values = classes_of(regions)
    if len(classes) < 2 or len(usable) < _LEAST_POINTS:
        return None
    with torch.no_grad():
        identity = predictor.checkpoint.network.identity(predictor.prepare(view).identity[torch.from_numpy(usable)])
    xy, explained = plane(identity.double().numpy())
    return Embedding(
        dataset=view.dataset,
        modality=str(view.modality),
        recording=view.recording,
        fold=fold,
        point="channel",
        explained=explained,
        xy=xy,
        held_out=np.full(len(usable), float(not view.roles.train)),
        labels=("region",),
        classes=(classes,),
        values=values[None],
    )
