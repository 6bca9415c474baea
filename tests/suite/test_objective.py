import itertools
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.errors import SteppeError
from suite.flat_params import FlatParams
from suite.objective import BatchObjective, StatsSwitch, as_objective
from suite.problem import ClassificationLoss
from suite.process_group import ProcessGroup, slice_bounds
from suite.seeds import Streams
from tests.plain_objective import objective_of

N = 11
"""Examples of the mini-batch: no number of parts from 2 to 10 divides it."""


def net(norm: bool = True, p: float = 0.0) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3, padding=1),
        nn.BatchNorm2d(4) if norm else nn.Identity(),
        nn.ReLU(),
        nn.Dropout2d(p),
        nn.Flatten(),
        nn.Dropout(p),
        nn.Linear(4 * 16, 3),
    ).double()


def objective(model: nn.Module, step: int = 0, n: int = N, **options: bool) -> BatchObjective:
    generator = torch.Generator().manual_seed(1)
    inputs = torch.randn(n, 2, 4, 4, dtype=torch.float64, generator=generator)
    bound = objective_of(model, 7, **options)
    bound.load(step, Batch(inputs=inputs, targets=torch.arange(n) % 3))
    return bound


def gradient(model: nn.Module) -> Tensor:
    return torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])


def running(model: nn.Module) -> list[Tensor]:
    return [buffer.clone() for buffer in model.buffers()]


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return all(map(torch.equal, one, other))


