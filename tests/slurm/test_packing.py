"""Runs into packs, packs into job arrays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from slurm import packing
from slurm.packing import ArrayJob, RunCost, batches, pack
from slurm.profiles import Profile
from suite.errors import SteppeError

ROOMY = (10**6, "no limit")
LONG = Profile(name="p", time_min=600, pack_min=10)


def runs_of(*seconds: float | None) -> list[RunCost]:
    return [RunCost(f"r{i}", 1.0, value) for i, value in enumerate(seconds)]


def sums(profile: Profile, runs: list[RunCost]) -> list[float]:
    took = {run.run_id: run.seconds or 0.0 for run in runs}
    return [sum(took[run_id] for run_id in one) for one in pack(runs, profile, *ROOMY).packs]


def test_the_longest_of_a_block_start_first_by_time_where_it_is_known_of_all() -> None:
    runs = [RunCost("a", 9.0, 10.0), RunCost("b", 1.0, 300.0), RunCost("c", 5.0, 20.0)]
    alone = Profile(name="p", pack=1)
    assert pack(runs, alone, *ROOMY).packs == (("b",), ("c",), ("a",))


def test_the_longest_of_a_block_start_first_by_cost_where_one_time_is_unknown() -> None:
    runs = [RunCost("a", 1.0, 300.0), RunCost("b", 9.0, None), RunCost("c", 5.0, 20.0)]
    assert pack(runs, Profile(name="p", pack=1), *ROOMY).packs == (("b",), ("c",), ("a",))


SECONDS = {"sgd": 100.0, "sam": 200.0, "nso": 300.0}


def sweep(n_seeds: int, scale: float | None = 1.0, tasks: str = "a") -> list[RunCost]:
    """Three optimizers in the order of `expand`; `scale` multiplies their seconds, None: unknown."""
    return [
        RunCost(f"{task}{seed}-{name}", cost, None if scale is None else scale * cost, f"{task} {seed}")
        for task in tasks
        for seed in range(n_seeds)
        for name, cost in SECONDS.items()
    ]


def names(runs: list[RunCost], profile: Profile, room: int = 10**6) -> list[str]:
    return [" ".join(one) for one in pack(runs, profile, room, "a limit").packs]


def test_packs_start_task_by_task_and_seed_by_seed() -> None:
    assert names(sweep(2, tasks="ba"), Profile(name="p", pack=1)) == [
        "b0-nso", "b0-sam", "b0-sgd", "b1-nso", "b1-sam", "b1-sgd",
        "a0-nso", "a0-sam", "a0-sgd", "a1-nso", "a1-sam", "a1-sgd",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "profile",
    [
        Profile(name="p", time_min=600, pack_min=10),  # 600 s each: one block a pack
        Profile(name="p", time_min=600, pack_min=12),  # 1800 s in three packs, too
        Profile(name="p", pack=3),
        Profile(name="p", pack=5),
    ],
)
def test_the_runs_of_a_task_and_seed_are_in_one_pack(profile: Profile) -> None:
    assert names(sweep(3), profile) == [f"a{seed}-nso a{seed}-sam a{seed}-sgd" for seed in range(3)]


def test_short_blocks_share_a_pack_whole() -> None:
    profile = Profile(name="p", time_min=600, pack_min=20)
    assert [one.count("nso") for one in names(sweep(5), profile)] == [2, 2, 1]
    fixed = names(sweep(4), Profile(name="p", pack=6))
    assert fixed == [" ".join(f"a{s}-{name}" for s in pair for name in ("nso", "sam", "sgd"))
                     for pair in ((0, 1), (2, 3))]  # fmt: skip


def test_a_block_that_does_not_fit_is_split_evenly() -> None:
    assert names(sweep(1), Profile(name="p", time_min=600, pack_min=5.1)) == ["a0-nso", "a0-sam a0-sgd"]
    assert names(sweep(2, None), Profile(name="p", pack=2)) == [
        "a0-nso", "a0-sam a0-sgd", "a1-nso", "a1-sam a1-sgd"
    ]  # fmt: skip


def test_the_time_limit_splits_a_block_that_the_minutes_of_the_profile_would_not() -> None:
    profile = Profile(name="p", time_min=8, signal_s=60, pack_min=60)  # 7 of 8 min to be used
    packed = pack(sweep(4), profile, *ROOMY)
    assert packed.longest_s is not None
    assert packed.longest_s <= 420
    assert [one[0][:2] for one in packed.packs] == sorted(one[0][:2] for one in packed.packs)


def test_long_runs_fill_the_places_of_a_task_in_the_order_of_their_seeds() -> None:
    profile = Profile(name="p", time_min=600, pack_min=1, workers=4, cpus=4)
    assert names(sweep(2), profile) == ["a0-nso a0-sam a0-sgd a1-nso", "a1-sam a1-sgd"]


def test_blocks_stay_whole_where_room_is_short() -> None:
    assert names(sweep(8, None), LONG, room=7) == [
        *(f"a{s}-nso a{s}-sam a{s}-sgd" for s in range(5)),
        "a5-nso a5-sam a5-sgd a6-nso a6-sam a6-sgd",
        "a7-nso a7-sam a7-sgd",
    ]


@given(
    n_seeds=st.integers(1, 12),
    scale=st.none() | st.floats(0.1, 20.0),
    size=st.integers(0, 8),
    workers=st.integers(1, 4),
    room=st.integers(1, 40),
)
def test_seeds_start_in_their_order_whatever_the_packs(
    n_seeds: int, scale: float | None, size: int, workers: int, room: int
) -> None:
    profile = Profile(name="p", pack=size, workers=workers, cpus=workers, time_min=60, pack_min=10)
    packed = pack(sweep(n_seeds, scale), profile, room, "a limit")
    packs = packed.packs
    seeds = [[int(run_id[1:].split("-")[0]) for run_id in one] for one in packs]
    assert all(one == sorted(one) for one in seeds)  # within a pack
    firsts = [one[0] for one in seeds]
    assert firsts == sorted(firsts)  # and from pack to pack
    enlarged = any(note.startswith("packs enlarged") for note in packed.notes)
    assert enlarged or not size or all(len(one) <= size for one in packs)
    assert len(packs) <= room


def test_short_runs_share_a_task_up_to_the_minutes_of_the_profile() -> None:
    assert sums(LONG, runs_of(*[60.0] * 40)) == [600.0] * 4


def test_side_by_side_a_task_takes_as_many_more() -> None:
    profile = Profile(name="p", time_min=600, pack_min=10, workers=2, cpus=2)
    packed = pack(runs_of(*[60.0] * 40), profile, *ROOMY)
    assert [len(one) for one in packed.packs] == [20, 20]
    assert packed.longest_s == pytest.approx(630)  # the bound: one run, and half of the others


def test_tasks_are_about_equally_long() -> None:
    totals = sums(LONG, runs_of(*range(1, 101)))
    assert len(totals) == 9
    assert max(totals) - min(totals) <= 15


def test_a_run_that_is_long_itself_is_alone_and_the_others_are_not_spread_for_its_sake() -> None:
    assert sums(LONG, runs_of(7200.0, *[60.0] * 10)) == [7200.0, 600.0]


def test_a_run_of_unknown_time_is_alone_and_that_is_said() -> None:
    packed = pack(runs_of(None, None, 60.0, 60.0), LONG, *ROOMY)
    assert sorted(map(len, packed.packs)) == [1, 1, 2]
    assert packed.longest_s is None
    assert "2 runs of unknown time" in packed.notes[0]
    assert "--pack N" in packed.notes[0]


def test_a_fixed_number_holds_whatever_is_known() -> None:
    packed = pack(runs_of(*[None] * 45), Profile(name="p", pack=20), *ROOMY)
    assert [len(one) for one in packed.packs] == [15, 15, 15]
    assert not packed.notes


def test_a_pack_is_not_expected_to_meet_the_time_limit() -> None:
    profile = Profile(name="p", time_min=20, signal_s=120, pack=100)
    packed = pack(runs_of(*[60.0] * 100), profile, *ROOMY)
    assert packed.longest_s is not None
    assert packed.longest_s <= 18 * 60
    assert len(packed.packs) == 6


def test_a_run_longer_than_the_limit_is_alone_and_that_is_said() -> None:
    profile = Profile(name="p", time_min=20, signal_s=120, pack=3)
    packed = pack(runs_of(5000.0, *[60.0] * 5), profile, *ROOMY)
    assert packed.packs[0] == ("r0",)
    assert packed.notes == (
        "1 run of up to 83 min exceed the 20 min of a task: saved and requeued at the limit, again and again",
    )


def test_packs_are_enlarged_where_tasks_would_exceed_a_limit() -> None:
    packed = pack(runs_of(*[None] * 50), LONG, 7, "MaxSubmitJobs 10, 3 of them taken")
    assert sorted(map(len, packed.packs)) == [7] * 6 + [8]
    assert packed.notes[0] == (
        "packs enlarged: 50 tasks would exceed MaxSubmitJobs 10, 3 of them taken; 7 fit"
    )


def test_without_room_nothing_is_packed() -> None:
    with pytest.raises(SteppeError, match="no room for another task: MaxSubmitJobs 10, 10 of them taken"):
        pack(runs_of(1.0), LONG, 0, "MaxSubmitJobs 10, 10 of them taken")


@given(
    seconds=st.lists(st.none() | st.floats(0.0, 1e5), min_size=1, max_size=60),
    size=st.integers(0, 7),
    workers=st.integers(0, 3),
    room=st.integers(1, 70),
)
def test_every_run_is_in_one_pack(seconds: list[float | None], size: int, workers: int, room: int) -> None:
    profile = Profile(name="p", pack=size, workers=workers)
    packs = pack(runs_of(*seconds), profile, room, "a limit").packs
    assert sorted(run for one in packs for run in one) == sorted(f"r{i}" for i in range(len(seconds)))
    assert all(packs)
    assert len(packs) <= room


def packs_of(n: int) -> list[tuple[str, ...]]:
    return [(f"r{i}",) for i in range(n)]


def test_arrays_are_cut_to_the_clusters_size_and_to_ours() -> None:
    assert [len(array.packs) for array in batches(packs_of(250), 101, 0)] == [101, 101, 48]
    assert [len(array.packs) for array in batches(packs_of(2500), 10**6, 0)] == [1000, 1000, 500]


def test_one_array_has_the_whole_cap() -> None:
    assert batches(packs_of(3), 101, 2) == [ArrayJob(tuple(packs_of(3)), 2)]
    assert batches(packs_of(3), 101, 0) == [ArrayJob(tuple(packs_of(3)), 3)]


def test_several_arrays_share_the_cap_and_the_work() -> None:
    arrays = batches(packs_of(10), 4, 8)
    assert [array.at_a_time for array in arrays] == [3, 3, 2]
    assert [len(array.packs) for array in arrays] == [4, 3, 3]
    assert arrays[0].packs == (("r0",), ("r3",), ("r6",), ("r9",))  # the queue starts r0, r1, r2, ...
    assert not any(array.after for array in arrays)


def test_with_fewer_than_there_are_arrays_these_form_chains() -> None:
    arrays = batches(packs_of(10), 2, 2)
    assert [array.after for array in arrays] == [None, None, 0, 1, 2, 3]
    assert {array.at_a_time for array in arrays} == {1}


@given(n=st.integers(1, 60), size=st.integers(1, 9), cap=st.integers(0, 12))
def test_the_cap_holds_for_all_arrays_together_and_no_pack_is_lost(n: int, size: int, cap: int) -> None:
    arrays = batches(packs_of(n), size, cap)
    assert sorted(pack for array in arrays for pack in array.packs) == sorted(packs_of(n))
    assert all(0 < len(array.packs) <= size for array in arrays)
    chain: dict[int, int] = {}
    for i, array in enumerate(arrays):
        assert array.after is None or array.after < i
        chain[i] = i if array.after is None else chain[array.after]
    if cap:
        widest = {
            head: max(arrays[i].at_a_time for i in chain if chain[i] == head) for head in chain.values()
        }
        assert sum(widest.values()) <= cap


def test_our_chunk_is_below_slurms_default() -> None:
    assert packing.CHUNK < 1001
