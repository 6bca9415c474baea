"""Finds in an optimizer's state_dict what has the form of weights, and says how like the weights it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

Members = dict[int | None, Tensor]
"""Tensors of one name, by the number of the parameter that each is of; None: it is of none, or of all."""


@dataclass(frozen=True)
class Reading:
    """A state as one vector, with the parameters whose numbers it may hold, in that order."""

    vector: Tensor
    order: tuple[int, ...]
    by_memory: bool = False
    """Whether each parameter's numbers are in the order of memory, as in flat buffers, and not by rows."""

    def lay_out(self, weights: Sequence[Tensor]) -> Tensor:
        """Join weights to a vector of the same order."""
        chosen = [weights[number] for number in self.order]
        turned = [w.permute(0, 2, 3, 1) if self.by_memory and w.dim() == 4 else w for w in chosen]
        return torch.cat([w.detach().flatten() for w in turned])


@dataclass(frozen=True)
class Kept:
    """A state that may be weights: in one of its readings."""

    readings: tuple[Reading, ...]

    def equals(self, weights: Sequence[Tensor]) -> bool:
        """Whether it holds exactly these weights, in whatever precision."""
        pairs = [(one.vector, one.lay_out(weights)) for one in self.readings]
        return any(torch.equal(mine.to(theirs.dtype), theirs) for mine, theirs in pairs)

    def cosine(self, weights: Sequence[Tensor]) -> float:
        """Return its cosine with the weights."""
        pairs = [(one.vector.double(), one.lay_out(weights).double()) for one in self.readings]
        return max(float(torch.nn.functional.cosine_similarity(a, b, dim=0)) for a, b in pairs)


def kept(optimizer: torch.optim.Optimizer, parameters: Sequence[nn.Parameter]) -> dict[str, Kept]:
    """Find, by name, the states with a tensor for each parameter (or most), or one vector for all of them."""
    place = {id(p): number for number, p in enumerate(parameters)}
    held = tuple(place[id(p)] for group in optimizer.param_groups for p in group["params"])
    orders = (
        held,
        tuple(range(len(place))),
    )  # the first is that by which torch numbers states
    total = sum(p.numel() for p in parameters)
    found = {}
    for name, members in _tensors(optimizer.state_dict(), len(place)).items():
        if list(members) == [None]:
            vector = members[None]
            readings = [Reading(vector, order, by_memory) for order in orders for by_memory in (False, True)]
            fits = vector.shape == (total,)
        else:
            readings = [one for order in orders if (one := _of_each(members, order, parameters))]
            fits = 2 * sum(tensor.numel() for tensor in members.values()) > total
        if fits and readings:
            found[name] = Kept(tuple(readings))
    return found


def _of_each(members: Members, order: Sequence[int], parameters: Sequence[nn.Parameter]) -> Reading | None:
    """Read a tensor for each of some parameters, numbered in this order; None where the shapes do not fit."""
    numbers = [number for number in members if number is not None and number < len(order)]
    chosen = tuple(order[number] for number in numbers)
    shapes = [tensor.shape for tensor in members.values()]
    if [parameters[number].shape for number in chosen] != shapes:
        return None
    return Reading(torch.cat([tensor.detach().flatten() for tensor in members.values()]), chosen)


def _tensors(value: Any, n: int, name: str = "", number: int | None = None) -> dict[str, Members]:
    """Sort the tensors in nested containers by name and by the number of the parameter that each is of.

    A dict by whole numbers has an entry a parameter; so has a list, or a dict of tensors, of n entries.
    """
    if isinstance(value, Tensor):
        return {name: {number: value}} if value.dim() and value.is_floating_point() else {}
    if not isinstance(value, Mapping | list | tuple):
        return {}
    entries = value if isinstance(value, Mapping) else dict(enumerate(value))
    tensors = [inner for inner in entries.values() if isinstance(inner, Tensor)]
    numbered = number is None and (
        all(isinstance(key, int) for key in entries)
        if isinstance(value, Mapping) and len(tensors) < n
        else len(entries) == n
    )
    found: dict[str, Members] = {}
    for at, (key, inner) in enumerate(entries.items()):
        if numbered:
            inside = _tensors(inner, n, f"{name}[p]", key if isinstance(key, int) else at)
        else:
            inside = _tensors(inner, n, f"{name}[{key!r}]" if name else str(key), number)
        for path, members in inside.items():
            found.setdefault(path, {}).update(members)
    return found
