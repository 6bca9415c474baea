"""NSO against closed forms, and the pairing of its two evaluations."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from baselines.nso import NSO
from suite.objective import as_objective
from suite.seeds import NormalStream
from tests.baselines.helpers import Training, watch

W = (0.5, -1.25, 2.0)


def gradient_of(power: int, **options: Any) -> tuple[Tensor, Tensor]:
    """(gradient that the base steps with, u) for L = sum w^power / power, all k pairs, float64."""
    w = nn.Parameter(torch.tensor(W, dtype=torch.float64))
    optimizer = NSO(SGD([w], lr=1.0), sigma=0.3, noise=NormalStream(5), **options)

    def closure() -> Tensor:
        loss = w.pow(power).sum() / power
        loss.backward()
        return loss

    optimizer.step(as_objective(closure))
    u = [0.3 * NormalStream(5).fill_(torch.empty(3, dtype=torch.float64), 0, j) for j in range(optimizer.k)]
    return torch.tensor(W, dtype=torch.float64) - w.detach(), torch.stack(u)


@pytest.mark.parametrize("k", [1, 3])
def test_quartic(k: int) -> None:
    """((w + u)^3 + (w - u)^3) / 2 = w^3 + 3 w u^2."""
    gradient, u = gradient_of(4, k=k)
    w = torch.tensor(W, dtype=torch.float64)
    torch.testing.assert_close(
        gradient, w**3 + 3 * w * u.square().mean(0), rtol=1e-14, atol=1e-14
    )  # rounding


def test_quadratic_is_the_plain_gradient() -> None:
    gradient, _ = gradient_of(2, k=2)
    torch.testing.assert_close(gradient, torch.tensor(W, dtype=torch.float64), rtol=1e-15, atol=1e-15)


def test_one_sided() -> None:
    gradient, u = gradient_of(4, k=2, two_point=False)
    w = torch.tensor(W, dtype=torch.float64)
    torch.testing.assert_close(gradient, ((w + u) ** 3).mean(0), rtol=1e-14, atol=1e-14)


def test_lambda_mixes_in_the_clean_gradient() -> None:
    gradient, u = gradient_of(4, k=2, lam=0.25)
    w = torch.tensor(W, dtype=torch.float64)
    mixed = 0.25 * w**3 + 0.75 * (w**3 + 3 * w * u.square().mean(0))
    torch.testing.assert_close(gradient, mixed, rtol=1e-14, atol=1e-14)


def test_noise_is_absolute_symmetric_and_fresh() -> None:
    training = Training("nso", {"sigma": 0.02})
    seen: list[Tensor] = []
    watch(training.optimizer, lambda w, v: seen.append(v - w))
    training.run(0, 2)
    plus, minus, later, _ = seen
    torch.testing.assert_close(plus, -minus, rtol=0, atol=2e-7)  # rounding of w + u at |w| ~ 1
    # 1755 draws: the standard deviation is known to 1 / sqrt(2 * 1755) = 1.7 %, four of those
    assert abs(float(plus.std()) / 0.02 - 1) < 0.07
    assert abs(float(torch.corrcoef(torch.stack([plus, later]))[0, 1])) < 0.1  # four times 1 / sqrt(1755)


def test_both_signs_see_one_dropout_mask() -> None:
    training = Training("nso")
    outputs: list[tuple[Tensor, Tensor]] = []
    dropout = training.model[5]  # type: ignore[index]
    dropout.register_forward_hook(lambda _, inputs, out: outputs.append((inputs[0].detach(), out.detach())))
    training.run(0, 1)
    (x, a), (y, b) = outputs
    alive = (x > 0) & (y > 0)
    assert torch.equal((a == 0)[alive], (b == 0)[alive])
    dropped = float((a == 0)[alive].float().mean())
    assert 0.2 < dropped < 0.4  # p = 0.3; the standard error over some 2000 units is 0.01


def test_running_statistics_are_taken_up_once_a_step() -> None:
    for overrides in ({}, {"k": 3}, {"clean_pass": True}, {"two_point": False, "k": 2}):
        training = Training("nso", overrides).run(0, 2)
        assert int(training.model[1].num_batches_tracked) == 2  # type: ignore[index]
