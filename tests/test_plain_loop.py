from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from tests import plain_loop


def test_the_plain_loop_learns() -> None:
    """A few steps separate two classes, dark and bright; chance does not."""
    torch.manual_seed(0)
    y = torch.arange(64) % 2
    x = (60 + 120 * y.view(-1, 1, 1, 1) + torch.randint(-40, 40, (64, 3, 32, 32))).to(torch.uint8)
    model = nn.Sequential(nn.AvgPool2d(8), nn.Flatten(), nn.Linear(48, 2))
    loader = DataLoader(plain_loop.Images(x, y, plain_loop.AUGMENTED), 16, shuffle=True)
    plain_loop.train(model, loader, epochs=5, lr=0.05)
    # 64 fair coins give 56 heads or more with probability 3e-10.
    assert plain_loop.accuracy(model, plain_loop.Images(x, y, plain_loop.PLAIN)) >= 56 / 64


def test_its_schedule_warms_up_and_ends_at_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    x, y = torch.zeros(40, 3, 32, 32, dtype=torch.uint8), torch.zeros(40, dtype=torch.int64)
    model = nn.Sequential(nn.AvgPool2d(32), nn.Flatten(), nn.Linear(3, 2))
    seen: list[float] = []
    step = torch.optim.SGD.step

    def spy(self: torch.optim.SGD, *args: object) -> object:
        seen.append(self.param_groups[0]["lr"])
        return step(self)

    monkeypatch.setattr(torch.optim.SGD, "step", spy)
    plain_loop.train(model, DataLoader(plain_loop.Images(x, y, plain_loop.PLAIN), 1), epochs=1)
    # 40 steps, of which 2 warm up; halfway through the rest (step 21) the cosine factor is 1/2.
    assert seen[0] == 0.05
    assert max(seen) == seen[1] == seen[2] == 0.1
    assert abs(seen[21] - 0.05) < 1e-9
    assert 0 < seen[-1] < 0.001
