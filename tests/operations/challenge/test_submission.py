"""A submission is fitted, packed, checked in a clean process, and predicts what is held out, as people type it."""

from __future__ import annotations

import csv
import json
import time
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from typer.testing import CliRunner, Result

from neurofm.cli import app
from neurofm.errors import UserError
from neurofm.evaluation.challenge import TARGETS, nrmse
from neurofm.model.settings import ModelSettings
from neurofm.model.whole_channels import network_of
from neurofm.operations.challenge.check import run
from neurofm.operations.challenge.clean import CHANNELS, RATE_HZ, SAMPLES, _batches, _Failed
from neurofm.operations.challenge.contract import CHANNELS as OUR_CHANNELS
from neurofm.operations.challenge.contract import RATE_HZ as OUR_RATE_HZ
from neurofm.operations.challenge.contract import SAMPLES as OUR_SAMPLES
from neurofm.operations.challenge.contract import WEIGHTS
from neurofm.operations.challenge.encoder import Regressor, WindowEncoder
from neurofm.operations.challenge.examples import Role, challenge_recordings, examples
from neurofm.operations.challenge.fitting import fitting, read_splits
from neurofm.operations.challenge.package import packed, submission_source
from neurofm.operations.challenge.program import program
from neurofm.recording import Modality
from neurofm.splits import Fold, Segment
from neurofm.training.predict import Predictor
from neurofm.windows import load_view
from tests.operations.hydrocel import TASK_TEST, HydroCel


def _typed(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["challenge", *arguments])


def _refused(*arguments: str) -> str:
    error = _typed(*arguments).exception
    assert isinstance(error, UserError)
    return str(error)


@pytest.fixture(scope="module")
def submission(hydrocel: HydroCel) -> Path:
    where = ["--model", hydrocel.model, "--splits", hydrocel.splits, "--shards", hydrocel.shards]
    out = hydrocel.root / "submission.zip"
    said = _typed("package", "--out", str(out), *map(str, where))
    assert said.exit_code == 0, said.output
    assert "externalizing: fitted on 60 windows of 3 subjects" in said.output
    return out


def test_it_is_what_the_organisers_want(submission: Path) -> None:
    with zipfile.ZipFile(submission) as archive:
        assert archive.namelist() == ["submission.py", "weights_challenge_1.pt", "weights_challenge_2.pt"]
    said = _typed("check", str(submission))
    assert said.exit_code == 0, said.output
    lines = said.output.splitlines()
    assert {line.split()[0] for line in lines} == {"ok"}
    assert sum("(B, 129, 200) -> (B, 1), all finite" in line for line in lines) == 2
    assert lines[-1].endswith("beside torch and numpy: none")
    assert (CHANNELS, RATE_HZ, SAMPLES) == (OUR_CHANNELS, OUR_RATE_HZ, OUR_SAMPLES)


def test_held_out_people_change_nothing(submission: Path, hydrocel: HydroCel, tmp_path: Path) -> None:
    """Fitted where there is no test segment at all, the read-outs say what the programs in the zip say."""
    splits = read_splits(hydrocel.splits)
    known = tuple(
        one.model_copy(update={"test": ()}) for one in splits.folds[0].recordings if one.train or one.validation
    )
    splits.model_copy(update={"folds": (Fold(recordings=known),)}).write(tmp_path / "splits.json")
    on = fitting(hydrocel.model, splits=tmp_path / "splits.json", shards=hydrocel.shards, fold=0)
    (part,) = examples(on.entries[-1:], "response_time", shards=hydrocel.shards, roles=["validation"])
    with zipfile.ZipFile(submission) as archive:
        assert archive.read("submission.py") == submission_source()
        for challenge, target in TARGETS.items():
            head = on.fit(target).head
            with torch.inference_mode():
                said = _loaded(archive, WEIGHTS[challenge])(torch.from_numpy(part.windows))[:, 0].numpy()
            wanted = np.clip(on.encode(part) @ head.weight + head.bias, head.low, head.high)
            np.testing.assert_allclose(said, wanted, rtol=1e-5, atol=1e-5)
            assert np.std(said) > 0


def _loaded(archive: zipfile.ZipFile, name: str) -> Any:
    with archive.open(name) as file:
        load: Any = torch.jit.load
        return load(file)


