"""Hessian-vector products against finite differences of the gradient, layer by layer, and autograd."""

import pytest
import torch
from torch import nn
from torch.autograd.functional import hessian
from torch.func import functional_call

from suite.sharpness.evaluation import trainable
from suite.sharpness.hvp import Hessian
from tests.suite.fake_problems import point as make_point

LAYERS = {
    "batchnorm-eval": (lambda: nn.BatchNorm1d(6), False),
    "batchnorm-eval-plain": (lambda: nn.BatchNorm1d(6, affine=False), False),
    "batchnorm-train": (lambda: nn.BatchNorm1d(6), True),
    "batchnorm-untracked": (lambda: nn.BatchNorm1d(6, track_running_stats=False), False),
    "layernorm": (lambda: nn.LayerNorm(6), False),
    "groupnorm": (lambda: nn.GroupNorm(2, 6), False),
    "rmsnorm": (lambda: nn.RMSNorm(6), False),
    "gelu": (nn.GELU, False),
    "silu": (nn.SiLU, False),
    "tanh": (nn.Tanh, False),
    "softmax": (lambda: nn.Softmax(1), False),
}


def point_of(layer, training):
    torch.manual_seed(3)
    model = nn.Sequential(nn.Linear(5, 6), layer(), nn.Tanh(), nn.Linear(6, 3)).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm1d) and module.running_mean is not None:
            module.running_mean.normal_()
            module.running_var.uniform_(0.5, 2.0)
    model.train(training)
    return make_point(model, torch.randn(7, 5).double(), torch.randint(0, 3, (7,)), seed=0)


def gradient(point, values):
    outputs = functional_call(point.model, values, (point.batch.inputs,))
    losses = point.problem.losses(outputs, point.batch)
    return torch.cat([g.flatten() for g in torch.autograd.grad(losses.mean(), list(values.values()))])


@pytest.mark.parametrize("name", LAYERS)
def test_product_is_the_finite_difference_of_the_gradient(name):
    point = point_of(*LAYERS[name])
    weights = {name: p.detach().clone() for name, p in trainable(point.model).items()}
    vector = torch.randn(sum(p.numel() for p in weights.values()), dtype=torch.float64)
    (product,) = Hessian(point).products(point.batch, [vector])
    pieces = dict(zip(weights, vector.split([p.numel() for p in weights.values()]), strict=True))
    step = 1e-5

    def at(t):
        moved = {k: (p + t * pieces[k].view_as(p)).requires_grad_() for k, p in weights.items()}
        return gradient(point, moved)

    difference = (at(step) - at(-step)) / (2 * step)
    # truncation ~ step^2 = 1e-10 times third derivatives, which are 1e3 where a norm group varies little
    assert float((product - difference).norm()) <= 1e-6 * float(difference.norm())


def test_products_form_the_full_hessian():
    point = point_of(nn.GELU, False)
    names = list(trainable(point.model))
    shapes = [p.shape for p in point.model.parameters()]

    def loss(flat):
        pieces = flat.split([s.numel() for s in shapes])
        values = {n: p.view(s) for n, p, s in zip(names, pieces, shapes, strict=True)}
        outputs = functional_call(point.model, values, (point.batch.inputs,))
        return point.problem.losses(outputs, point.batch).mean()

    flat = torch.cat([p.detach().flatten() for p in point.model.parameters()])
    expected = hessian(loss, flat)
    found = torch.stack(list(Hessian(point).products(point.batch, torch.eye(len(flat)).double())))
    assert torch.allclose(found, expected, rtol=0, atol=1e-13)  # a dozen roundings of numbers below 1


def test_channels_last_weights_give_the_same_curvature():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.GELU(), nn.Flatten(), nn.Linear(16, 3))
    model.double().eval()
    inputs, targets = torch.randn(5, 3, 4, 4).double(), torch.randint(0, 3, (5,))

    def trace(point):
        size = Hessian(point).size
        products = Hessian(point).products(point.batch, torch.eye(size).double())
        return sum(float(row[i]) for i, row in enumerate(products))

    plain = trace(make_point(model, inputs, targets, seed=0))
    turned = model.to(memory_format=torch.channels_last)
    assert trace(make_point(turned, inputs, targets, seed=0)) == pytest.approx(
        plain, rel=1e-12
    )  # order of sums


def test_frozen_weights_are_constants():
    point = point_of(nn.Tanh, False)
    point.model[0].requires_grad_(False)
    assert Hessian(point).size == 6 * 3 + 3


def test_a_loss_that_is_linear_in_the_weights_has_no_curvature():
    linear = nn.Linear(4, 1).eval()
    point = make_point(linear, torch.randn(3, 4), torch.zeros(3), 0, losses=lambda out, _: out[:, 0])
    (product,) = Hessian(point).products(point.batch, [torch.ones(5)])
    assert torch.equal(product, torch.zeros(5))
