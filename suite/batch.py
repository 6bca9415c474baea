"""Batches of examples as named tensors, in memory or loaded on first use."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from suite.errors import SteppeError


class Batch:
    """Examples as named tensors whose first dimension is the example.

    A field is read as an attribute: `Batch(inputs=x, targets=y).inputs`. `weight` (n,) is the number of units
    (for instance tokens) of each example, whole numbers on the CPU; without it each example is one unit.

    >>> batch = Batch(inputs=torch.zeros(3, 2), weight=torch.tensor([4, 1, 2]))
    >>> len(batch), batch.units, batch.part(1, 3).units
    (3, 7, 3)
    """

    def __init__(self, *, weight: Tensor | None = None, **fields: Tensor) -> None:
        self.fields = fields
        self._n = len(next(iter(fields.values())))
        self.weight = _whole(weight, self._n)
        for name, value in fields.items():
            if len(value) != self._n:
                raise SteppeError(f"batch: {name} has {len(value)} rows, not {self._n}: one row an example")
        self.units: int = self._n if self.weight is None else int(self.weight.sum())
        """Units of the whole batch: the divisor of a mean over it."""

    def __getattr__(self, name: str) -> Tensor:
        """Return a field by its name."""
        try:
            found: Tensor = self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(f"a batch has no {name!r}") from None
        return found

    def __len__(self) -> int:
        """Return the number of examples."""
        return self._n

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        """Return a subset of the examples."""
        weight = None if self.weight is None else self.weight[rows if isinstance(rows, slice) else rows.cpu()]
        return Batch(weight=weight, **{name: value[rows] for name, value in self.fields.items()})

    def part(self, low: int, high: int) -> Batch:
        """Return examples [low, high); the full range returns the batch itself."""
        n = high - low
        if n == self._n:
            return self
        # Skips the checks of __init__: an optimizer may request many parts of every mini-batch.
        out = Batch.__new__(Batch)
        out.fields = {name: value[low:high] for name, value in self.fields.items()}
        out.weight = None if self.weight is None else self.weight[low:high]
        out._n = n
        out.units = n if out.weight is None else int(out.weight.sum())
        return out

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
        """Move the fields to a device, and cast floating-point fields."""
        fields = {
            name: value.to(device, dtype if dtype and value.is_floating_point() else value.dtype)
            for name, value in self.fields.items()
        }
        return Batch(weight=self.weight, **fields)

    def digest(self) -> str:
        """Return the SHA-256 over names, dtypes, shapes and bytes of the fields and the weight."""
        total = hashlib.sha256()
        weight = {} if self.weight is None else {"weight": self.weight}
        for name, value in {**self.fields, **weight}.items():
            total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            total.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()


class LazyBatch(Batch):
    """A batch loaded on first use: each process decodes only the slice that it evaluates.

    Args:
        n: number of examples.
        load: returns examples [low, high) as a `Batch` on the device; a pure function of both bounds.
        weight: as in `Batch`; known before loading.

    """

    def __init__(self, n: int, load: Callable[[int, int], Batch], weight: Tensor | None = None) -> None:
        self.weight = _whole(weight, n)
        self._n = n
        self.units = n if self.weight is None else int(self.weight.sum())
        self._load = load
        self._read: dict[tuple[int, int], Batch] = {}

    def part(self, low: int, high: int) -> Batch:
        """Load examples [low, high) once; the evaluations of one step request the same slices repeatedly."""
        if (low, high) not in self._read:
            self._read[low, high] = self._load(low, high)
        return self._read[low, high]

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        """Return a subset of the examples."""
        if isinstance(rows, slice):
            low, high, step = rows.indices(self._n)
            if step == 1:
                return self.part(low, max(low, high))
        return self.part(0, self._n)[rows]

    def __getattr__(self, name: str) -> Tensor:
        """Return a field of the whole batch by its name."""
        if name.startswith("_"):  # not a field: `copy` looks up such names before __init__ has run
            raise AttributeError(name)
        return getattr(self.part(0, self._n), name)  # type: ignore[no-any-return]

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
        """Load the whole batch and move it."""
        return self.part(0, self._n).to(device, dtype)

    def digest(self) -> str:
        """Load the whole batch and hash it."""
        return self.part(0, self._n).digest()


def _whole(weight: Tensor | None, n: int) -> Tensor | None:
    """Return the units of n examples as int64 on the CPU; SteppeError unless they are whole numbers (n,)."""
    if weight is None:
        return None
    whole = weight.to("cpu", torch.int64)
    if whole.shape != (n,) or not torch.equal(whole.to(weight.dtype), weight.cpu()):
        raise SteppeError(
            f"batch: weight is {weight.dtype} {tuple(weight.shape)} for {n} examples; valid: the number of "
            "units of each, whole numbers (n,)"
        )
    return whole
