"""Tolerances: what may differ where, on a real shard whose signal is changed by a known amount."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from neurofm.evaluation.row import Row
from neurofm.files import sha256_of
from neurofm.operations.certify.finding import Finding, Part, Status, Verdict, verdict_of
from neurofm.operations.certify.scores import allowed_difference, compare_slices
from neurofm.operations.certify.shards import compare_receipts, judge_shard
from neurofm.preprocess import Common, preprocess_recording
from neurofm.preprocess.eeg import ModalitySettings
from neurofm.recording import EventColumn, Events, Modality, Recording, Signal, Target, UnitStatus
from neurofm.shards import Provenance, write_shard
from neurofm.slices.machine import Machine
from neurofm.slices.result import SliceRecording, SliceResult
from neurofm.units import Receipt, write_receipts
from tests.pictures import film_of, stimulus_of

PROVENANCE = Provenance(
    archive="registry", source_id="mne", version="1", files=(), licence="BSD", citation="-", libraries={"mne": "1.13"}
)


@pytest.fixture(scope="module")
def recording(sample_recording: Callable[..., Recording]) -> Recording:
    settings = ModalitySettings(highpass_hz=1.0, lowpass_hz=40.0, rate_hz=100.0, amplitude_limit_uv=500.0)
    common = Common(max_nan_fraction=0.2, min_valid_fraction=0.5, max_target_gap_s=0.5)
    return preprocess_recording(sample_recording("mne-sample-eeg"), settings=settings, common=common)


def changed(recording: Recording, *, by_sd: float) -> Recording:
    """Return the recording with all samples of one channel moved."""
    assert recording.signal is not None
    values = np.array(recording.signal.values, dtype=np.float64)
    values[:, 3] += by_sd * values[:, 3].std()
    return replace(recording, signal=Signal(**vars(recording.signal) | {"values": values}))


@pytest.mark.parametrize(
    ("by_sd", "exact", "status"),
    [
        (0.0, True, Status.EQUAL),
        (5e-4, False, Status.WITHIN),
        (5e-4, True, Status.DIFFERS),
        (0.1, False, Status.DIFFERS),
    ],
)
def test_a_channel_may_move_a_little_on_another_kind_of_machine(
    recording: Recording, tmp_path: Path, *, by_sd: float, exact: bool, status: Status
) -> None:
    kept, made = tmp_path / "kept.zarr.zip", tmp_path / "made.zarr.zip"
    write_shard(recording, provenance=PROVENANCE, path=kept)
    write_shard(changed(recording, by_sd=by_sd), provenance=PROVENANCE, path=made)
    found = judge_shard(kept, made, reference_sha256=sha256_of(kept), exact=exact, name="eeg/one")
    assert found.status is status
    if by_sd:
        measured = re.search(r"mean difference ([\d.e-]+) SD", found.detail)
        assert measured is not None
        assert float(measured[1]) == pytest.approx(by_sd, rel=0.3)


def test_what_is_not_rounded_may_not_differ_anywhere(recording: Recording, tmp_path: Path, shared_data: Path) -> None:
    kept, made = tmp_path / "kept.zarr.zip", tmp_path / "made.zarr.zip"
    valid = np.ones(len(recording.signal.values), dtype=np.bool_) if recording.signal is not None else np.ones(0)
    n = len(recording.channels)
    time_s = np.arange(20.0)
    samples = np.arange(float(len(valid)))
    target = Target(values=np.ones((len(valid), 1)), unit="cm", columns=("x",), time_s=samples)
    columns: dict[str, EventColumn] = {"code": np.append(np.arange(19.0), np.nan), "answer": ("yes",) * 20}
    events = Events(onset_s=time_s, duration_s=np.ones(20), label=("a",) * 20, columns=columns)
    seen = stimulus_of(film_of(shared_data, frames=20), samples)
    inverted = replace(seen, frames=255 - seen.frames)
    assert recording.signal is not None
    moved = changed(recording, by_sd=0.1).signal
    assert moved is not None
    recording = replace(
        recording,
        channels=replace(recording.channels, region=("CA1",) * n, quality={"snr": np.arange(1.0, n + 1)}),
        targets={"position": target},
        noise={"fd": target},
        extra_signals={"uncleaned": recording.signal},
        events=events,
        stimulus=seen,
    )
    write_shard(recording, provenance=PROVENANCE, path=kept)
    for other, said in (
        (replace(recording, channels=replace(recording.channels, region=("V1",) * n)), "in other regions"),
        (replace(recording, channels=replace(recording.channels, space="CCF")), "in another space"),
        (replace(recording, channels=replace(recording.channels, quality={"snr": np.ones(n)})), "channels' quality"),
        (replace(recording, targets={"position": replace(target, unit="m")}), "targets differ"),
        (replace(recording, targets={"position": replace(target, columns=("y",))}), "targets differ"),
        (replace(recording, events=replace(events, duration_s=np.full(20, 99.0))), "events differ"),
        (replace(recording, noise={"fd": replace(target, values=0 * target.values)}), "measured noise differs"),
        (replace(recording, extra_signals={}), "signals beside the signal differ"),
        (replace(recording, extra_signals={"uncleaned": moved}), "signals beside the signal differ"),
        (replace(recording, events=replace(events, onset_s=time_s + 0.001)), "events differ"),
        (replace(recording, events=None), "events differ"),
        (replace(recording, events=replace(events, columns={})), "events differ"),
        (replace(recording, events=replace(events, columns=columns | {"code": np.arange(20.0)})), "events differ"),
        (replace(recording, events=replace(events, columns=columns | {"answer": ("no",) * 20})), "events differ"),
        (replace(recording, events=replace(events, columns=columns | {"code": ("yes",) * 20})), "events differ"),
        (replace(recording, stimulus=None), "frames shown"),
        (replace(recording, stimulus=inverted), "frames shown"),
        (replace(recording, stimulus=replace(seen, shown=np.roll(seen.shown, 1))), "frames shown"),
        (replace(recording, subject="mne-sample:somebody-else"), "attribute subject differs"),
        (replace(recording, valid=np.arange(len(valid)) % 10 > 0), "of samples marked otherwise"),
    ):
        write_shard(other, provenance=PROVENANCE, path=made)
        found = judge_shard(kept, made, reference_sha256=sha256_of(kept), exact=False, name="eeg/one")
        assert found.status is Status.DIFFERS
        assert said in found.detail


def test_libraries_and_measured_quality_may_differ_elsewhere(recording: Recording, tmp_path: Path) -> None:
    kept, made = tmp_path / "kept.zarr.zip", tmp_path / "made.zarr.zip"
    write_shard(recording, provenance=PROVENANCE, path=kept)
    quality = {**recording.quality, "edge_s": 1.65081}
    libraries = replace(PROVENANCE, libraries={"mne": "1.14"})
    write_shard(replace(recording, quality=quality), provenance=libraries, path=made)
    found = judge_shard(kept, made, reference_sha256=sha256_of(kept), exact=False, name="eeg/one")
    assert found.status is Status.WITHIN
    assert "equal samples" in found.detail


def test_a_shard_that_is_no_original_is_no_measure(recording: Recording, tmp_path: Path) -> None:
    kept, made = tmp_path / "kept.zarr.zip", tmp_path / "made.zarr.zip"
    write_shard(recording, provenance=PROVENANCE, path=kept)
    write_shard(changed(recording, by_sd=5e-4), provenance=PROVENANCE, path=made)
    digest = sha256_of(kept)
    kept.write_bytes(kept.read_bytes()[:-100])
    found = judge_shard(kept, made, reference_sha256=digest, exact=False, name="eeg/one")
    assert found.status is Status.DIFFERS
    assert "the shard that is kept is not the original either" in found.detail


def test_receipts_name_the_shard_that_is_another(recording: Recording, tmp_path: Path) -> None:
    shards = tmp_path / "data" / "shards" / "eeg"
    for name in ("one", "two"):
        write_shard(recording, provenance=PROVENANCE, path=shards / f"{name}.zarr.zip")
    receipts = [
        Receipt(
            unit=name,
            key="k",
            status=UnitStatus.SUCCEEDED,
            outputs={f"{name}.zarr.zip": sha256_of(shards / f"{name}.zarr.zip")},
        )
        for name in ("one", "two")
    ]
    write_receipts(tmp_path / "data" / "receipts" / "eeg.jsonl", receipts)
    (found,) = compare_receipts(["eeg"], root=tmp_path)
    assert found.status is Status.EQUAL
    (shards / "two.zarr.zip").write_bytes(b"")
    (shards / "three.zarr.zip").write_bytes(b"")
    (found,) = compare_receipts(["eeg"], root=tmp_path)
    assert found.status is Status.DIFFERS
    assert found.detail == "not what the receipts say: three.zarr.zip (in no receipt), two.zarr.zip"


def row(model: str, value: float, *, half_width: float = 0.02, n: int = 5) -> Row:
    return Row(
        dataset="rest",
        modality="fmri",
        task="masked_reconstruction",
        metric="R2",
        unit="share of variance",
        higher_is_better=True,
        split="1-fold by subject",
        model=model,
        seed=1,
        value=value,
        null=0.0,
        ci_low=value - half_width,
        ci_high=value + half_width,
        ci_unit="subject",
        n=n,
    )


def result(*rows: Row, cut: str = "c", splits: str = "s", weights: str = "w") -> SliceResult:
    return SliceResult(
        made_on=Machine(processor={"machine": "x86_64"}, libraries={}),
        recordings=(
            SliceRecording(
                modality=Modality.FMRI,
                dataset="rest",
                recording="one",
                seconds=300.0,
                samples=150,
                of_samples=355,
                shard_sha256="f",
                slice_sha256=cut,
            ),
        ),
        not_scored={},
        splits_sha256=splits,
        models={"fold-0/model.safetensors": weights},
        scores=rows,
    )


def compared(reference: SliceResult, rebuilt: SliceResult, *, shard: Status, exact: bool) -> dict[Part, Finding]:
    shards = [Finding(part=Part.SHARD, item="rest/one", status=shard)]
    return {one.part: one for one in compare_slices(reference, rebuilt, shards=shards, exact=exact)}


def test_equal_slices_are_equal_on_any_machine() -> None:
    for exact in (True, False):
        found = compared(result(row("neurofm", 0.5)), result(row("neurofm", 0.5)), shard=Status.EQUAL, exact=exact)
        assert {one.status for one in found.values()} == {Status.EQUAL}


def test_a_score_has_a_tolerance_on_another_kind_of_machine_only() -> None:
    reference, near, far = (result(row("neurofm", value)) for value in (0.5, 0.509, 0.511))
    assert allowed_difference(reference.scores[0]) == 0.01
    assert compared(reference, near, shard=Status.EQUAL, exact=False)[Part.SCORE].status is Status.WITHIN
    assert compared(reference, near, shard=Status.EQUAL, exact=True)[Part.SCORE].status is Status.DIFFERS
    found = compared(reference, far, shard=Status.EQUAL, exact=False)[Part.SCORE]
    assert found.status is Status.DIFFERS
    assert found.detail == "differs by 0.011"
    wide = row("neurofm", 0.5, half_width=0.3)
    assert allowed_difference(wide) == pytest.approx(0.03)


def test_other_subjects_or_another_row_are_no_rounding() -> None:
    reference = result(row("neurofm", 0.5))
    fewer = compared(reference, result(row("neurofm", 0.5, n=4)), shard=Status.EQUAL, exact=False)
    assert fewer[Part.SCORE].status is Status.DIFFERS
    gone = list(compare_slices(reference, result(row("other", 0.5)), shards=[], exact=False))
    assert [one.detail for one in gone if one.part is Part.SCORE] == [
        "there is no such score any more",
        "the original run has no such score",
    ]


def test_a_cut_follows_its_shard_and_a_split_follows_nothing() -> None:
    reference = result()
    for shard, status in (
        (Status.WITHIN, Status.WITHIN),
        (Status.EQUAL, Status.DIFFERS),
        (Status.DIFFERS, Status.DIFFERS),
    ):
        assert compared(reference, result(cut="other"), shard=shard, exact=False)[Part.CUT].status is status
    assert compared(reference, result(splits="other"), shard=Status.WITHIN, exact=False)[Part.SPLIT].status is (
        Status.DIFFERS
    )
    for exact, status in ((True, Status.DIFFERS), (False, Status.WITHIN)):
        assert compared(reference, result(weights="x"), shard=Status.EQUAL, exact=exact)[Part.MODEL].status is status


def test_the_worst_finding_is_the_verdict() -> None:
    def verdict(*statuses: Status) -> Verdict:
        return verdict_of([Finding(part=Part.SCORE, item="-", status=status) for status in statuses])

    assert verdict(Status.EQUAL) is Verdict.CERTIFIED
    assert verdict(Status.EQUAL, Status.WITHIN) is Verdict.WITHIN
    assert verdict(Status.NOT_REBUILT, Status.WITHIN) is Verdict.IN_PART
    assert verdict(Status.DIFFERS, Status.NOT_REBUILT) is Verdict.NOT
