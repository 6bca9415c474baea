"""Layers computed from plain operations: the same values as torch's, and right second derivatives."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jvp
from torch.nn import functional as F

from suite.numerics.smooth import smooth

N, WIDTH = 8, 6


class Attention(nn.Module):
    """One head of fused attention over four positions."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.k, self.v = (nn.Linear(WIDTH, WIDTH) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        x = x.view(N, 1, 1, WIDTH) * torch.linspace(0.5, 2, 4, dtype=x.dtype).view(4, 1)
        return F.scaled_dot_product_attention(self.q(x), self.k(x), self.v(x)).mean(2).squeeze(1)


class Image(nn.Module):
    """A convolution and a norm of its channels."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(1, 3, (2, 1))
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.convolution(x.view(N, 1, 2, 3))).flatten(1)


class Direct(nn.Module):
    """LayerNorm without torch.nn."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.layer_norm(x, (WIDTH,))


def counted(layer: nn.Module, width: int) -> nn.Module:
    """A norm in eval mode, with statistics that are not those of a new layer."""
    with torch.no_grad():
        layer.running_mean.copy_(torch.linspace(-1, 1, width))  # type: ignore[union-attr, operator]
        layer.running_var.copy_(torch.linspace(0.5, 2, width))  # type: ignore[union-attr, operator]
    return layer.eval()


LAYERS: dict[str, Callable[[], nn.Module]] = {
    "LayerNorm": lambda: nn.LayerNorm(WIDTH),
    "LayerNorm without weights": lambda: nn.LayerNorm(WIDTH, elementwise_affine=False),
    "BatchNorm of the batch": lambda: nn.BatchNorm1d(WIDTH, track_running_stats=False),
    "BatchNorm of images": lambda: Image(nn.BatchNorm2d(3, track_running_stats=False)),
    "BatchNorm in eval mode": lambda: counted(nn.BatchNorm1d(WIDTH), WIDTH),
    "InstanceNorm": lambda: Image(nn.InstanceNorm2d(3, affine=True)),
    "InstanceNorm in eval mode": lambda: Image(counted(nn.InstanceNorm2d(3, track_running_stats=True), 3)),
    "torch.layer_norm": Direct,
    "attention": Attention,
}


class Net:
    """The loss of a layer between two others, as a function of all weights in one vector, in float64."""

    def __init__(self, layer: str) -> None:
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(5, WIDTH), LAYERS[layer](), nn.Tanh(), nn.LazyLinear(3)).double()
        self.x, self.y = torch.randn(N, 5, dtype=torch.float64), torch.arange(N) % 3
        self.model(self.x)  # makes the lazy layer
        self.theta = torch.cat([p.detach().flatten() for p in self.model.parameters()])

    def plain(self, theta: Tensor) -> Tensor:
        named = dict(self.model.named_parameters())
        pieces = torch.split(theta, [p.numel() for p in named.values()])
        values = {name: piece.view(p.shape) for (name, p), piece in zip(named.items(), pieces, strict=True)}
        return F.cross_entropy(functional_call(self.model, values, (self.x,)), self.y)

    def smooth(self, theta: Tensor) -> Tensor:
        with smooth():
            return self.plain(theta)


@pytest.mark.parametrize("layer", LAYERS)
def test_values_and_gradients_are_those_of_the_fused_layers(layer: str) -> None:
    net = Net(layer)
    # two roundings of the same formula in float64
    torch.testing.assert_close(net.smooth(net.theta), net.plain(net.theta), rtol=1e-12, atol=1e-12)
    theta = net.theta.requires_grad_()
    (plain,) = torch.autograd.grad(net.plain(theta), theta)
    (ours,) = torch.autograd.grad(net.smooth(theta), theta)
    torch.testing.assert_close(ours, plain, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("layer", LAYERS)
def test_hessian_products_are_right_in_every_mix_of_modes(layer: str) -> None:
    net = Net(layer)
    f, theta, v = net.smooth, net.theta, torch.randn_like(net.theta)
    step = 1e-5
    differences = (grad(f)(theta + step * v) - grad(f)(theta - step * v)) / (2 * step)
    products = {
        "forward over reverse": jvp(grad(f), (theta,), (v,))[1],
        "reverse over reverse": grad(lambda w: grad(f)(w) @ v)(theta),
        "reverse over forward": grad(lambda w: jvp(f, (w,), (v,))[1])(theta),
    }
    for found in products.values():
        # central differences err by step^2 / 6 of a third derivative and by 1e-16 / step of rounding
        torch.testing.assert_close(found, differences, rtol=1e-6, atol=1e-7)


def test_running_statistics_are_taken_up_as_ever() -> None:
    torch.manual_seed(0)
    ours, theirs = nn.BatchNorm1d(WIDTH), nn.BatchNorm1d(WIDTH)
    x = torch.randn(N, WIDTH)
    with smooth():
        ours(x)
    theirs(x)
    for name, value in theirs.state_dict().items():
        torch.testing.assert_close(ours.state_dict()[name], value, rtol=0, atol=0)
