"""Inspects an optimizer's state: attributes that state_dict lacks, and states that resemble the weights."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from suite.conformance.optimizers.trial import Trial

_LEAF = (Tensor, bool, int, float, str, type(None))
_OPAQUE = (torch.dtype, torch.device, type, nn.Module)
_DEPTH = 6

Members = dict[int | None, Tensor]
"""Tensors of one name by parameter number; None for a tensor of no single parameter."""


def left_out(original: Trial, resumed: Trial) -> str:
    """Name the attributes that differ after a resume because state_dict lacks them; empty if none does."""
    one, other = _attributes(original.optimizer), _attributes(resumed.optimizer)
    paths = sorted(path for path in one.keys() | other.keys() if not _same(one.get(path), other.get(path)))
    return f"it lacks {', '.join(paths[:4])}" if paths else ""


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Return numbers and tensors reachable from an optimizer by path; per-parameter state by name only."""
    found: dict[str, Any] = {}
    bare = vars(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)).keys() - {"state"}
    seen: set[int] = set()

    def walk(value: Any, path: str, depth: int) -> None:
        if isinstance(value, nn.Parameter) or depth > _DEPTH:
            return
        if isinstance(value, _LEAF):
            found[path.removeprefix(".")] = value
            return
        if id(value) in seen or isinstance(value, _OPAQUE) or callable(value):
            return
        seen.add(id(value))
        if isinstance(value, dict | list | tuple):
            entries = value.items() if isinstance(value, dict) else enumerate(value)
            for place, (key, one) in enumerate(entries):
                walk(one, f"{path}[{key if isinstance(key, str) else place}]", depth + 1)
        for key, one in getattr(value, "__dict__", {}).items():
            if not (isinstance(value, torch.optim.Optimizer) and key in bare):
                walk(one, f"{path}.{key}", depth + 1)

    walk(optimizer, "", 0)
    return found


def next_to_weights(
    members: Members, weights: Sequence[Tensor], order: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield a state as one vector together with the weights in the same layout.

    A state holds a tensor for each parameter (or most), or one vector for all: row-major or in memory order.
    Its parameter numbers follow `order`, like torch's, or the order of the model.
    """
    vector = torch.cat([tensor.detach().flatten() for tensor in members.values()])
    total = sum(w.numel() for w in weights)
    for numbers in (order, range(len(weights))):
        if list(members) != [None]:
            chosen = [weights[numbers[at]] for at in members if at is not None and at < len(numbers)]
            fits = [w.shape for w in chosen] == [tensor.shape for tensor in members.values()]
            if fits and 2 * len(vector) > total:
                yield vector, torch.cat([w.flatten() for w in chosen])
        elif members[None].shape == (total,):
            chosen = [weights[number] for number in numbers]
            yield vector, torch.cat([w.flatten() for w in chosen])
            turned = [w.permute(0, 2, 3, 1) if w.dim() == 4 else w for w in chosen]
            yield vector, torch.cat([w.flatten() for w in turned])


def tensors_by_name(value: Any, n: int, name: str = "", number: int | None = None) -> dict[str, Members]:
    """Return the tensors of nested containers by name and by parameter number.

    A dict with integer keys has one entry per parameter, as has a list or a dict of tensors with n entries.
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
            inside = tensors_by_name(inner, n, f"{name}[p]", key if isinstance(key, int) else at)
        else:
            inside = tensors_by_name(inner, n, f"{name}[{key!r}]" if name else str(key), number)
        for path, members in inside.items():
            found.setdefault(path, {}).update(members)
    return found
