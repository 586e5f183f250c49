"""A policy says where samples lie and changes none of them."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from neurofm.errors import UserError
from neurofm.shards import read_shard
from neurofm.windows.policy import Free, Needs, Plan, Policy, StoreSite, choose
from neurofm.windows.schedule import PoolSettings
from tests.windows.conftest import Home

POOL = PoolSettings(megabytes=0.15, uses=4.0)
STEPS = 150


def _expected(home: Home, pool: PoolSettings | None) -> list[tuple[np.ndarray, np.ndarray]]:
    """What zarr-python reads, window by window."""
    whole = [read_shard(path) for path in home.shards]
    signals, schedule = home.signals(), home.schedule(pool)
    made = []
    for step in range(STEPS):
        drawn = schedule.at(step)
        shard, signal = whole[drawn.source], signals[drawn.source]
        length = home.sources[drawn.source].window_samples
        rows = drawn.starts[:, None] + np.arange(length)
        z = shard.stored[rows].astype(np.float32) * signal.gain + signal.bias
        z[~shard.valid[rows]] = 0
        made.append((z, shard.valid[rows]))
    return made


@pytest.mark.parametrize("pool", [None, POOL], ids=["everything", "pool"])
@pytest.mark.parametrize("policy", [one for one in Policy if one is not Policy.HYBRID])
def test_every_policy_gives_the_samples_that_zarr_reads(
    policy: Policy, pool: PoolSettings | None, home: Home, tmp_path: Path
) -> None:
    free = Free(memory=1e9, disk=1e9, device=1e9)
    # "cpu:0" goes the way of a GPU: memory of torch's, indexed there.
    device = "cpu:0" if policy is Policy.DEVICE_POOL else "cpu"
    with home.store(policy, pool=pool, folder=tmp_path / "store", free=lambda _: free, device=device) as store:
        for step, (z, valid) in enumerate(_expected(home, pool)):
            _, got, counts = store.at(step)
            np.testing.assert_array_equal(got.numpy(), z)
            np.testing.assert_array_equal(counts.numpy(), valid)
    assert not any(path.is_file() for path in tmp_path.rglob("*")), "the file of mmap has no name"


@pytest.mark.parametrize("decoders", [0, 2])
def test_hybrid_and_what_other_processes_decode(decoders: int, home: Home, tmp_path: Path) -> None:
    free = Free(memory=0.4e6, disk=0, device=0)
    with home.store(Policy.AUTO, pool=POOL, folder=tmp_path, decoders=decoders, free=lambda _: free) as store:
        assert store.plan.policy is Policy.HYBRID
        assert store.plan.resident > 0
        for step, (z, _) in enumerate(_expected(home, POOL)):
            np.testing.assert_array_equal(store.at(step)[1].numpy(), z)


def test_ranks_share_a_step(home: Home, tmp_path: Path) -> None:
    with home.store(Policy.ALL_IN_RAM, folder=tmp_path) as store:
        for step in range(20):
            whole = store.at(step)[1].numpy()
            parts = [store.at(step, rank=rank, world_size=3)[1].numpy() for rank in range(3)]
            for rank, part in enumerate(parts):
                np.testing.assert_array_equal(part, whole[rank::3])


def test_bfloat16_keeps_standardised_samples_rounded(home: Home, tmp_path: Path) -> None:
    expected = _expected(home, None)
    with home.store(Policy.ALL_IN_RAM, folder=tmp_path, bfloat16=True) as store:
        for step, (z, _) in enumerate(expected):
            wanted = torch.from_numpy(z).to(torch.bfloat16).float()
            assert torch.equal(store.at(step)[1], wanted)


def test_memory_that_runs_short_costs_time_and_no_sample(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    left = [Free(memory=1e9, disk=0, device=0)]
    with home.store(Policy.ALL_IN_RAM, folder=tmp_path, free=lambda _: left[0]) as store:
        plans = [store.plan]
        for step, (z, _) in enumerate(_expected(home, None)):
            if step and step % 20 == 0:
                left[0] = Free(memory=1e7, disk=0, device=0)
                store._watched = 0.0
            np.testing.assert_array_equal(store.at(step)[1].numpy(), z)
            if store.plan != plans[-1]:
                plans.append(store.plan)
    assert [plan.policy for plan in plans[:2]] == [Policy.ALL_IN_RAM, Policy.HYBRID]
    assert plans[-1].policy is Policy.HOST_POOL
    sizes = [plan.resident + plan.pool for plan in plans]
    assert sizes == sorted(sizes, reverse=True)
    said = capsys.readouterr().err.splitlines()
    assert len(said) == len(plans) - 1
    assert "0.01 GB of memory are left; hybrid from here on" in said[0]


def test_what_a_pool_takes_does_not_grow(home: Home, tmp_path: Path) -> None:
    with home.store(Policy.HOST_POOL, pool=POOL, folder=tmp_path) as store:
        held = sum(room.ring.size for room in store._rooms)
        assert held <= 1.1e6 * POOL.megabytes
        for step in range(2000):
            store.at(step)
        assert sum(room.ring.size for room in store._rooms) == held


def test_nothing_is_left_of_a_store_that_ended(home: Home, tmp_path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(5):
        with home.store(Policy.HYBRID, pool=POOL, folder=tmp_path, decoders=1) as store:
            store.at(0)
    assert len(list(Path("/proc/self/fd").iterdir())) <= before + 1


NEEDS = Needs(everything=100_000_000_000, pool=20_000_000_000, smallest=1_000_000)


@pytest.mark.parametrize(
    ("memory", "disk", "policy"),
    [
        (121e9, 0, Policy.ALL_IN_RAM),
        (119e9, 0, Policy.HYBRID),
        (25e9, 500e9, Policy.HYBRID),
        (23e9, 500e9, Policy.MMAP),
    ],
)
def test_auto_takes_what_fits_with_a_fifth_to_spare(memory: float, disk: float, policy: Policy) -> None:
    plan = choose(Policy.AUTO, NEEDS, Free(memory=memory, disk=disk, device=0))
    assert plan.policy is policy
    assert 1.2 * (plan.resident + plan.pool) <= (disk if policy is Policy.MMAP else memory)


def test_what_does_not_fit_is_refused_with_the_sum() -> None:
    with pytest.raises(UserError) as error:
        choose(Policy.ALL_IN_RAM, NEEDS, Free(memory=226e9, disk=0, device=0), side_by_side=2, who="pretrain")
    assert error.value.problem == (
        "pretrain: all_in_ram needs 100 GB x 2 models side by side, with a fifth to spare 240 GB of memory; "
        "226 GB is free."
    )
    assert "store.policy" in error.value.mend
    for policy in (Policy.HOST_POOL, Policy.MMAP, Policy.DEVICE_POOL, Policy.AUTO):
        with pytest.raises(UserError, match="is free"):
            choose(policy, NEEDS, Free(memory=1e9, disk=1e9, device=1e9))


def test_without_a_pool_in_params_memory_holds_what_was_drawn_last() -> None:
    needs = replace(NEEDS, pool=NEEDS.everything)
    plan = choose(Policy.HOST_POOL, needs, Free(memory=60e9, disk=0, device=0))
    assert plan == Plan(policy=Policy.HOST_POOL, resident=0, pool=25_000_000_000)


def test_free_is_measured_where_the_file_would_be(tmp_path: Path) -> None:
    free = Free.now(tmp_path / "not" / "there")
    assert free.memory > 0
    assert free.disk > 0
    assert StoreSite().policy is Policy.AUTO


def test_a_store_needs_room_at_its_start(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="mine: all_in_ram needs"):
        home.store(Policy.ALL_IN_RAM, folder=tmp_path, free=lambda _: Free(memory=1e4, disk=0, device=0), who="mine")


def test_a_pool_on_a_gpu_is_refused_where_the_cpu_computes(home: Home, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="device_pool` keeps samples on a GPU, and this runs on the CPU"):
        home.store(Policy.DEVICE_POOL, folder=tmp_path)


def test_a_decoder_that_is_killed_costs_time_only(
    home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    expected = _expected(home, POOL)
    with home.store(Policy.HOST_POOL, pool=POOL, folder=tmp_path, decoders=1) as store:
        for step, (z, _) in enumerate(expected):
            if step == 40:
                assert store._decoders is not None
                (child,) = store._decoders.processes
                child.kill()
                child.wait()
            np.testing.assert_array_equal(store.at(step)[1].numpy(), z)
    assert "pretrain: a process that decoded ahead was killed" in capsys.readouterr().err


def test_decoders_leave_when_who_draws_is_killed(home: Home, tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    drawing = context.Process(target=_draw_and_wait, args=(home, tmp_path, theirs))
    drawing.start()
    decoder = ours.recv()
    drawing.kill()
    drawing.join()
    until = time.monotonic() + 20
    while _is_alive(decoder):
        assert time.monotonic() < until, "it stays behind"
        time.sleep(0.1)


def _is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _draw_and_wait(home: Home, folder: Path, told: Connection) -> None:
    store = home.store(Policy.HOST_POOL, pool=POOL, folder=folder, decoders=1)
    store.at(0)
    assert store._decoders is not None
    told.send(store._decoders.processes[0].pid)
    time.sleep(60)


def test_a_script_without_a_guarded_main_can_decode_ahead(home: Home, tmp_path: Path) -> None:
    """What a user types: multiprocessing's own processes would run it again."""
    script = tmp_path / "script.py"
    script.write_text(
        "from pathlib import Path\n"
        "from neurofm.windows.loader import WindowDataset\n"
        "from neurofm.windows.policy import Policy, StoreSite\n"
        "from neurofm.windows.schedule import PoolSettings\n"
        f"shards = sorted(Path({str(home.shards[0].parent)!r}).glob('*.zarr.zip'))\n"
        "for batch in WindowDataset(shards, window_s=10.0, windows=6, seed=5, steps=30,\n"
        "                           pool=PoolSettings(megabytes=0.15, uses=4.0),\n"
        "                           store=StoreSite(policy=Policy.HOST_POOL, decoders=1)):\n"
        "    print(batch['recording'])\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=False, timeout=100)
    assert done.stderr == ""
    assert len(done.stdout.splitlines()) == 30


def test_decoders_that_are_gone_when_place_is_made_cost_time_only(home: Home, tmp_path: Path) -> None:
    """The block that makes place was never drawn, and its decoder was killed while it had it."""
    expected = _expected(home, POOL)
    with home.store(Policy.HOST_POOL, pool=POOL, folder=tmp_path, decoders=1) as store:
        make_place = store._make_place

        def gone(number: int, room: Any) -> int:
            place = make_place(number, room)
            if store._decoders is not None:
                store._decoders.close()
                store._decoders = None
                store._site = store._site.model_copy(update={"decoders": 0})
            return place

        store._make_place = gone  # type: ignore[method-assign]
        for step, (z, _) in enumerate(expected):
            np.testing.assert_array_equal(store.at(step)[1].numpy(), z)


def test_who_waits_hears_of_each_block(home: Home, tmp_path: Path) -> None:
    heard: list[int] = []
    with home.store(Policy.ALL_IN_RAM, folder=tmp_path, each_block=lambda: heard.append(1)) as store:
        drawn = {store.at(step)[0].block.number for step in range(60)}
    assert len(heard) == len(drawn)


def test_who_waits_for_a_decoder_hears_of_it(home: Home, tmp_path: Path) -> None:
    heard: list[int] = []
    each = {"pool": POOL, "folder": tmp_path, "decoders": 1, "each_block": lambda: heard.append(1)}
    with home.store(Policy.HOST_POOL, **each) as store:  # type: ignore[arg-type]
        store.at(0)
    assert heard, "it takes a second to start"
