"""AdaBelief against a plain reference written from the paper's Algorithm 2 and the released options."""

import math

import pytest
import torch
from torch import Tensor, nn

from baselines.adabelief import BLOCK, AdaBelief, rectification
from tests.baselines.helpers import resolve

OPTIONS: list[dict] = [
    {},
    {"weight_decay": 0.01},
    {"weight_decay": 0.01, "decoupled": True},
    {"weight_decay": 0.01, "decoupled": True, "fixed_decay": True},
    {"amsgrad": True},
    {"rectify": True},
    {"rectify": True, "degenerated_to_sgd": False},
    {"rectify": True, "amsgrad": True, "eps": 1e-16, "weight_decay": 0.01, "decoupled": True},
]


def reference(w: Tensor, gradients: list[Tensor], lr: float, eps: float, o: dict) -> Tensor:
    b1, b2 = 0.9, 0.999
    decay = o.get("weight_decay", 0.0)
    m, s, largest = (torch.zeros_like(w) for _ in range(3))
    for t, gradient in enumerate(gradients, 1):
        g = gradient
        if o.get("decoupled"):
            w = w - w * decay * (1.0 if o.get("fixed_decay") else lr)
        else:
            g = g + decay * w
        m = b1 * m + (1 - b1) * g
        s = b2 * s + (1 - b2) * (g - m) ** 2 + eps
        largest = torch.maximum(largest, s)
        m_hat = m / (1 - b1**t)
        if not o.get("rectify"):
            s_hat = (largest if o.get("amsgrad") else s) / (1 - b2**t)
            w = w - lr * m_hat / (s_hat.sqrt() + eps)
            continue
        limit = 2 / (1 - b2) - 1
        length = limit - 2 * t * b2**t / (1 - b2**t)
        if length >= 5:
            top = (1 - b2**t) * (length - 4) * (length - 2) * limit
            r = math.sqrt(top / ((limit - 4) * (limit - 2) * length))
            w = w - lr * r * m_hat / (s.sqrt() + eps)
        elif o.get("degenerated_to_sgd", True):
            w = w - lr * m_hat
    return w


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_against_the_plain_reference(options: dict) -> None:
    generator = torch.Generator().manual_seed(77)
    shapes = [(3, 4), (5,), ()]
    starts = [torch.randn(s, generator=generator, dtype=torch.float64) for s in shapes]
    gradients = [
        [torch.randn(s, generator=generator, dtype=torch.float64) for _ in range(30)] for s in shapes
    ]
    params = [nn.Parameter(start.clone()) for start in starts]
    options = {"eps": 1e-8, **options}
    optimizer = AdaBelief(params, lr=0.01, **options)
    for step in range(30):
        for p, g in zip(params, gradients, strict=True):
            p.grad = g[step].clone()
        optimizer.step()
    for p, start, g in zip(params, starts, gradients, strict=True):
        expected = reference(start, g, 0.01, options["eps"], options)
        torch.testing.assert_close(p.detach(), expected, rtol=1e-12, atol=1e-12)  # rounding of 30 steps


def test_the_first_five_steps_of_rectification_are_sgds() -> None:
    assert [rectification(0.999, t) is None for t in range(1, 8)] == [True] * 5 + [False] * 2


def test_large_tensors_in_pieces_agree_with_whole_ones() -> None:
    """The same numbers as one large tensor, as channels_last, and as many small tensors."""
    generator = torch.Generator().manual_seed(3)
    shape = (16, 8, 3, 3)
    n = BLOCK // 1152 + 2
    start = torch.randn((n * 16, 8, 3, 3), generator=generator)
    gradients = [torch.randn(start.shape, generator=generator) for _ in range(3)]
    assert start.numel() > BLOCK
    whole = nn.Parameter(start.clone())
    last = nn.Parameter(start.clone().contiguous(memory_format=torch.channels_last))
    other_order = nn.Parameter(start.clone())
    small = [nn.Parameter(piece.clone()) for piece in start.split(16)]
    assert small[0].shape == shape
    optimizers = [AdaBelief(params, weight_decay=0.1) for params in ([whole], [last], [other_order], small)]
    for g in gradients:
        whole.grad = g.clone()
        last.grad = g.contiguous(memory_format=torch.channels_last)
        other_order.grad = g.contiguous(memory_format=torch.channels_last)
        for p, piece in zip(small, g.split(16), strict=True):
            p.grad = piece.clone()
        for optimizer in optimizers:
            optimizer.step()
    for other in (last, other_order, torch.cat(small)):
        # the same operations on each number; vector and scalar code may differ in the last bit
        torch.testing.assert_close(other.detach(), whole.detach(), rtol=1e-6, atol=1e-7)


def test_a_parameter_without_gradients_counts_its_own_steps() -> None:
    often, seldom = (nn.Parameter(torch.ones(3, dtype=torch.float64)) for _ in range(2))
    optimizer = AdaBelief([often, seldom], lr=0.1)
    g = torch.tensor([1.0, -2.0, 0.5], dtype=torch.float64)
    for step in range(4):
        often.grad = g.clone()
        seldom.grad = g.clone() if step % 2 else None
        optimizer.step()
    start = torch.ones(3, dtype=torch.float64)
    torch.testing.assert_close(often.detach(), reference(start, [g] * 4, 0.1, 1e-8, {}), rtol=1e-12, atol=0)
    torch.testing.assert_close(seldom.detach(), reference(start, [g] * 2, 0.1, 1e-8, {}), rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("preset", "expected"),
    [
        ("cifar", {"eps": 1e-8, "weight_decay": 5e-4, "decoupled": False, "rectify": False}),
        ("0.0.5", {"eps": 1e-8, "weight_decay": 0.0, "decoupled": False, "rectify": False}),
        (
            "0.2",
            {
                "eps": 1e-16,
                "weight_decay": 0.0,
                "decoupled": True,
                "rectify": True,
                "degenerated_to_sgd": True,
            },
        ),
    ],
)
def test_presets(preset: str, expected: dict) -> None:
    assert expected.items() <= resolve("adabelief", {"preset": preset}).items()
    assert resolve("adabelief", {"preset": preset, "eps": 1e-5})["eps"] == 1e-5  # an explicit value wins
