"""Measures against the stored reference values (tests/golden/measures.*), in float64."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from suite.sharpness import lambda_max, lpf, measure, subset_loss
from suite.sharpness.evaluation import flat_copy
from suite.sharpness.hvp import Hessian
from suite.sharpness.lambda_max import lanczos
from suite.sharpness.lpf import noisy_losses
from tests.suite.fake_problems import point as make_point

GOLDEN = Path(__file__).parents[2] / "golden"
TIGHT = 1e-10
"""The reference itself carries rounding of about 1e-14 (its `hessian_asymmetry_max` is 5e-15)."""


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(4)
        self.conv2 = nn.Conv2d(4, 6, 3, padding=1)
        self.fc = nn.Linear(6, 5)

    def forward(self, x):
        x = torch.relu(self.bn1(self.conv1(x)))
        return self.fc(torch.relu(self.conv2(x)).mean((2, 3)))


@pytest.fixture(scope="module")
def golden():
    arrays = dict(np.load(GOLDEN / "measures.npz"))
    return {name: torch.from_numpy(value) for name, value in arrays.items()}


@pytest.fixture
def point(golden):
    model = Net().double()
    layout = json.loads((GOLDEN / "measures.json").read_text())["parameters"]
    state = {
        e["name"]: golden["theta"][e["offset"] : e["offset"] + e["size"]].reshape(e["shape"]) for e in layout
    }
    state |= {f"bn1.running_{key}": golden[f"bn_running_{key}"] for key in ("mean", "var")}
    state["bn1.num_batches_tracked"] = torch.tensor(1)
    model.load_state_dict(state)
    return make_point(model.eval(), golden["x"], golden["y"], seed=0, batch_size=4)


def test_loss(point, golden):
    assert subset_loss(point).loss == pytest.approx(float(golden["eval_loss"]), rel=TIGHT)


@pytest.mark.parametrize("mode", ["eval", "train"])
def test_hessian_vector_product(point, golden, mode):
    point.model.train(mode == "train")
    (product,) = Hessian(point).products(point.batch, [golden["hvp_vector"]])
    expected = golden[f"{mode}_hessian_vector_product"]
    assert float((product - expected).abs().max()) <= TIGHT * float(expected.abs().max())


def test_diagonal_and_trace_by_unit_vectors(point, golden):
    unit = torch.eye(373, dtype=torch.float64)
    products = Hessian(point).products(point.batch, unit)
    diagonal = torch.stack([row[i] for i, row in enumerate(products)])
    assert float((diagonal - golden["eval_hessian_diag"]).abs().max()) <= TIGHT * float(diagonal.abs().max())
    assert float(diagonal.sum()) == pytest.approx(float(golden["eval_hessian_trace"]), rel=TIGHT)


@pytest.mark.parametrize("groups", [1, 3])
def test_lanczos_to_convergence(point, golden, groups):
    hessian = Hessian(point)
    start = torch.ones(373, dtype=torch.float64)
    parts = [point.batch[rows] for rows in torch.arange(16).chunk(groups)]
    top = lanczos(hessian, parts, start, rtol=1e-12, iterations=80)
    # a Rayleigh quotient errs by residual^2 / gap, far below the residual bound of 1e-12
    assert top.value == pytest.approx(float(golden["eval_hessian_lambda_max"]), rel=TIGHT)
    (image,) = hessian.products(point.batch, [top.vector])
    assert float((image - top.value * top.vector).norm()) <= 1e-5 * top.value
    sizes = torch.tensor([float(len(part)) for part in parts], dtype=torch.float64)
    assert float((sizes / 16) @ top.by_group) == pytest.approx(top.value, rel=TIGHT)


def test_lambda_max_is_within_its_own_bound(point, golden):
    found = measure(point, ["lambda_max"])["lambda_max"]
    true = float(golden["eval_hessian_lambda_max"])
    assert abs(found.value - true) <= found.se_probes + 1e-12 * true  # rounding
    assert found.se_probes <= lambda_max.RTOL * true
    assert found.se_examples > 0
    assert found.n == 16


def test_trace_is_within_its_errors(point, golden):
    found = measure(point, ["hessian_trace"])["hessian_trace"]
    true = float(golden["eval_hessian_trace"])
    assert abs(found.value - true) <= 4 * found.se_probes  # four standard errors, one fixed seed
    assert found.se_probes < true


def test_filter_noise_of_given_normals(point, golden):
    weights = flat_copy(point.model)
    found = [float(noisy_losses(point, weights, z.double(), point.batch).mean())
             for z in golden["lpf_z_float16"][:40]]  # fmt: skip
    expected = golden["eval_lpf_filter_losses"][:40]
    assert float((torch.tensor(found, dtype=torch.float64) - expected).abs().max()) <= TIGHT


def test_lpf_agrees_with_two_thousand_draws(point, golden):
    found = lpf.estimate(point, pairs=60)  # the loss is skewed here: few pairs see its tail too rarely
    draws = golden["eval_lpf_filter_losses"]
    spread = float(draws.std() / len(draws) ** 0.5)
    error = abs(found["lpf"].value - float(golden["eval_lpf_filter"]))
    assert error <= 4 * (found["lpf"].se_probes ** 2 + spread**2) ** 0.5
    difference = found["lpf"].value - found["lpf_difference"].value
    assert difference == pytest.approx(float(golden["eval_loss"]), rel=TIGHT)
