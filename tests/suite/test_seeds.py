import random

import pytest
import torch

from suite.seeds import NormalStream, Streams, stream_seed


def draw(generator: torch.Generator, n: int = 8) -> torch.Tensor:
    return torch.rand(n, generator=generator)


def test_stream_seed_is_golden() -> None:
    # A change shifts every stream of every recorded run: it needs a new protocol version.
    assert stream_seed(0, "init") == 91280894994164069
    assert stream_seed(7, "perturb", 3, 1) == 6460555085153992208


def test_stream_seeds_are_distinct_and_63_bit() -> None:
    seeds = [
        stream_seed(seed, name, *counters)
        for seed in (0, 1, -1)
        for name in ("init", "order", "augment", "perturb", "dropout", "measure", "split", "label-noise")
        for counters in ((), (0,), (1,), (0, 0), (0, 1), (1, 0))
    ]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)
    # A CPU generator uses the low 32 bits, which must differ too (144 collide with probability 1 in 400,000).
    assert len({seed & 0xFFFFFFFF for seed in seeds}) == len(seeds)


def test_a_draw_is_a_pure_function_of_seed_name_and_counters() -> None:
    streams = Streams(5)
    first = draw(streams.generator("order", 2))
    draw(streams.generator("augment", 9), 100)
    streams.seed_global("dropout", 1)
    torch.rand(3)
    assert torch.equal(draw(streams.generator("order", 2)), first)
    assert torch.equal(draw(Streams(5).generator("order", 2)), first)
    assert not torch.equal(draw(Streams(6).generator("order", 2)), first)
    assert not torch.equal(draw(streams.generator("order", 3)), first)
    assert not torch.equal(draw(streams.generator("augment", 2)), first)


def test_named_streams_leave_the_global_generators_alone() -> None:
    before, python = torch.get_rng_state(), random.getstate()
    draw(Streams(1).generator("order", 0))
    NormalStream(1).fill_(torch.empty(10), 0, 0)
    assert torch.equal(torch.get_rng_state(), before)
    assert random.getstate() == python


def test_seed_global_positions_what_library_code_draws_from() -> None:
    with torch.random.fork_rng(devices=[]):
        Streams(2).seed_global("init")
        first = torch.nn.Linear(3, 3).weight.clone()
        torch.rand(5)
        Streams(2).seed_global("init")
        assert torch.equal(torch.nn.Linear(3, 3).weight, first)
        Streams(3).seed_global("init")
        assert not torch.equal(torch.nn.Linear(3, 3).weight, first)


def test_reseeding_in_place_forgets_a_half_used_normal_pair() -> None:
    # After an odd draw, mt19937 caches the second normal of a pair; re-seeding must discard it.
    stream = NormalStream(4)
    whole = stream.fill_(torch.empty(16), 0, 0).clone()
    stream.fill_(torch.empty(3), 1, 0)
    assert torch.equal(stream.fill_(torch.empty(16), 0, 0), whole)


@pytest.mark.parametrize("n", [1, 15, 17, 1000])
def test_normals_are_pure_in_their_counters(n: int) -> None:
    one, other = NormalStream(4), NormalStream(4)
    other.fill_(torch.empty(7), 99, 0)
    first = one.fill_(torch.empty(n), 3, 1)
    assert torch.equal(first, other.fill_(torch.empty(n), 3, 1))
    assert not torch.equal(first, one.fill_(torch.empty(n), 3, 2))
    assert not torch.equal(first, NormalStream(4, "measure").fill_(torch.empty(n), 3, 1))


def test_normals_fill_in_place_and_are_standard() -> None:
    out = torch.empty(40_000)
    assert NormalStream(0).fill_(out, 0) is out
    # One standard error at n = 40,000: 0.005 of the mean and 0.0035 of the deviation; the bound is four.
    assert abs(float(out.mean())) < 0.02
    assert abs(float(out.std()) - 1) < 0.014
