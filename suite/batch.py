"""Some examples as named tensors, whether they are there or are read when they are needed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import torch
from torch import Tensor

from suite.errors import SteppeError


class Batch:
    """Some examples: named tensors whose first dimension is the example.

    A field is read as an attribute: `Batch(inputs=x, targets=y).inputs`. `weight` (n,) is the number of units
    (tokens) of each example, whole numbers on the CPU; without it each example is one unit.
    """

    def __init__(self, *, weight: Tensor | None = None, **fields: Tensor) -> None:
        self.fields = fields
        self._n = len(next(iter(fields.values())))
        self.weight = _whole(weight, self._n)
        for name, value in fields.items():
            if len(value) != self._n:
                raise SteppeError(f"batch: {name} has {len(value)} rows, not {self._n}: one row an example")
        self.units: int = self._n if self.weight is None else int(self.weight.sum())
        """What a mean over the batch divides by."""

    def __getattr__(self, name: str) -> Tensor:
        """Return a field by its name."""
        try:
            found: Tensor = self.__dict__["fields"][name]
        except KeyError:
            raise AttributeError(f"a batch has no {name!r}") from None
        return found

    def __len__(self) -> int:
        """Count the examples."""
        return self._n

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        """Return some of the examples."""
        weight = None if self.weight is None else self.weight[rows if isinstance(rows, slice) else rows.cpu()]
        return Batch(weight=weight, **{name: value[rows] for name, value in self.fields.items()})

    def part(self, low: int, high: int) -> Batch:
        """Return examples [low, high); the whole batch is itself."""
        n = high - low
        if n == self._n:
            return self
        out = Batch.__new__(Batch)  # an optimizer may ask for many parts of every mini-batch
        out.fields = {name: value[low:high] for name, value in self.fields.items()}
        out.weight = None if self.weight is None else self.weight[low:high]
        out._n = n
        out.units = n if out.weight is None else int(out.weight.sum())
        return out

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
        """Move the fields to a device, and cast what is floating-point."""
        fields = {
            name: value.to(device, dtype if dtype and value.is_floating_point() else value.dtype)
            for name, value in self.fields.items()
        }
        return Batch(weight=self.weight, **fields)

    def digest(self) -> str:
        """SHA-256 over names, types, shapes and bytes of the fields and the weight."""
        total = hashlib.sha256()
        weight = {} if self.weight is None else {"weight": self.weight}
        for name, value in {**self.fields, **weight}.items():
            total.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            total.update(value.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
        return total.hexdigest()


class LazyBatch(Batch):
    """A batch that is read when it is needed: each process decodes the slice that it evaluates, and no more.

    Args:
        n: number of examples.
        load: returns examples [low, high) as a `Batch` on the device; a pure function of the two.
        weight: as in `Batch`; known without reading.

    """

    def __init__(self, n: int, load: Callable[[int, int], Batch], weight: Tensor | None = None) -> None:
        self.weight = _whole(weight, n)
        self._n = n
        self.units = n if self.weight is None else int(self.weight.sum())
        self._load = load
        self._read: dict[tuple[int, int], Batch] = {}

    def part(self, low: int, high: int) -> Batch:
        """Read examples [low, high), once: the evaluations of one step ask for the same slices again."""
        if (low, high) not in self._read:
            self._read[low, high] = self._load(low, high)
        return self._read[low, high]

    def __getitem__(self, rows: slice | Tensor) -> Batch:
        """Return some of the examples."""
        if isinstance(rows, slice):
            low, high, step = rows.indices(self._n)
            if step == 1:
                return self.part(low, max(low, high))
        return self.part(0, self._n)[rows]

    def __getattr__(self, name: str) -> Tensor:
        """Return a field of the whole batch by its name."""
        if name.startswith("_"):  # no field; copying asks for some before there is anything to read
            raise AttributeError(name)
        return getattr(self.part(0, self._n), name)  # type: ignore[no-any-return]

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> Batch:
        """Read it whole, and move it."""
        return self.part(0, self._n).to(device, dtype)

    def digest(self) -> str:
        """Read it whole, and hash it."""
        return self.part(0, self._n).digest()


def _whole(weight: Tensor | None, n: int) -> Tensor | None:
    """Return the units of n examples as whole numbers on the CPU; SteppeError where they are none."""
    if weight is None:
        return None
    whole = weight.to("cpu", torch.int64)
    if whole.shape != (n,) or not torch.equal(whole.to(weight.dtype), weight.cpu()):
        raise SteppeError(
            f"batch: weight is {weight.dtype} {tuple(weight.shape)} for {n} examples; valid: the number of "
            "units of each, whole numbers (n,)"
        )
    return whole