def test_its_predictions_of_held_out_people_are_scored(submission: Path, hydrocel: HydroCel) -> None:
    table = hydrocel.root / "predictions.csv"
    where = ["--splits", str(hydrocel.splits), "--shards", str(hydrocel.shards)]
    said = _typed("predict", str(submission), "--out", str(table), *where)
    assert said.exit_code == 0, said.output
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    entries = challenge_recordings(read_splits(hydrocel.splits), fold=0, shards=hydrocel.shards)
    parts = [*examples(entries, "response_time", shards=hydrocel.shards, roles=["test"])]
    with zipfile.ZipFile(submission) as archive, torch.inference_mode():
        wanted = _loaded(archive, "weights_challenge_1.pt")(torch.from_numpy(parts[0].windows))[:, 0].numpy()
    first = [row for row in rows if row["target"] == "response_time"]
    np.testing.assert_allclose([float(row["predicted"]) for row in first], wanted, rtol=1e-4)
    np.testing.assert_allclose([float(row["truth"]) for row in first], parts[0].truth)
    assert len(first) == 18
    assert {row["subject"] for row in first} == {"lab:later"}, "none of whom is split in time"
    assert {row["subject"] for row in rows if row["target"] == "externalizing"} == {"lab:19", "lab:24"}

    scored = _typed("score", str(table)).output.splitlines()
    truth, predicted = ([float(row[name]) for row in first] for name in ("truth", "predicted"))
    assert f"{nrmse(np.array(truth), np.array(predicted)):.4f}" in scored[1]
    assert scored[-1].startswith("overall")
    (hydrocel.root / "broken.csv").write_text("target,subject,truth,predicted\nresponse_time,a,0.4,nan\n")
    assert "line 2" in _refused("score", str(hydrocel.root / "broken.csv"))


def test_windows_are_cut_where_the_answers_are(hydrocel: HydroCel) -> None:
    entries = challenge_recordings(read_splits(hydrocel.splits), fold=0, shards=hydrocel.shards)
    (part,) = examples(entries, "response_time", shards=hydrocel.shards, roles=["test"])
    view = load_view(hydrocel.shard("task-later"))
    target = view.targets["response_time"][:, 0]
    for window, truth, start_s in zip(part.windows, part.truth, part.start_s, strict=True):
        first = round(start_s * RATE_HZ)
        assert first >= TASK_TEST
        np.testing.assert_array_equal(target[first : first + SAMPLES], np.float32(truth))
        assert np.isnan(target[first - 1])
        np.testing.assert_array_equal(window, view.values(first, first + SAMPLES).T)


