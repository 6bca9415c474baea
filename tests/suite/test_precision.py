"""What a cast to low precision leaves of a weight perturbation."""

from __future__ import annotations

from collections.abc import Callable

import torch
from msgspec.structs import replace
from torch import nn

from suite.objective import as_objective
from suite.precision import PerturbationProbe, low_precision_cast
from tests.suite.records import make_spec


def cast(precision: str) -> Callable[[torch.Tensor], torch.Tensor]:
    found = low_precision_cast(replace(make_spec(), precision=precision))
    assert found is not None
    return found


def test_tf32_rounds_to_eleven_significant_bits() -> None:
    ulp = 2.0**-10
    x = torch.tensor([1 + 0.4 * ulp, 1 + 0.6 * ulp, -1 - 0.6 * ulp, 3.0, 0.0])
    assert cast("tf32")(x).tolist() == [1.0, 1 + ulp, -1 - ulp, 3.0, 0.0]
    assert low_precision_cast(make_spec()) is None


def probe(epsilon: float) -> PerturbationProbe:
    torch.manual_seed(0)
    model = nn.Linear(200, 200)
    seen = PerturbationProbe(as_objective(lambda: model.weight.sum()), model, cast("bf16"))
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
    seen = PerturbationProbe(as_objective(lambda: model.weight.sum()), model, cast("bf16"))
    seen()
    assert seen.cosine is None
