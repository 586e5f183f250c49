"""Stage `finetune`: folds' models learn on from real shards, and what a fold holds out stays unseen."""

from __future__ import annotations

import json
import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from ruamel.yaml import YAML

from neurofm.catalog import read_yaml
from neurofm.errors import UserError
from neurofm.params import Params, load_params
from neurofm.recording import Channels, Clock, Modality, Recording, Signal
from neurofm.shards import Provenance, write_shard
from neurofm.splits import Candidate, Splits, make_splits
from neurofm.training.finetuned import finetune_folds
from neurofm.training.predict import Predictor
from neurofm.training.pretrain import pretrain_all_folds
from neurofm.windows import load_views

PROJECT = Path(__file__).resolve().parents[2]
CHILDREN, PARCELS, VOLUMES, WINDOW = 8, 16, 168, 20
PROVENANCE = Provenance(
    archive="local", source_id="x", version="1", files=(), licence="PDDL", citation="x", libraries={}
)
KEYS: dict[str, dict[str, Any]] = {
    "whole": {"folds": [0, 1], "datasets": ["pixar"], "mode": "full", "steps": 24, "learning_rate": 0.005},
    "narrow": {"folds": [1], "datasets": ["pixar"], "mode": "lora", "rank": 2, "steps": 4, "learning_rate": 0.005},
}


class _Lab(NamedTuple):
    root: Path
    params: Params
    splits: Splits

    def learn_on(self, key: str, *, to: Path, shards: Path | None = None) -> dict[str, Any]:
        return finetune_folds(
            self.splits,
            self.params.finetune[key],
            shards=shards or self.root / "data" / "shards",
            settings=self.params.pretrain,
            models=self.root / "models" / "pretrained",
            runs=to / "runs",
            out=to / "out",
        )


def _write_shards(
    folder: Path, shared_data: Path, *, change: Callable[[str, Any], None] = lambda _name, _values: None
) -> list[Candidate]:
    """Write the first parcels of some children watching a film."""
    files = sorted((shared_data / "fmri" / "ds000228_pixar_rois" / "timeseries").glob("*BASC064*.npy"))[:CHILDREN]
    candidates = []
    for file in files:
        name = file.name.partition("_")[0]
        values = np.load(file).astype(np.float64)[:, :PARCELS]
        change(name, values)
        recording = Recording(
            dataset="pixar",
            subject=f"ds000228:{name}",
            session="",
            run="",
            task="pixar",
            species="Homo sapiens",
            modality=Modality.FMRI,
            channels=Channels(
                id=tuple(f"p{number}" for number in range(PARCELS)),
                position=np.full((PARCELS, 3), np.nan),
                position_unit="",
                space="basc-064",
                quality={"usable": np.ones(PARCELS)},
            ),
            clock=Clock(id=name),
            signal=Signal(values=values, sampling_rate_hz=0.5, units="SD"),
        )
        write_shard(recording, provenance=PROVENANCE, path=folder / "pixar" / f"{name}.zarr.zip")
        candidates.append(
            Candidate(
                dataset="pixar",
                recording=name,
                subject=recording.subject,
                modality=Modality.FMRI,
                samples=VOLUMES,
                sampling_rate_hz=0.5,
                support_s=0.0,
            )
        )
    return candidates