def test_features_are_those_of_the_model_itself(hydrocel: HydroCel) -> None:
    """A recording that is one window long is described by that window: then both encode the same."""
    predictor = Predictor.load(hydrocel.model)
    view = load_view(hydrocel.shard("rest-19"))
    encoder = _encoder(predictor, hydrocel)
    z = view.z(0, SAMPLES)
    context = predictor.prepare(view)
    usable = torch.from_numpy(np.flatnonzero(view.usable))
    assert len(usable) == 128, "the reference is flat"
    encoder.identity.copy_(context.identity)
    window = torch.from_numpy(z.T.copy())[None]
    features = encoder(window)[0].detach()
    sd = z.std(axis=0)
    standard = np.where(sd > 0, (z - z.mean(axis=0)) / np.where(sd > 0, sd, 1), 0).astype(np.float32)
    everyone = replace(view, normaliser=replace(view.normaliser, usable=np.ones(CHANNELS, dtype=bool)))
    latents = predictor.encode(everyone, standard[None])[0, :, :16]
    np.testing.assert_allclose(features[:16], latents.mean(axis=0), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(features[48:64], latents.std(axis=0), rtol=1e-4, atol=1e-5)


def _encoder(predictor: Predictor, hydrocel: HydroCel, network: Any = None) -> WindowEncoder:
    context = predictor.prepare(load_view(hydrocel.shard("rest-19")))
    return WindowEncoder(
        network or predictor.checkpoint.network, identity=context.identity, core=context.core, patch_samples=20
    ).eval()


def test_all_factors_of_held_out_people_are_scored(hydrocel: HydroCel) -> None:
    table = hydrocel.root / "factors.csv"
    where = ["--model", hydrocel.model, "--splits", hydrocel.splits, "--shards", hydrocel.shards, "--out", table]
    said = _typed("factors", *map(str, where))
    assert said.exit_code == 0, said.output
    rows = list(csv.DictReader(table.open(encoding="utf-8")))
    assert {(row["target"], row["subject"]) for row in rows} == {
        (name, subject) for name in ("externalizing", "p_factor") for subject in ("lab:19", "lab:24")
    }, "only these two are known here"
    assert all(-1 <= float(row["predicted"]) <= 1 for row in rows if row["target"] == "p_factor"), "none beyond train"
    lines = [line.split() for line in _typed("score", str(table)).output.splitlines()]
    assert [line[:2] for line in lines if line[0] == "p_factor"] == [
        ["p_factor", "nrmse"],
        ["p_factor", "pearson_r"],
        ["p_factor", "auroc"],
    ]


def test_where_all_are_split_in_time_nobody_is_held_out(submission: Path, hydrocel: HydroCel, tmp_path: Path) -> None:
    """One person's externalizing is learned and would be scored: what is learned has no answer for that."""
    splits = read_splits(hydrocel.splits)
    spans = {
        "calibration": (Segment(start=0, stop=1000),),
        "train": (Segment(start=0, stop=1000),),
        "validation": (Segment(start=1400, stop=2000),),
        "test": (Segment(start=2400, stop=3400),),
    }
    timed = tuple(one.model_copy(update={"kind": "time", **spans}) for one in splits.folds[0].recordings)
    splits.model_copy(update={"folds": (Fold(recordings=timed),)}).write(tmp_path / "splits.json")
    wanted: list[tuple[str, Role, int]] = [
        ("externalizing", "train", 6),
        ("externalizing", "validation", 0),
        ("externalizing", "test", 0),
        ("response_time", "validation", 2),
        ("response_time", "test", 0),
    ]
    for target, role, found in wanted:
        assert len([*examples(timed, target, shards=hydrocel.shards, roles=[role])]) == found, (target, role)
    where = ["--splits", str(tmp_path / "splits.json"), "--shards", str(hydrocel.shards)]
    out = ["--out", str(tmp_path / "no.csv")]
    for said in (
        _refused("predict", str(submission), *out, *where),
        _refused("factors", "--model", str(hydrocel.model), *out, *where),
    ):
        assert "fold 0 holds nobody out with " in said
        assert "Mend: give another --fold, or take as many people as `split.min_subjects`" in said
    assert not (tmp_path / "no.csv").exists()


def test_a_model_that_has_met_who_is_held_out_is_refused(hydrocel: HydroCel, tmp_path: Path) -> None:
    splits = read_splits(hydrocel.splits)
    turned = [
        one.model_copy(update={"train": one.test, "test": one.train}) if one.kind == "subject" else one
        for one in splits.folds[0].recordings
    ]
    splits.model_copy(update={"folds": (Fold(recordings=tuple(turned)),)}).write(tmp_path / "splits.json")
    where = ["--model", hydrocel.model, "--splits", tmp_path / "splits.json", "--shards", hydrocel.shards]
    said = _refused("package", *map(str, where), "--out", str(tmp_path / "no.zip"))
    assert "has learned from 3 of 3 subjects that fold 0 holds out, as lab:00" in said
    assert "Mend: give the --fold" in said


def test_a_unit_makes_no_difference(hydrocel: HydroCel) -> None:
    view = load_view(hydrocel.shard("rest-24"))
    window = torch.from_numpy(view.values(0, SAMPLES).T.copy())[None]
    encoder = _encoder(Predictor.load(hydrocel.model), hydrocel)
    torch.testing.assert_close(encoder(window), encoder(window * 1e-6), rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("backbone", "readout"), [("transformer", "popt"), ("gru", "pairs"), ("mamba2", "pairs"), ("mamba2", "popt")]
)
def test_every_network_becomes_a_program_for_any_device(hydrocel: HydroCel, backbone: str, readout: str) -> None:
    parts = {"pooling": "slots", "slots": 2, "tokens": "modality", "popt_layers": 1} if readout == "popt" else {}
    plain = {"backbone": backbone, "width": 8, "layers": 1, "heads": 2, "dropout": 0.1, "readout": readout}
    torch.manual_seed(0)
    network = network_of(
        ModelSettings.parse({**plain, **parts}, where="model", mend=""), patch_samples=dict.fromkeys(Modality, 20)
    )
    encoder = _encoder(Predictor.load(hydrocel.model), hydrocel, network)
    features = 2 * (8 + 32) + CHANNELS
    model = Regressor(encoder, weight=torch.linspace(-1, 1, features), bias=0.3, low=-50.0, high=50.0)
    made = program(model, channels=CHANNELS, samples=SAMPLES)
    at = hydrocel.root / f"{backbone}-{readout}.pt"
    at.write_bytes(made)
    load: Any = torch.jit.load
    traced = load(str(at))
    assert "Device = prim::Constant" not in str(traced.inlined_graph), "everything is made where the windows are"
    batch = torch.randn(4, CHANNELS, SAMPLES, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        torch.testing.assert_close(traced(batch), model(batch), rtol=1e-4, atol=1e-4)


def test_a_model_of_other_channels_is_refused_in_a_line(hydrocel: HydroCel, tmp_path: Path) -> None:
    other = tmp_path / "model"
    other.mkdir()
    for path in hydrocel.model.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    config = json.loads((other / "config.json").read_text())
    for one in config["acquisitions"]:
        one["channels"] = 19
    (other / "config.json").write_text(json.dumps(config))
    where = ["--splits", str(hydrocel.splits), "--shards", str(hydrocel.shards), "--out", str(tmp_path / "no.zip")]
    said = _refused("package", "--model", str(other), *where)
    assert "has learned from 19 channels at 100 Hz, and the challenges are 129 channels at 100 Hz" in said
    assert "Mend: take HBN recordings: add hbn-r1" in said
    assert "\n" not in said
    assert not (tmp_path / "no.zip").exists()
    assert "not a readable model" in _refused("package", "--model", str(tmp_path / "none"), *where)


HEAD = b"import torch\nclass M(torch.nn.Module):\n    def forward(self, x):\n        return %s\n"
REST = (
    b"class Submission:\n    def __init__(self, SFREQ, DEVICE):\n        pass\n"
    b"    def get_model_challenge_1(self):\n        return M()\n    get_model_challenge_2 = get_model_challenge_1\n"
)


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (
            b"try:\n    import neurofm\nexcept ModuleNotFoundError:\n    pass\nelse:\n    raise SystemExit(3)\n"
            b"import socket\ntry:\n    socket.create_connection(('10.0.0.1', 80))\nexcept OSError:\n    pass\n"
            + HEAD % b"x.mean((1, 2)).unsqueeze(1)"
            + REST,
            "asked for the network: socket.",
        ),
        (b"import os\nos._exit(7)\n", "ended with code 7"),
    ],
    ids=["asks for ours and the network, quietly", "dies"],
)
def test_what_fails_is_said_with_its_mend(tmp_path: Path, source: bytes, said: str) -> None:
    path = tmp_path / "submission.zip"
    path.write_bytes(packed({"submission.py": source}))
    result = _typed("check", str(path))
    assert result.exit_code == 2, result.output
    assert said in result.output
    assert "Mend: " in result.output
    assert sum(line.startswith("FAILED") for line in result.output.splitlines()) == 1


