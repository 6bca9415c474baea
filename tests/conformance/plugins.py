"""Writes plugin files from the scaffold: with the maths filled in, and with one thing broken."""

from __future__ import annotations

from pathlib import Path

from suite.conformance import Check, check_optimizer
from suite.entries.registry import Found, Registry
from suite.entries.scaffold import scaffold

UNWRITTEN = 'raise SteppeError("the update rule is still to be written'
UPDATE = """\
        moments = self.state[p]
        if not moments:
            moments["momentum"] = torch.zeros_like(p)
        moments["momentum"].mul_(0.9).add_(grad)
        p.add_(moments["momentum"], alpha=-group["lr"])
"""
"""The maths that a user would fill in: SGD with momentum."""

INIT = '        super().__init__(params, {"lr": lr, "weight_decay": weight_decay})\n'
UPDATE_LINE = '        p.add_(moments["momentum"], alpha=-group["lr"])\n'
EMA = """\
        moments.setdefault("ema", p.detach().clone()).lerp_(p, 0.1)
"""
"""An average of the weights, as a further line of it."""


def write(folder: Path, kind: str = "optimizer", name: str = "mine") -> Path:
    """Write the bare scaffold as a plugin file."""
    return scaffold(kind, name, folder / f"{name.replace('-', '_')}.py", Registry())


def fill(path: Path, update: str = UPDATE) -> Path:
    """Put an update rule in place of the line that raises."""
    lines = path.read_text().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if UNWRITTEN in line)
    lines[place] = update
    path.write_text("".join(lines))
    return path


def swap(path: Path, old: str, new: str) -> Path:
    """Replace one piece of the file, which must be there."""
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new))
    return path


def found(path: Path, name: str = "mine") -> Found:
    """Load the entry of that plugin file."""
    return Registry([path]).optimizer(name)


HEAD = '''\
"""A plugin of the tests."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from suite.flat_params import FlatParams
from suite.schedule import SHARED
from suite.space import LogUniform
from suite.spec import OptimizerSpec, Param

'''

TAIL = """

OPTIMIZERS = [
    OptimizerSpec(
        name="mine",
        version="1",
        summary="a plugin of the tests",
        source="unpublished",
        params={{"lr": Param({lr}, "learning rate", low=0, search=LogUniform(1e-4, 1.0)), **SHARED}},
        cost=lambda hyper: {cost},
        build={build},
        {rest}
    )
]
"""

TWO_CALLS = '''\
class Climber(torch.optim.Optimizer):
    """The two-call shape of popular SAM code: climb, come back, let a base optimizer step.

    What it keeps of the base lies outside of its own state, and every call of the closure is like any other.
    """

    def __init__(self, params, base, rho=0.05, **options):
        super().__init__(params, {{"rho": rho, **options}})
        self.base_optimizer = base(self.param_groups, **options)
        self.param_groups = self.base_optimizer.param_groups

    @torch.no_grad()
    def first_step(self, zero_grad=False):
        grads = [p.grad.norm() for group in self.param_groups for p in group["params"] if p.grad is not None]
        norm = torch.stack(grads).norm()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    self.state[p]["old_p"] = p.data.clone()
                    p.add_(p.grad, alpha=float(group["rho"] / (norm + 1e-12)))
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def second_step(self, zero_grad=False):
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.data = self.state[p]["old_p"]
        self.base_optimizer.step()
        if zero_grad:
            self.zero_grad()

    @torch.no_grad()
    def step(self, closure=None):
        closure = torch.enable_grad()(closure)
{first}        self.first_step(zero_grad=True)
        closure()
        self.second_step()
{last}
    def load_state_dict(self, state_dict):
        super().load_state_dict(state_dict)
        self.base_optimizer.param_groups = self.param_groups


def build(params, hyper, context):
    return Climber(params.tensors, torch.optim.SGD, lr=hyper["lr"], momentum=0.9)
'''
"""`first` and `last` are empty in published code, whose loop computes the first gradient before `step`."""

SPSA = '''\
class Spsa(torch.optim.Optimizer):
    """A step along a random direction z, by the difference of the losses at w + e z and w - e z."""

    def __init__(self, params, lr, noise):
        super().__init__(params, {"lr": lr})
        self.flat, self.noise, self.n_steps = FlatParams(params), noise, 0

    @torch.no_grad()
    def step(self, objective):
        self.flat.gather()
        z = self.noise.fill_(torch.empty_like(self.flat.theta), self.n_steps)
        losses = []
        for sign in (1.0, -1.0):
            self.flat.attach(self.flat.views(self.flat.theta + sign * 1e-3 * z))
            losses.append(objective.loss())
            self.flat.attach()
        self.flat.theta.sub_(z, alpha=float(self.param_groups[0]["lr"] * (losses[0] - losses[1]) / 2e-3))
        self.n_steps += 1
        return (losses[0] + losses[1]) / 2

    def state_dict(self):
        return {**super().state_dict(), "n_steps": self.n_steps}

    def load_state_dict(self, state):
        super().load_state_dict({key: state[key] for key in ("state", "param_groups")})
        self.n_steps = state["n_steps"]


def build(params, hyper, context):
    return Spsa(params.tensors, hyper["lr"], context.noise)
'''

HESSIAN = '''\
class Damped(torch.optim.Optimizer):
    """Gradient descent, less lr times half the Hessian's product with the gradient: by the function alone."""

    def __init__(self, params, lr):
        super().__init__(params, {"lr": lr})
        self.flat = FlatParams(params)

    def step(self, objective):
        self.flat.gather()
        slope = torch.func.grad_and_value(objective.function())
        theta = self.flat.theta
        (gradient, loss), (product, _) = torch.func.jvp(slope, (theta,), (slope(theta)[0],))
        lr = self.param_groups[0]["lr"]
        theta.sub_(gradient - lr / 2 * product, alpha=lr)
        return loss.detach()


def build(params, hyper, context):
    return Damped(params.tensors, hyper["lr"])
'''
"""One gradient and, forward over reverse, a gradient with its derivative: 1 + 3 gradients in the limit."""


def plugin(folder: Path, body: str, *, lr: str = "0.1", cost: str = "1", rest: str = "") -> Path:
    """Write a plugin file with that class and its `build`; `rest` are further fields of its entry."""
    path = folder / "mine.py"
    path.write_text(HEAD + body + TAIL.format(lr=lr, cost=cost, build="build", rest=rest))
    return path


def judged(folder: Path, body: str, **options: str) -> dict[str, Check]:
    return {check.promise: check for check in check_optimizer(found(plugin(folder, body, **options)))}


def broken(checks: dict[str, Check]) -> set[str]:
    return {promise for promise, check in checks.items() if not check.ok}
