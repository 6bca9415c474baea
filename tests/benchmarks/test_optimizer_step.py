"""What optimizer steps cost, side by side in one run.

    STEPPE_OFFICIAL=<folder> pytest tests/benchmarks/test_optimizer_step.py --benchmark-enable -n0

On a machine that others use as well, `--benchmark-timer=time.process_time` leaves out the waiting.

(a) outside the gradients: ResNet-18's 62 tensors, float32, one thread, against the official implementation
    around the same base (torch.optim.SGD, momentum and weight decay). A gradient is delivered as autograd
    does it: a ready buffer where `.grad` is None, else added to what is there. `default` rows use torch's
    default flags of the base on both sides; `fused` rows its fused kernels, which our entries choose.
(b) whole steps on CIFAR's ResNet-20, batch 128, and (c) on an MLP 784-128-10, against as many bare gradients
    (gradients dropped, forward, backward), which are timed right before each round.

The ratios follow the table.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, Optimizer

from baselines.adabelief import AdaBelief
from baselines.lpf_sgd import LPFSGD
from baselines.nso import NSO
from baselines.sam import SAM
from baselines.wrapper import Plain
from suite.batch import Batch
from tests.benchmarks import official
from tests.benchmarks.conftest import Ratios
from tests.plain_objective import objective_of

ROUNDS = 15
BASE: dict[str, Any] = {"lr": 1e-6, "momentum": 0.9, "weight_decay": 5e-4}
FLAGS: dict[str, dict[str, Any]] = {"default": {}, "fused": {"fused": True}}


def resnet18_parameters() -> list[nn.Parameter]:
    """Parameters in torchvision's shapes: 62 tensors, 11,689,512 numbers."""
    shapes: list[tuple[int, ...]] = [(64, 3, 7, 7), (64,), (64,)]
    before = 64
    for width in (64, 128, 256, 512):
        for block in range(2):
            shapes += [(width, before, 3, 3), (width,), (width,), (width, width, 3, 3), (width,), (width,)]
            if block == 0 and before != width:
                shapes += [(width, before, 1, 1), (width,), (width,)]
            before = width
    shapes += [(1000, 512), (1000,)]
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(0.05 * torch.randn(shape, generator=generator)) for shape in shapes]


class Gradients:
    """Delivers ready gradients, a buffer for each evaluation of a step, as autograd would."""

    def __init__(self, params: list[nn.Parameter], evaluations: int) -> None:
        self.params = params
        self.source = [1e-2 * torch.randn_like(p) for p in params]
        self.ready = [[torch.empty_like(p) for p in params] for _ in range(evaluations)]

    def refill(self) -> None:
        """Make the buffers new again: optimizers may use up what they were given. Not timed."""
        for buffers in self.ready:
            torch._foreach_copy_(buffers, self.source)

    def deliver(self, evaluation: int) -> None:
        with torch.no_grad():
            for p, ready in zip(self.params, self.ready[evaluation], strict=True):
                if p.grad is None:
                    p.grad = ready
                else:
                    p.grad.add_(ready)


class Delivering:
    """`Gradients` as an objective."""

    def __init__(self, gradients: Gradients) -> None:
        self.gradients = gradients
        self.loss = torch.zeros(())
        self.calls = 0

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        self.gradients.deliver(self.calls)
        self.calls += 1
        return self.loss


CIFAR: dict[str, Any] = {"lr": 1e-6, "eps": 1e-8, "weight_decay": 5e-4, "rectify": False}
PACKAGE: dict[str, Any] = {"lr": 1e-6, "eps": 1e-16, "weight_decay": 1e-2, "rectify": True}

Official = Callable[[list[nn.Parameter], official.Deliver, dict[str, Any]], official.Step]
Ours = Callable[[Optimizer], Optimizer]

WRAPPERS: dict[str, tuple[int, float, Official, Ours]] = {
    # evaluations of the official step, target, official, ours
    "sam": (2, 0.80, official.sam, lambda base: SAM(base, rho=0.05)),
    "nso": (3, 0.45, official.nso, lambda base: NSO(base, sigma=0.01)),
    "lpf-sgd M=1": (1, 0.85, lambda p, d, b: official.lpf_sgd(p, d, b, 1), lambda base: LPFSGD(base)),
    "lpf-sgd M=8": (
        8,
        0.70,
        lambda p, d, b: official.lpf_sgd(p, d, b, 8),
        lambda base: LPFSGD(base, parts=8),
    ),
}


def stepper(optimizer: Optimizer, gradients: Gradients) -> Callable[[], object]:
    def step() -> object:
        return optimizer.step(Delivering(gradients))  # type: ignore[arg-type,func-returns-value]

    return step


