"""`neurofm latency` on real EEG: what it prints and writes, and what a number format costs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from neurofm.cli import app
from neurofm.errors import UserError
from neurofm.model.core import LinearCore
from neurofm.operations.challenge.fitting import read_splits
from neurofm.operations.latency.heldout import halved_view, held_out, split_views
from neurofm.operations.latency.measure import measure
from neurofm.operations.latency.precision import PRECISIONS, bytes_of, in_precision
from neurofm.recording import Modality
from neurofm.splits import Fold
from neurofm.training.contexts import moments_of
from neurofm.training.predict import Predictor
from tests.operations.hydrocel import TASK_TEST, HydroCel

CPU = torch.device("cpu")


def _typed(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["latency", *arguments])


def test_it_is_printed_and_written(hydrocel: HydroCel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(hydrocel.root)
    before = torch.get_num_threads()
    said = _typed("--windows", "4", "--out", "latency.json")
    assert said.exit_code == 0, said.output
    assert said.output.startswith("at most 4 windows a recording in 4 precisions, 1 CPU thread: seconds")
    made = json.loads(Path("latency.json").read_text())
    assert (made["windows"], made["threads"], made["warm_up"]) == (4, 1, 5)
    rows = {row["precision"]: row for row in made["rows"] if row["device"] == "cpu"}
    assert list(rows) == ["fp32", "bf16", "fp16", "int8"]
    assert {row["recording"] for row in rows.values()} == {"net/rest-19"}, "the first that is held out"
    for row in rows.values():
        assert 0 < row["p50_ms"] <= row["p95_ms"]
        assert row["why_not"] == ""
    assert set(made["core_p50_ms"]) == {"net/rest-19"}
    assert torch.get_num_threads() == before
    assert made["held_out"] is True
    assert "only compares formats" not in said.output
    given = _typed("--windows", "1", "--shard", str(hydrocel.shard("rest-00")))
    assert given.exit_code == 0, given.output
    assert "masked R2 only compares formats" in given.output


def test_windows_are_of_test_segments_and_the_prior_is_without_the_recording(hydrocel: HydroCel) -> None:
    """Of a recording that is split in time: nothing that was trained on is asked for."""
    splits = read_splits(hydrocel.splits)
    timed = tuple(one for one in splits.folds[0].recordings if one.kind == "time")
    alone = splits.model_copy(update={"folds": (Fold(recordings=timed),)})
    predictor = Predictor.load(hydrocel.model)
    (view,) = split_views(alone, fold=0, shards=hydrocel.shards, modalities=[Modality.EEG])
    held = held_out(view, predictor, windows=3)
    assert view.roles.calibration == view.roles.train == timed[0].train
    at = [int(number) for number in np.linspace(0, (len(view.stored) - TASK_TEST) // 200 - 1, 3).round()]
    for row, number in enumerate(at):
        first = TASK_TEST + 200 * number
        z = torch.from_numpy(view.z(first, first + 200))
        shown = held.batches[0].seen.values[row].T
        assert all((column == z.T).all(dim=1).any() for column in shown)
    core = predictor.prepare(view).core
    own = moments_of(view, view.roles.train, sds_samples=core.settings.smoothing_samples)
    prior = predictor.checkpoint.priors[view.channel_set]
    assert torch.equal(core.ss, LinearCore.fit(own, prior - own, settings=core.settings).ss)
    assert not torch.allclose(core.ss, LinearCore.fit(own, prior, settings=core.settings).ss)


def test_what_a_precision_costs(hydrocel: HydroCel) -> None:
    predictor = Predictor.load(hydrocel.model)
    held = held_out(halved_view(hydrocel.shard("rest-24")), predictor, windows=4)
    rows = measure(predictor.checkpoint.network, held, device=CPU, advance=lambda: None)
    fp32, bf16, fp16, int8 = rows
    assert fp32.difference == 0
    assert bf16.difference is not None
    assert fp16.difference is not None
    assert int8.difference is not None
    assert 0 < fp16.difference < bf16.difference < 0.05
    assert 0 < int8.difference < 0.2
    assert all(row.r2 == pytest.approx(fp32.r2, abs=0.05) for row in rows)
    assert fp32.megabytes is not None
    assert fp16.megabytes is not None
    assert 1.5 < fp32.megabytes / fp16.megabytes < 2.1


def test_its_r2_is_that_of_the_whole_model(hydrocel: HydroCel) -> None:
    """The answers in fp32 are those of `Predictor.predict`, and the network moves them."""
    predictor = Predictor.load(hydrocel.model)
    held = held_out(halved_view(hydrocel.shard("rest-24")), predictor, windows=2)
    batch, visible = held.batches[0], held.batches[0].seen
    with torch.no_grad():
        residuals = [predictor.checkpoint.network(one.seen, one.query) for one in held.batches]
    answers = held.answers(residuals)
    usable = torch.from_numpy(held.view.usable.nonzero()[0])
    first = held.view.roles.calibration[-1].stop
    z = torch.from_numpy(held.view.z(first, first + 200))
    shown = [
        index for index in usable.tolist() if any(torch.equal(z[:, index], column) for column in visible.values[0].T)
    ]
    hidden = [index for index in usable.tolist() if index not in shown]
    said = predictor.predict(
        held.view, visible.values.numpy(), torch.tensor(shown).numpy(), torch.tensor(hidden).numpy()
    )
    torch.testing.assert_close(answers[0], torch.from_numpy(said), rtol=1e-5, atol=1e-5)
    assert not torch.equal(answers[0], batch.linear)


def test_a_format_that_a_device_does_not_have_says_so(hydrocel: HydroCel, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor.load(hydrocel.model)
    held = held_out(halved_view(hydrocel.shard("rest-24")), predictor, windows=1)

    def none(*arguments: object, **more: object) -> None:
        raise RuntimeError("no kernel for int8 here\nand a traceback")

    monkeypatch.setattr(torch.ao.quantization, "quantize_dynamic", none)
    rows = measure(predictor.checkpoint.network, held, device=CPU, advance=lambda: None)
    assert [row.why_not for row in rows] == ["", "", "", "no kernel for int8 here"]
    assert rows[3].p50_ms is None


def test_int8_is_smaller_where_there_is_something_to_shrink() -> None:
    network = torch.nn.Sequential(torch.nn.Linear(512, 512))
    sizes = {one.name: bytes_of(in_precision(network, one, device=CPU)) for one in PRECISIONS}
    assert 3 < sizes["fp32"] / sizes["int8"] < 4.1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--windows", "0"], "--windows is 0"),
        (["--threads", "0"], "--threads is 0"),
        (["--fold", "3"], "fold 3"),
        (["--shard", "none.zarr.zip"], "none.zarr.zip"),
    ],
)
def test_mistakes_are_a_line(
    hydrocel: HydroCel, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    monkeypatch.chdir(hydrocel.root)
    error = _typed(*arguments).exception
    assert isinstance(error, UserError)
    assert said in str(error)
