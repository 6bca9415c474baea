"""What a cast to low precision leaves of a weight perturbation."""

from __future__ import annotations

import torch
from torch import nn

from suite.objective import as_objective
from suite.precision import PerturbationProbe


def probe(epsilon: float) -> PerturbationProbe:
    torch.manual_seed(0)
    model = nn.Linear(200, 200)
    seen = PerturbationProbe(as_objective(lambda: model.weight.sum()), model, torch.bfloat16)
    with torch.no_grad():
        model.weight += epsilon * torch.randn_like(model.weight)
    seen()
    return seen


def test_a_small_perturbation_is_lost_in_bf16_and_a_large_one_is_not() -> None:
    # Weights are up to 0.07, so neighbours in bf16 (8 bits) lie about 3e-4 apart: 1e-5 is mostly lost.
    small, large = probe(1e-5).cosine, probe(1e-1).cosine
    assert small is not None
    assert large is not None
    assert small < 0.7
    assert large > 0.999


def test_an_unperturbed_step_has_no_cosine() -> None:
    model = nn.Linear(3, 3)
    seen = PerturbationProbe(as_objective(lambda: model.weight.sum()), model, torch.bfloat16)
    seen()
    assert seen.cosine is None
