"""Finds what an optimizer keeps outside of its state_dict, so that a failed resume can name it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

_LEAF = (Tensor, bool, int, float, str, type(None))
_OPAQUE = (torch.dtype, torch.device, type, nn.Module)
_DEPTH = 6


def left_out(original: Any, resumed: Any) -> list[str]:
    """Attributes in which a resumed optimizer differs from the one whose state_dict it loaded."""
    one, other = _attributes(original), _attributes(resumed)
    return sorted(path for path in one.keys() | other.keys() if not _same(one.get(path), other.get(path)))


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        return one.shape == other.shape and torch.equal(one, other)
    return type(one) is type(other) and bool(one == other)


def _attributes(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Numbers and tensors reachable from an optimizer, by path; per-parameter state by its name alone."""
    found: dict[str, Any] = {}
    bare = vars(torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.1)).keys() - {"state"}
    seen: set[int] = set()

    def walk(value: Any, path: str, depth: int) -> None:
        if isinstance(value, nn.Parameter) or depth > _DEPTH:
            return
        if isinstance(value, _LEAF):
            found[path] = value
            return
        if id(value) in seen or isinstance(value, _OPAQUE) or callable(value):
            return
        seen.add(id(value))
        if isinstance(value, dict):
            for place, (key, item) in enumerate(value.items()):
                walk(item, f"{path}[{key if isinstance(key, str) else place}]", depth + 1)
        elif isinstance(value, list | tuple):
            for place, item in enumerate(value):
                walk(item, f"{path}[{place}]", depth + 1)
        else:
            for key, item in getattr(value, "__dict__", {}).items():
                if not (isinstance(value, torch.optim.Optimizer) and key in bare):
                    walk(item, f"{path}.{key}" if path else key, depth + 1)

    walk(optimizer, "", 0)
    return found
