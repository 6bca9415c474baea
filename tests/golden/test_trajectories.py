"""Every trajectory of the official implementations (README.md beside this file), through our entries.

Float64, tolerance 1e-10 of max|theta| over 25 steps: four orders above what rounding does to these
problems (below 2e-15, see `rounding_sensitivity` in the JSON files), ten below what a wrong term does.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from suite.batch import Batch
from suite.entries.registry import Registry
from suite.objective import BatchObjective
from suite.parameters import Parameters
from suite.seeds import NormalStream
from suite.spec import BuildContext, OptimizerSpec, resolve_params
from tests.plain_objective import objective_of

FOLDER = Path(__file__).parent
CASES = sorted(path.stem for path in FOLDER.glob("*.json") if path.stem != "measures")
TOLERANCE = 1e-10


class Recorded(NormalStream):
    """Hands out the recorded normals z[step, draw] in place of drawing any."""

    def __init__(self, z: Tensor) -> None:
        super().__init__(0)
        self.z = z

    def fill_(self, out: Tensor, *counters: int) -> Tensor:
        return out.copy_(self.z[counters])


class Problem(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.conv2(x)).mean((2, 3)))


@dataclass
class Evaluations:
    """An objective that keeps what it was asked: losses, weights and gradients of every evaluation."""

    inner: BatchObjective
    model: nn.Module

    def __post_init__(self) -> None:
        self.losses: list[float] = []
        self.weights: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def _gradient(self) -> Tensor:
        return flat(torch.zeros_like(p) if p.grad is None else p.grad for p in self.model.parameters())

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        before = self._gradient()
        self.weights.append(flat(self.model.parameters()))
        loss = self.inner(part, parts, track_stats, across_ranks)
        self.losses.append(float(loss) * parts)  # equal parts here: back to the mean over the part
        self.gradients.append(self._gradient() - before)
        return loss


def flat(tensors: Any) -> Tensor:
    return torch.cat([t.detach().reshape(-1) for t in tensors])


@dataclass
class Case:
    meta: dict[str, Any]
    arrays: dict[str, Tensor]

    @classmethod
    def read(cls, name: str) -> "Case":
        with np.load(FOLDER / f"{name}.npz") as npz:
            arrays = {key: torch.from_numpy(npz[key]) for key in npz.files}
        return cls(json.loads((FOLDER / f"{name}.json").read_text()), arrays)

    def entry(self) -> tuple[str, dict[str, Any]]:
        """Our entry and its overrides for the recorded hyperparameters."""
        hyper = dict(self.meta["hyper"])
        kind = hyper.pop("optimizer")
        if "betas" in hyper:
            hyper["beta1"], hyper["beta2"] = hyper.pop("betas")
        renamed = {"noise_scale": "scale", "gamma0": "gamma", "weight_decouple": "decoupled"}
        hyper = {
            renamed.get(key, key): value
            for key, value in hyper.items()
            if key not in ("schedule_T", "dampening")
        }
        if kind == "adamw":
            kind, hyper["decoupled"] = "adam", True
        return {"lpf": "lpf-sgd"}.get(kind, kind), hyper

    def run(self, overrides: dict[str, Any]) -> tuple[Tensor, Evaluations, nn.Module]:
        """Theta after every step, the evaluations made, and the model."""
        name, hyper = self.entry()
        entry = Registry().optimizer(name).entry
        assert isinstance(entry, OptimizerSpec)
        model = Problem().double()
        nn.utils.vector_to_parameters(self.arrays["theta0"].clone(), model.parameters())
        noise = Recorded(self.arrays["z"]) if "z" in self.arrays else NormalStream(0)
        context = BuildContext(total_steps=self.meta["hyper"].get("schedule_T", 25), noise=noise)
        resolved = resolve_params(entry.params, {**hyper, **overrides}, name)
        optimizer = entry.build(Parameters.of(model), resolved, context)
        inner = objective_of(model)
        objective = Evaluations(inner, model)
        theta = []
        for step in range(self.meta["steps"]):
            inner.load(step, Batch(inputs=self.arrays["x"], targets=self.arrays["y"]))
            optimizer.step(objective)  # type: ignore[arg-type]
            theta.append(flat(model.parameters()))
        assert inner.meter.sample_gradients == entry.cost(resolved) * 16 * self.meta["steps"]
        return torch.stack(theta), objective, model


def assert_close(ours: Tensor, official: Tensor) -> None:
    error = float((ours - official).abs().max())
    assert error <= TOLERANCE * float(official.abs().max()), error


def variants(name: str) -> list[tuple[str, dict[str, Any], str | None, int]]:
    """(id, overrides, policy of running statistics that it reproduces, evaluations that it leaves out)."""
    if name.startswith("nso"):
        clean = [("clean", {"clean_pass": True}, "bypass", 0)]
        # without the clean pass the weights agree, the statistics are of another point
        return clean if "lambda" in name else [*clean, ("short", {"clean_pass": False}, None, 1)]
    if "sam" in name:
        return [("frozen", {}, "bypass", 0), ("all", {"frozen_stats": False}, "all", 0)]
    return [("all", {}, "all", 0)]


ALL = [
    pytest.param(name, overrides, policy, left_out, id=f"{name}-{kind}")
    for name in CASES
    for kind, overrides, policy, left_out in variants(name)
]


def test_every_case_is_here() -> None:
    assert len(CASES) == 23


@pytest.mark.parametrize(("name", "overrides", "policy", "left_out"), ALL)
def test_trajectory(name: str, overrides: dict[str, Any], policy: str | None, left_out: int) -> None:
    case = Case.read(name)
    theta, evaluations, model = case.run(overrides)
    assert_close(theta, case.arrays["theta"])

    losses = case.arrays["losses"][:, left_out:]
    assert_close(torch.tensor(evaluations.losses, dtype=torch.float64).view_as(losses), losses)
    n = losses.shape[1]
    assert_close(torch.stack(evaluations.weights[:n]), case.arrays["theta_eval_step0"][left_out:])
    assert_close(torch.stack(evaluations.gradients[:n]), case.arrays["grad_eval_step0"][left_out:])

    bn = model.bn1
    if policy is not None:
        assert_close(bn.running_mean, case.arrays[f"bn_running_mean__{policy}"])
        assert_close(bn.running_var, case.arrays[f"bn_running_var__{policy}"])
    if policy == "all":
        assert bn.num_batches_tracked == case.arrays["bn_num_batches_tracked__all"]


def test_gamma_schedule_is_the_released_one() -> None:
    from baselines.lpf_sgd import gamma_at

    case = Case.read("lpf_filter_chunks_cosine")
    ours = torch.tensor([gamma_at(t, 0.0005, 15, 25) for t in range(25)], dtype=torch.float64)
    assert_close(ours, case.arrays["gamma"])
