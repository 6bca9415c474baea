"""An optimizer around a base optimizer: the common part of SAM, LPF-SGD, NSO and the plain entries."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from suite.flat_params import FlatParams
from suite.objective import Objective


class Wrapper(Optimizer):
    """Computes a gradient from an objective in `evaluate`, then calls the step of `base` with it.

    `param_groups` and `state` are those of the base, so a learning-rate scheduler may hold either one.
    Momentum and weight decay act at the clean weights, on the gradient that `evaluate` leaves in `.grad`.
    Parameters that require a gradient become views of one flat buffer; perturbed weights are written to
    another buffer, so that the clean weights never change and are not restored.

    Args:
        base: a constructed torch optimizer, for instance `SGD(model.parameters(), lr=0.1)`.

    """

    def __init__(self, base: Optimizer) -> None:
        self.base = base
        self.n_steps = 0
        self._flat: FlatParams | None = None
        super().__init__(base.param_groups, base.defaults)
        self._share()

    def _share(self) -> None:
        self.param_groups, self.state, self.defaults = (
            self.base.param_groups,
            self.base.state,
            self.base.defaults,
        )

    @property
    def flat(self) -> FlatParams:
        """The parameters that require a gradient, in the order of the groups."""
        if self._flat is None:
            params = (p for group in self.base.param_groups for p in group["params"] if p.requires_grad)
            self._flat = FlatParams(params)
        return self._flat

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters, as in torch."""
        super().add_param_group(param_group)
        self._flat = None

    def step(self, closure: Objective) -> Tensor:  # type: ignore[override]
        """Take one step.

        Args:
            closure: the objective of the current mini-batch, see `suite.objective`. Gradients are zeroed
                here, before and between its evaluations.

        Returns:
            The batch's loss, a detached 0-dim tensor; each method documents at which weights.

        """
        self.flat.gather()
        self._drop_gradients()
        loss = self.evaluate(closure)
        self._align_gradients()
        self.base.step()
        self.n_steps += 1
        return loss

    @abstractmethod
    def evaluate(self, objective: Objective) -> Tensor:
        """Leave in `.grad` the gradient for the step of the base; return the batch's loss."""

    def state_dict(self) -> dict[str, Any]:
        """Return the base's state dict, with this optimizer's own counter `n_steps` added."""
        return {**self.base.state_dict(), "n_steps": self.n_steps}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the output of `state_dict`, bit for bit."""
        self.base.load_state_dict({key: state_dict[key] for key in ("state", "param_groups")})
        self.n_steps = state_dict["n_steps"]
        self._share()

    def _drop_gradients(self) -> None:
        # None rather than zero: autograd then assigns its own buffers instead of adding to existing ones.
        for p in self.flat.params:
            p.grad = None

    def _align_gradients(self) -> None:
        # Autograd returns gradients in the memory order of their parameters, other code may not; torch's
        # fused CPU kernels pair numbers by memory offset and ignore strides.
        for p in self.flat.params:
            g = p.grad
            if g is not None and g.stride() != p.stride() and not _same_order(g, p):
                p.grad = torch.empty_like(p.data).copy_(g.detach())

    def _gradients(self) -> list[Tensor]:
        return [p.grad for p in self.flat.params if p.grad is not None]

    def _flatten_gradients(self, out: Tensor) -> None:
        params = self.flat.params
        self.flat.flatten([torch.zeros_like(p) if p.grad is None else p.grad for p in params], out)

    def _evaluate_at(
        self,
        views: Sequence[Tensor],
        objective: Objective,
        part: int = 0,
        parts: int = 1,
        track_stats: bool = True,
    ) -> Tensor:
        """Call the objective with the parameters attached to `views` of perturbed weights."""
        self.flat.attach(views)
        try:
            return objective(part, parts, track_stats)
        finally:
            self.flat.attach()


def _same_order(a: Tensor, b: Tensor) -> bool:
    """Whether two tensors of one shape have the same memory order; dimensions of size 1 do not count."""
    return all(n == 1 or i == j for n, i, j in zip(b.shape, a.stride(), b.stride(), strict=True))


class Plain(Wrapper):
    """The base alone: one gradient at the clean weights, then its step."""

    def evaluate(self, objective: Objective) -> Tensor:
        """Evaluate the gradient once, at the clean weights."""
        return objective()
