"""Operations of matrix products and convolutions, against formulas and torch's own counter."""

from __future__ import annotations

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from suite.numerics.flops import Flops


def test_a_product_of_matrices_is_two_operations_a_term() -> None:
    a, b = torch.randn(3, 5), torch.randn(5, 7)
    with Flops() as flops:
        a @ b
    assert flops.total == 2 * 3 * 5 * 7


def test_nothing_is_counted_in_a_pause() -> None:
    a = torch.randn(4, 4)
    with Flops() as flops:
        a @ a
        with flops.pause():
            a @ a
        a @ a
    assert flops.total == 2 * 2 * 4**3


def test_forward_and_backward_count_as_torch_counts_them() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 6 * 6, 10))
    x = torch.randn(2, 3, 8, 8)
    with Flops() as ours:
        model(x).sum().backward()
    model.zero_grad()
    with FlopCounterMode(display=False) as theirs:
        model(x).sum().backward()
    forward = 2 * 2 * (4 * 6 * 6) * (3 * 9) + 2 * 2 * (4 * 6 * 6) * 10
    assert ours.total == theirs.get_total_flops()
    assert forward < ours.total <= 3 * forward  # no gradient of the first layer's input