@pytest.mark.parametrize("parts", [1, 2, 3, 4, 8, 11, 13])
def test_slices_sum_to_the_whole_gradient_and_loss(parts: int) -> None:
    # Without BatchNorm, the slices' losses sum to the batch's; with dropout, each must use its mask rows.
    whole, split = net(norm=False, p=0.3), net(norm=False, p=0.3)
    loss = objective(whole)()
    on_split = objective(split)
    losses = [on_split(part, parts) for part in range(parts)]
    # Float64 sums of 11 terms in another order: relative error about 1e-16.
    torch.testing.assert_close(gradient(split), gradient(whole), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(torch.stack([x.double() for x in losses]).sum(), loss, rtol=1e-12, atol=1e-14)
    assert not loss.requires_grad


@pytest.mark.parametrize(("n", "parts"), [(1, 1), (11, 4), (128, 8), (5, 8), (80, 7)])
def test_slices_tile_the_batch_evenly(n: int, parts: int) -> None:
    bounds = [slice_bounds(n, part, parts) for part in range(parts)]
    assert bounds[0][0] == 0
    assert bounds[-1][1] == n
    assert all(left[1] == right[0] for left, right in itertools.pairwise(bounds))
    sizes = {high - low for low, high in bounds}
    assert max(sizes) - min(sizes) <= 1


def test_gradients_accumulate_until_the_optimizer_zeroes_them() -> None:
    model = net()
    bound = objective(model)
    bound()
    once = gradient(model).clone()
    bound()
    torch.testing.assert_close(gradient(model), 2 * once, rtol=1e-12, atol=1e-14)  # float64 rounding


@pytest.mark.parametrize(("n", "parts"), [(11, 1), (11, 4), (5, 8)])
def test_the_meter_counts_every_example_once_a_pass(n: int, parts: int) -> None:
    bound = objective(net(norm=False), n=n)
    for part in range(parts):
        bound(part, parts)
    assert bound.meter.gradients == bound.meter.sample_gradients == n
    bound()
    assert bound.meter.gradients == bound.meter.sample_gradients == 2 * n
    assert bound.meter.forward_only == 0


def test_an_empty_slice_costs_nothing_and_touches_nothing() -> None:
    model = net()
    bound = objective(model, n=5)
    before = running(model)
    assert float(bound(part=0, parts=8)) == 0.0
    assert bound.meter.gradients == 0
    assert same(running(model), before)


def test_track_stats_false_leaves_running_statistics_and_their_counter_alone() -> None:
    model = net()
    bound = objective(model)
    bound()
    after_one = running(model)
    bound(track_stats=False)
    assert same(running(model), after_one)
    bound()
    assert not same(running(model), after_one)
    assert int(model[1].num_batches_tracked) == 2


def test_track_stats_false_still_normalises_by_the_batch() -> None:
    tracked, untracked = net(), net()
    loss, other = objective(tracked)(), objective(untracked)(track_stats=False)
    assert torch.equal(loss, other)
    assert torch.equal(gradient(tracked), gradient(untracked))


def test_a_layer_without_running_statistics_stays_without() -> None:
    model = nn.Sequential(nn.BatchNorm1d(3, track_running_stats=False), nn.BatchNorm1d(3))
    switch = StatsSwitch(model)
    switch.set(False)
    assert [layer.track_running_stats for layer in model] == [False, False]
    switch.set(True)
    assert [layer.track_running_stats for layer in model] == [False, True]


def test_evaluation_mode_between_steps_uses_running_statistics() -> None:
    # A step may end on an untracked pass; validation in eval mode must not normalise by its own batch.
    model = net()
    bound = objective(model)
    bound()
    bound(track_stats=False)
    inputs = torch.randn(4, 2, 4, 4, dtype=torch.float64)
    model.eval()
    together = model(inputs)
    alone = torch.cat([model(one.unsqueeze(0)) for one in inputs])
    # The same statistics for any batch: at most float64 rounding of another convolution kernel.
    torch.testing.assert_close(together, alone, rtol=1e-10, atol=1e-12)


def test_all_evaluations_of_a_step_share_one_dropout_mask() -> None:
    model = net(p=0.4)
    bound = objective(model, step=3)
    first, second = bound(track_stats=False), bound(track_stats=False)
    assert torch.equal(first, second)
    again = objective(net(p=0.4), step=3)(track_stats=False)
    assert torch.equal(again, first)
    other_step = objective(net(p=0.4), step=4)(track_stats=False)
    assert not torch.equal(other_step, first)


def test_library_draws_inside_a_model_repeat_within_a_step() -> None:
    class Noisy(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x + torch.randn_like(x)

    model = nn.Sequential(Noisy(), nn.Flatten(), nn.Linear(32, 3)).double()
    bound = objective(model)
    with torch.random.fork_rng(devices=[]):
        first = bound()
        torch.rand(17)
        assert torch.equal(bound(), first)


def test_a_loss_that_is_no_mean_refuses_parts() -> None:
    model = net()
    bound = objective(model, separable=False)
    bound()
    with pytest.raises(SteppeError, match="not a mean over examples: parts must be 1"):
        bound(0, 2)


@pytest.mark.parametrize("parts", [1, 4, 13])
def test_scores_are_of_the_first_evaluation_of_each_example(parts: int) -> None:
    model = net(norm=False)
    bound = objective(model)
    assert bound.scores == {}
    for part in range(parts):
        bound(part, parts)
    with torch.no_grad():
        expected = (model(bound._batch.inputs).argmax(1) == bound._batch.targets).sum()
    assert int(bound.scores["accuracy"]) == int(expected)
    with torch.no_grad():
        model[6].bias += torch.tensor([1e3, 0.0, 0.0])
    bound()
    assert int(bound.scores["accuracy"]) == int(expected)


def test_low_precision_keeps_loss_and_weights_in_float32() -> None:
    model = net().float()
    bound = objective_of(model, autocast=torch.bfloat16)
    bound.load(0, Batch(inputs=torch.randn(4, 2, 4, 4), targets=torch.arange(4) % 3))
    loss = bound()
    assert loss.dtype == torch.float32
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_shares_go_by_units() -> None:
    """With losses summed over units, an example of weight w counts as w copies of it."""
    weight = torch.tensor([3, 1, 2, 1, 1])
    generator = torch.Generator().manual_seed(1)
    inputs, targets = torch.randn(5, 2, 4, 4, dtype=torch.float64, generator=generator), torch.arange(5) % 3

    class Summed(ClassificationLoss):
        def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
            assert batch.weight is not None
            return (self.losses(outputs, batch) * batch.weight).sum() / batch.units

    weighted, repeated = net(norm=False), net(norm=False)
    bound = BatchObjective(weighted, Summed(), Streams(7))
    bound.load(0, Batch(inputs=inputs, targets=targets, weight=weight))
    loss = torch.stack([bound(part, 3) for part in range(3)]).sum()
    rows = torch.repeat_interleave(torch.arange(5), weight)
    again = objective_of(repeated, 7)
    again.load(0, Batch(inputs=inputs[rows], targets=targets[rows]))
    # Float64 sums of 8 terms in another order.
    torch.testing.assert_close(loss, again(), rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(gradient(weighted), gradient(repeated), rtol=1e-12, atol=1e-14)
    assert bound.meter.gradients == 5  # examples are charged, not units


@pytest.mark.parametrize("parts", [1, 3])
def test_the_loss_alone_is_that_of_a_call_at_a_third_of_its_cost(parts: int) -> None:
    model = net(p=0.3)
    bound = objective(model, step=2)
    before = running(model)
    losses = [bound.loss(part, parts) for part in range(parts)]
    assert same(running(model), before)
    assert all(p.grad is None for p in model.parameters())
    assert (bound.meter.losses, bound.meter.gradients) == (N, 0)
    assert bound.meter.sample_gradients == pytest.approx(N / 3)
    assert all(map(torch.equal, losses, [bound(part, parts, track_stats=False) for part in range(parts)]))


@pytest.mark.parametrize("channels_last", [False, True])
def test_the_function_is_the_loss_of_the_flat_weights(channels_last: bool) -> None:
    model = net(p=0.3).to(memory_format=torch.channels_last if channels_last else torch.contiguous_format)  # type: ignore[call-overload]
    bound = objective(model, step=2)
    loss = bound(track_stats=False)
    expected, before = [p.grad.clone() for p in model.parameters() if p.grad is not None], running(model)
    flat = FlatParams(model.parameters())
    with bound.metered():
        of_weights = bound.function()
        slope, value = torch.func.grad_and_value(of_weights)(flat.theta)
    assert torch.equal(value, loss)
    # The same operations except for the split into pieces: float64 rounding.
    for mine, theirs in zip(flat.views(slope), expected, strict=True):
        torch.testing.assert_close(mine, theirs, rtol=1e-12, atol=1e-14)
    assert same(running(model), before)


def test_parts_of_the_function_sum_to_the_whole() -> None:
    model = net(norm=False, p=0.3)
    bound, flat = objective(model), FlatParams(model.parameters())
    with bound.metered():
        whole = bound.function()(flat.theta)
        parts = torch.stack([bound.function(part, 13)(flat.theta) for part in range(13)])  # two are empty
    torch.testing.assert_close(parts.sum(), whole, rtol=1e-12, atol=1e-14)  # sums in another order


def test_the_function_is_charged_by_its_operations() -> None:
    """The gradient of a one-layer network takes two products: the forward one and that for the weights."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(32, 3)).double()
    bound, flat = objective(model), FlatParams(model.parameters())
    with bound.metered():
        bound.function()(flat.theta)
    assert bound.meter.function == pytest.approx(N / 2)  # forward alone
    with bound.metered():
        torch.func.grad(bound.function())(flat.theta)
    assert bound.meter.function == pytest.approx(N / 2 + N)
    with bound.metered():
        bound()
        bound.loss()
    assert bound.meter.function == pytest.approx(N / 2 + N)  # calls and `loss` are charged separately


def test_the_function_is_of_one_step_only() -> None:
    model = net()
    bound, flat = objective(model), FlatParams(model.parameters())
    with bound.metered():
        kept = bound.function()
        kept(flat.theta)
    bound.load(1, Batch(inputs=torch.zeros(N, 2, 4, 4).double(), targets=torch.zeros(N, dtype=torch.int64)))
    for block in (bound.metered(), nullcontext()):
        with block, pytest.raises(SteppeError, match="is that of one step's mini-batch: ask for it in every"):
            kept(flat.theta)


def test_the_unit_is_that_of_the_whole_mini_batch() -> None:
    """If a model's products do not grow with the batch, a small slice would give a large unit."""

    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.root, self.head = nn.Parameter(torch.eye(32).double()), nn.Linear(32, 3).double()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(x.flatten(1) + (self.root @ self.root.T).sum(0))

    units = []
    for part, parts in ((0, 1), (0, 10)):
        bound = objective(Shared())
        with bound.metered():
            bound.function(part, parts)
        units.append(bound.meter.operations)
    assert units[0] == units[1]


@pytest.mark.parametrize(("part", "parts"), [(0, -1), (0, 0), (4, 4), (-1, 4), (0.5, 2), (0, 2.0)])
def test_a_slice_that_there_is_not(part: Any, parts: Any) -> None:
    bound = objective(net())
    for ask in (bound, bound.loss):
        with pytest.raises(SteppeError, match=f"^part {part} of {parts}; valid: whole numbers, 0 to parts"):
            ask(part, parts)
    assert bound.meter.gradients == bound.meter.losses == 0


def test_a_step_that_asks_for_no_function_is_charged_none() -> None:
    # Like an optimizer with second derivatives in some steps and other matrix products in all.
    model = net()
    bound, flat = objective(model), FlatParams(model.parameters())
    for charged in (0.0, N, N):
        with bound.metered():
            torch.ones(3, 3) @ torch.ones(3, 3)
        assert bound.meter.function == pytest.approx(charged)
        if not charged:
            with bound.metered():
                torch.func.grad(bound.function())(flat.theta)


def test_a_resumed_meter_charges_in_the_unit_that_it_had() -> None:
    model = net()
    first, flat = objective(model), FlatParams(model.parameters())
    with first.metered():
        first.function()
    resumed = objective(model, n=1)  # the cost per example may differ for this batch
    resumed.meter.__dict__.update({**vars(first.meter), "operations": 2 * first.meter.operations})
    with resumed.metered():
        torch.func.grad(resumed.function())(flat.theta)
    assert resumed.meter.function == pytest.approx(1 / 2)


def test_the_function_must_be_declared_and_is_had_on_one_rank_only() -> None:
    bound = objective(net())
    with pytest.raises(SteppeError, match="let the entry's `needs` name 'function'"):
        bound.function()

    class Two(ProcessGroup):
        n = 2

    shared = objective_of(net(), ranks=Two())
    with shared.metered(), pytest.raises(SteppeError, match="on one rank only"):
        shared.function()


def test_a_model_without_products_cannot_be_metered() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(3, dtype=torch.float64))

        def forward(self, x: Tensor) -> Tensor:
            return x.flatten(1)[:, :3] * self.factor

    bound = objective(Scale())
    with bound.metered(), pytest.raises(SteppeError, match="no matrix product or convolution"):
        bound.function()


def closure_of(model: nn.Module) -> Callable[[], Tensor]:
    inputs, targets = torch.randn(6, 2, 4, 4, dtype=torch.float64), torch.arange(6) % 3

    def closure() -> Tensor:
        loss = F.cross_entropy(model(inputs), targets)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def test_a_plain_closure_serves_as_objective() -> None:
    model = net()
    plain = as_objective(closure_of(model), model)
    with torch.no_grad():  # as torch's optimizers call a closure
        loss = plain()
    assert not loss.requires_grad
    after_one = running(model)
    plain(track_stats=False)
    assert same(running(model), after_one)
    with pytest.raises(SteppeError, match="a closure cannot be split"):
        plain(0, 2)
    for door in (plain.loss, plain.function):
        with pytest.raises(SteppeError, match="a closure gives gradients only"):
            door()


def test_a_closure_without_its_model_tracks_always() -> None:
    model = net()
    before = running(model)
    as_objective(closure_of(model))(track_stats=False)
    assert not same(running(model), before)