@pytest.mark.parametrize("flags", FLAGS)
@pytest.mark.parametrize("side", ["official", "ours"])
@pytest.mark.parametrize("method", WRAPPERS)
@pytest.mark.benchmark(group="a: outside the gradients, 11.7 M parameters", warmup=False)
def test_outside(method: str, side: str, flags: str, timed: Callable[..., None], ratios: Ratios) -> None:
    torch.set_num_threads(1)
    evaluations, target, make_official, make_ours = WRAPPERS[method]
    params = resnet18_parameters()
    base = BASE | FLAGS[flags]
    if side == "official":
        gradients = Gradients(params, evaluations)
        step: Callable[[], object] = make_official(params, gradients.deliver, base)
    else:
        gradients = Gradients(params, evaluations)
        step = stepper(make_ours(SGD(params, **base)), gradients)
        row = f"a {method} ours"
        ratios.want(f"{row}, {flags}", f"a {method} official, {flags}", target=target)
        if flags == "fused":
            ratios.want(f"{row}, fused", f"a {method} official, default", target=target)
    timed(f"a {method} {side}, {flags}", step, gradients.refill, ROUNDS)


@pytest.mark.parametrize("side", ["official", "ours"])
@pytest.mark.parametrize(
    ("preset", "hyper", "decoupled"), [("cifar", CIFAR, False), ("0.2", PACKAGE, True)], ids=["cifar", "0.2"]
)
@pytest.mark.benchmark(group="a: outside the gradients, 11.7 M parameters", warmup=False)
def test_adabelief_outside(
    preset: str, hyper: dict[str, Any], decoupled: bool, side: str, timed: Callable[..., None], ratios: Ratios
) -> None:
    torch.set_num_threads(1)
    params = resnet18_parameters()
    gradients = Gradients(params, 1)
    if side == "official":
        hyper = {**hyper, "weight_decouple": decoupled}
        step: Callable[[], object] = official.adabelief(params, gradients.deliver, hyper)
    else:
        step = stepper(AdaBelief(params, **hyper, decoupled=decoupled), gradients)
        ratios.want(f"a adabelief {preset} ours", f"a adabelief {preset} official", target=0.80)
    timed(f"a adabelief {preset} {side}", step, gradients.refill, ROUNDS)


@pytest.mark.benchmark(group="a: outside the gradients, 11.7 M parameters", warmup=False)
def test_floor_of_a_gaussian_draw(timed: Callable[..., None]) -> None:
    torch.set_num_threads(1)
    noise = torch.empty(sum(p.numel() for p in resnet18_parameters()))
    timed("a one Gaussian draw", noise.normal_, lambda: None, ROUNDS)


def mlp() -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 10))


def resnet20() -> nn.Module:
    from suite.models.resnet import cifar_resnet

    return cifar_resnet(20)


NETWORKS: dict[str, tuple[str, Callable[[], nn.Module], tuple[int, ...], int, int]] = {
    # name, model, shape of an example, rounds, steps in a round
    "b": ("resnet20", resnet20, (3, 32, 32), 15, 1),
    "c": ("mlp", mlp, (1, 28, 28), 40, 20),
}

WHOLE: dict[str, tuple[Ours, int, int]] = {
    # optimizer, gradients of the batch a step, parts of each
    "sgd": (lambda base: Plain(base), 1, 1),
    "sam": (lambda base: SAM(base, rho=0.05), 2, 1),
    "nso": (lambda base: NSO(base, sigma=0.01), 2, 1),
    "lpf-sgd M=1": (lambda base: LPFSGD(base), 1, 1),
    "lpf-sgd M=8": (lambda base: LPFSGD(base, parts=8), 1, 8),
}

TARGETS = {
    ("b", "sam"): 1.03,
    ("b", "nso"): 1.03,
    ("b", "lpf-sgd M=1"): 1.03,
    ("c", "sam"): 1.35,
    ("c", "nso"): 1.60,
    ("c", "lpf-sgd M=1"): 2.2,
    ("c", "lpf-sgd M=8"): 2.8,
}


@pytest.mark.parametrize("method", WHOLE)
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.benchmark(group="b, c: whole steps, batch 128", warmup=False)
def test_whole_step(network: str, method: str, timed_in_pairs: Callable[..., None], ratios: Ratios) -> None:
    torch.set_num_threads(1)
    name, build, shape, rounds, iterations = NETWORKS[network]
    make, n_gradients, parts = WHOLE[method]
    torch.manual_seed(0)
    model = build().to(memory_format=torch.channels_last)
    inputs = torch.randn(128, *shape).to(memory_format=torch.channels_last)
    optimizer = make(SGD(model.parameters(), **BASE, fused=True))
    objective = objective_of(model)
    objective.load(0, Batch(inputs=inputs, targets=torch.arange(128) % 10))

    def gradients() -> None:
        for part in range(parts):
            for p in model.parameters():
                p.grad = None
            objective(part, parts)

    def step() -> None:
        optimizer.step(objective)  # type: ignore[arg-type]

    prefix, reference = f"{network} {name}", "8 gradients of 16" if parts == 8 else "gradient"
    timed_in_pairs(f"{prefix} {method}", step, f"{prefix} {reference}", gradients, rounds, iterations)
    ratios.want(f"{prefix} {method}", f"{prefix} {reference}", n_gradients, TARGETS.get((network, method)))
