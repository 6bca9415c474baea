"""LPF-SGD's noise against its closed form, its parts against parts made by hand, its schedule."""

import pytest
import torch
from torch import Tensor, nn

from baselines.lpf_sgd import gamma_at
from suite.process_group import slice_bounds
from tests.baselines.helpers import TOTAL_STEPS, Training, batch, flat, loaded, watch


def noise_of(overrides: dict, steps: int = 1) -> tuple[nn.Module, list[Tensor]]:
    """The network at its first weights, and the noise of every evaluation (flat, parameter order)."""
    training = Training("lpf-sgd", {"lr": 0.0, **overrides})
    seen: list[Tensor] = []
    watch(training.optimizer, lambda w, v: seen.append(v - w))
    training.run(0, steps)
    return training.model, seen


def split(model: nn.Module, vector: Tensor) -> list[Tensor]:
    params = list(model.parameters())
    return [v.view_as(p) for v, p in zip(vector.split([p.numel() for p in params]), params, strict=True)]


@pytest.mark.parametrize("scale", ["filter", "tensor", "element", "absolute"])
def test_standard_deviation_is_gamma_times_the_scale(scale: str) -> None:
    model, noises = noise_of({"gamma": 0.1, "scale": scale, "M": 8}, steps=20)
    for i, p in enumerate(model.parameters()):
        draws = torch.stack([split(model, noise)[i] for noise in noises])  # (160, *shape)
        if scale == "absolute":
            expected = torch.ones_like(p)
        elif scale == "element":
            expected = p.abs()
        elif scale == "filter" and p.dim() > 1:
            expected = p.flatten(1).norm(dim=1).view(-1, *(1 for _ in p.shape[1:])).expand_as(p)
        else:
            expected = p.norm().expand_as(p)
        rows = range(len(p)) if p.dim() > 1 else [slice(None)]
        for row in rows:
            expectation = 0.1 * expected[row].square().mean().sqrt()
            spread = draws[:, row].square().mean().sqrt()
            # at least 160 x 5 draws, whose standard deviation is known to 2.5 %; five of those
            torch.testing.assert_close(spread, expectation, rtol=0.125, atol=1e-7)


def test_noise_is_gaussian_and_independent_between_parts() -> None:
    _, noises = noise_of({"gamma": 0.1, "scale": "absolute", "M": 8}, steps=2)
    z = torch.stack(noises) / 0.1  # (16, 1755)
    n = z.numel()
    # moments of a standard normal, each within five of its own standard errors
    assert abs(float(z.mean())) < 5 / n**0.5
    assert abs(float(z.square().mean()) - 1) < 5 * (2 / n) ** 0.5
    assert abs(float(z.pow(3).mean())) < 5 * (15 / n) ** 0.5
    assert abs(float(z.pow(4).mean()) - 3) < 5 * (96 / n) ** 0.5
    off = torch.corrcoef(z) - torch.eye(16)
    assert float(off.abs().max()) < 5 / 1755**0.5


@pytest.mark.parametrize("n", [20, 7])
def test_eight_parts_by_hand(n: int) -> None:
    """M = 8 on batches that it does not divide: the gradient is sum_j |B_j| / |B| grad L(w + n_j; B_j)."""
    training = Training("lpf-sgd", {"M": 8, "gamma": 0.05, "lr": 1.0, "momentum": 0.0, "weight_decay": 0.0})
    by_hand = Training("lpf-sgd").model  # the same weights
    start, perturbed = flat(by_hand.parameters()), []
    watch(training.optimizer, lambda w, v: perturbed.append(v.clone()))
    for model in (training.model, by_hand):
        model[5].p = 0.0  # type: ignore[index]  # dropout has tests of its own
    training.run(0, 1, n=lambda step: n)

    x, y = batch(0, n)
    total = torch.zeros_like(start)
    for part, weights in enumerate(perturbed):
        low, high = slice_bounds(n, part, 8)
        if low == high:
            continue
        nn.utils.vector_to_parameters(weights.clone(), by_hand.parameters())
        loss = nn.functional.cross_entropy(by_hand(x[low:high]), y[low:high]) * (high - low) / n
        total += flat(torch.autograd.grad(loss, list(by_hand.parameters())))
    # lr 1: the step is the gradient, up to float32 rounding of w - g
    torch.testing.assert_close(start - flat(training.model.parameters()), total, rtol=1e-4, atol=1e-6)


def test_returned_loss_is_the_sum_of_the_shares() -> None:
    losses = []
    for parts in (8, 1):
        training = Training("lpf-sgd", {"M": parts, "gamma": 0.0})
        training.model.eval()  # in training mode BatchNorm makes the loss of a part depend on its examples
        training.objective.load(0, loaded(0, 20))
        losses.append(training.optimizer.step(training.objective))  # type: ignore[arg-type,func-returns-value]
    torch.testing.assert_close(losses[0], losses[1], rtol=1e-5, atol=0)  # float32 sums in another order


def test_gamma_schedule() -> None:
    assert gamma_at(0, 0.002, 15.0, 100) == 0.002
    assert gamma_at(50, 0.002, 15.0, 100) == pytest.approx(0.002 * 8)  # half-way between 1 and 15
    assert gamma_at(100, 0.002, 15.0, 100) == pytest.approx(0.002 * 15)
    assert all(gamma_at(t, 0.002, 1.0, 100) == 0.002 for t in range(100))


def test_gamma_grows_with_the_optimizers_own_steps() -> None:
    _, noises = noise_of({"gamma": 0.01, "alpha": 15.0, "scale": "absolute"}, steps=TOTAL_STEPS)
    for step in (0, 10, 19):
        expected = gamma_at(step, 0.01, 15.0, TOTAL_STEPS)
        assert float(noises[step].std()) == pytest.approx(expected, rel=0.1)  # 1755 draws: six times 1.7 %