@pytest.fixture(scope="module")
def lab(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> _Lab:
    """A project with shards of real children, two folds, and their models of a few steps."""
    root = tmp_path_factory.mktemp("lab")
    params = read_yaml(PROJECT / "params.yaml")
    params |= {
        "datasets": {},
        "streamed": {},
        "local": {"pixar": {"modality": "fmri", "reader": "tables", "path": str(shared_data)}},
        "finetune": KEYS,
    }
    params["windows"]["fmri"] = {"window_samples": WINDOW, "patch_samples": 5}
    params["split"] |= {"folds": 2}
    params["evaluate"]["bootstrap_samples"] = 200
    params["pretrain"] |= {"steps": 6, "batch_windows": 4, "warmup_steps": 2, "validate_every_steps": 6}
    # A core that leaves something to learn.
    params["pretrain"]["core"] |= {"smoothing_samples": [0.0], "ridge": [3.0], "prior_samples": [0.0]}
    params["pretrain"]["model"] |= {"width": 16, "layers": 1, "heads": 2}
    (root / "data" / "catalog").mkdir(parents=True)
    facts = {
        "id": "pixar",
        "title": "x",
        "modality": "fmri",
        "reader": "tables",
        "source": {"archive": "local", "path": str(shared_data)},
        "recordings": {"pattern": "(?P<subject>.+)"},
        "subject_namespace": "ds000228",
        "species": "Homo sapiens",
        "licence": "PDDL",
        "redistribute": True,
        "citation": "x",
    }
    for path, content in (("params.yaml", params), ("data/catalog/pixar.yaml", facts)):
        with (root / path).open("w") as file:
            YAML().dump(content, file)
    told = load_params(root)
    candidates = _write_shards(root / "data" / "shards", shared_data)
    splits = make_splits(candidates, settings=told.split, window_samples=dict.fromkeys(Modality, WINDOW))
    splits.write(root / "data" / "splits.json")
    pretrain_all_folds(
        splits,
        shards=root / "data" / "shards",
        settings=told.pretrain,
        windows=told.windows,
        runs=root / ".neurofm" / "runs",
        out=root / "models" / "pretrained",
        workers=1,
    )
    return _Lab(root, told, splits)


def test_the_stage_writes_better_models_and_scores_them_on_unseen_children(
    lab: _Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(lab.root)
    main = runpy.run_path(str(PROJECT / "stages" / "finetune.py"))["main"]
    main("whole")
    told = json.loads((lab.root / "metrics" / "finetune" / "whole.json").read_text())
    assert (told["mode"], told["datasets"]) == ("full", ["pixar"])
    assert [fold["fold"] for fold in told["folds"]] == [0, 1]
    for fold in told["folds"]:
        assert fold["best_step"] > 0
        before, after = fold["validation"]["before"]["fmri"], fold["validation"]["after"]["fmri"]
        assert after < before < 1
        assert Predictor.load(lab.root / "models" / "finetuned" / "whole" / f"fold-{fold['fold']}")
    score = told["test"]["pixar"]["R2"]
    assert score["n"] == CHILDREN
    assert score["split"] == "2-fold by subject"
    assert score["null"]["value"] < score["neurofm"]["value"] < 1
    assert score["null"]["value"] < score["ridge"]["value"] < 1
    finetuned = score["neurofm-finetuned"]
    assert finetuned["ci_low"] < finetuned["value"] < finetuned["ci_high"]
    assert finetuned["value"] != score["neurofm"]["value"]


def test_what_a_fold_holds_out_changes_no_byte(lab: _Lab, shared_data: Path, tmp_path: Path) -> None:
    fold = KEYS["narrow"]["folds"][0]
    held_out = {entry.recording: entry for entry in lab.splits.folds[fold].recordings if entry.test}
    assert held_out

    def poison(name: str, values: Any) -> None:
        if name in held_out:
            for segment in held_out[name].test:
                values[segment.start : segment.stop] = -7.0

    _write_shards(tmp_path / "shards", shared_data, change=poison)
    lab.learn_on("narrow", to=tmp_path / "clean")
    lab.learn_on("narrow", to=tmp_path / "poisoned", shards=tmp_path / "shards")
    views = [load_views(lab.splits, fold=fold, shards=at) for at in (lab.root / "data" / "shards", tmp_path / "shards")]
    assert any(not np.array_equal(one.stored[:], other.stored[:]) for one, other in zip(*views, strict=True))
    for name in ("model.safetensors", "statistics.safetensors", "config.json"):
        one, other = ((tmp_path / part / "out" / f"fold-{fold}" / name) for part in ("clean", "poisoned"))
        assert one.read_bytes() == other.read_bytes(), name


def test_a_fold_that_may_learn_nothing_is_named(lab: _Lab, tmp_path: Path) -> None:
    absent = lab.params.finetune["narrow"].model_copy(update={"datasets": ("others",)})
    lab.params.finetune["absent"] = absent
    with pytest.raises(UserError, match="in fold 1 nothing may be learned from others"):
        lab.learn_on("absent", to=tmp_path)