def test_a_child_that_is_left_behind_keeps_nothing_waiting(tmp_path: Path) -> None:
    """It has the submission's standard output, and is ended with it."""
    source = (
        b"import subprocess\nchild = subprocess.Popen(['sleep', '300'])\n"
        b"open('../child', 'w').write(str(child.pid))\nprint('gone', flush=True)\nimport os\nos._exit(7)\n"
    )
    path, at = tmp_path / "submission.zip", tmp_path / "at"
    path.write_bytes(packed({"submission.py": source}))
    at.mkdir()
    last = run(path, at, limit_s=60)[-1]
    assert (last.passed, last.said) == (False, "ended with code 7: gone")
    child = int((at / "child").read_text())
    for _ in range(200):
        if not _alive(child):
            break
        time.sleep(0.05)  # a signal takes a moment
    assert not _alive(child)


def _alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_who_takes_too_long_is_ended(tmp_path: Path) -> None:
    path, at = tmp_path / "submission.zip", tmp_path / "at"
    path.write_bytes(packed({"submission.py": b"import time\nprint('here', flush=True)\ntime.sleep(300)\n"}))
    at.mkdir()
    last = run(path, at, limit_s=0.5)[-1]
    assert (last.passed, last.said) == (False, "took longer than 0.5 s: it said nothing")


class _Formula(torch.nn.Module):
    def __init__(self, formula: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.formula = formula

    def forward(self, x: Tensor) -> Any:
        return self.formula(x)


@pytest.mark.parametrize(
    ("formula", "said"),
    [
        (lambda x: x.mean((1, 2)), "gave (1,)"),
        (lambda x: (x / x.std((1, 2), keepdim=True)).mean((1, 2)).unsqueeze(1), "of windows that are 0 throughout"),
        (lambda x: 1e9 * (x - x.mean(0)).mean((1, 2)).unsqueeze(1), "alone and"),
        (lambda x: x.tolist(), "returned list"),
    ],
    ids=["shape", "flat window", "batch", "no tensor"],
)
def test_batches_find_what_is_wrong(formula: Callable[[Tensor], Any], said: str) -> None:
    with pytest.raises(_Failed) as failed:
        _batches(_Formula(formula), torch.device("cpu"), seed=1)
    assert said in failed.value.args[0]
    assert failed.value.args[1]
