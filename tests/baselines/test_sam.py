"""SAM and ASAM against closed forms."""

import torch
from torch import nn
from torch.optim import SGD

from baselines.sam import SAM
from suite.objective import as_objective
from tests.baselines.helpers import Training, flat, loaded, watch


def first_perturbation(overrides: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Clean weights, eps, and the gradient at the clean weights (flat, parameter order)."""
    training = Training("sam", overrides)
    seen: list[torch.Tensor] = []
    watch(training.optimizer, lambda w, v: seen.extend((w.clone(), v - w)))
    probe = Training("sgd")
    probe.objective.load(0, loaded(0))
    probe.objective()
    training.run(0, 1)
    return seen[0], seen[1], flat(p.grad for p in probe.model.parameters())


def test_first_perturbation_has_norm_rho_along_the_gradient() -> None:
    _, eps, gradient = first_perturbation({"rho": 0.05})
    # v - w is rounded to the spacing of float32 at |w| ~ 1, that is to 1e-7 in each of 1755 coordinates
    torch.testing.assert_close(eps.norm(), torch.tensor(0.05), rtol=1e-4, atol=0)
    torch.testing.assert_close(eps, 0.05 * gradient / gradient.norm(), rtol=0, atol=2e-7)


def test_adaptive_perturbation() -> None:
    w, eps, gradient = first_perturbation({"rho": 2.0, "adaptive": True})
    expected = 2.0 * w**2 * gradient / (w.abs() * gradient).norm()
    torch.testing.assert_close(eps, expected, rtol=1e-4, atol=2e-7)  # rounding as above


def test_quadratic_in_closed_form() -> None:
    """L = a w^2 / 2: the gradient at w + rho sign(w) is a (w + rho sign(w))."""
    w = nn.Parameter(torch.tensor([-0.75], dtype=torch.float64))
    optimizer = SAM(SGD([w], lr=0.1), rho=0.25)

    def closure() -> torch.Tensor:
        loss = 2.0 * w.square().sum()
        loss.backward()
        return loss

    loss = optimizer.step(as_objective(closure))
    assert loss == 2.0 * 0.75**2  # the loss at w, not at w + eps
    # exact but for the 1e-12 in the denominator
    torch.testing.assert_close(
        w.detach(), torch.tensor([-0.75 + 0.1 * 4.0 * 1.0], dtype=torch.float64), rtol=0, atol=1e-11
    )


def test_zero_gradient_is_no_perturbation() -> None:
    w = nn.Parameter(torch.zeros(3))
    optimizer = SAM(SGD([w], lr=0.1))

    def closure() -> torch.Tensor:
        loss = w.square().sum()
        loss.backward()
        return loss

    optimizer.step(as_objective(closure))
    assert torch.equal(w.detach(), torch.zeros(3))


def test_running_statistics_are_of_the_clean_weights_unless_asked() -> None:
    frozen, both = Training("sam").run(0, 1), Training("sam", {"frozen_stats": False}).run(0, 1)
    plain = Training("sgd").run(0, 1)
    assert torch.equal(frozen.model[1].running_mean, plain.model[1].running_mean)  # type: ignore[index]
    assert not torch.equal(both.model[1].running_mean, plain.model[1].running_mean)  # type: ignore[index]
    assert [int(t.model[1].num_batches_tracked) for t in (frozen, both)] == [1, 2]  # type: ignore[index]
