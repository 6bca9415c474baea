"""The parameters of a model by name, each with its module: the input from which an optimizer is built."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

from torch import nn

_NORMS = (
    nn.modules.batchnorm._NormBase,
    nn.LayerNorm,
    nn.GroupNorm,
    nn.RMSNorm,
)
_EMBEDDINGS = (nn.Embedding, nn.EmbeddingBag)


@dataclass(frozen=True)
class NamedParameter:
    """One parameter and its role in the model."""

    name: str
    """Its name in `model.named_parameters`."""
    parameter: nn.Parameter
    module: nn.Module
    """The module that holds it; for tied weights the first one."""
    head: bool
    """Whether it belongs to the last layer, as declared by the task's problem."""
    embedding: bool
    """Whether it is the table of an embedding (also if it is tied to the head)."""

    @property
    def norm(self) -> bool:
        """Whether it belongs to a normalisation layer."""
        return isinstance(self.module, _NORMS) or "norm" in type(self.module).__name__.lower()

    @property
    def bias(self) -> bool:
        """Whether it is the bias of a layer of any type."""
        return self.name.rpartition(".")[2] == "bias"

    @property
    def hidden_matrix(self) -> bool:
        """Whether it is a matrix or filter of a hidden layer: not of head, embedding or normalisation."""
        return self.parameter.dim() >= 2 and not (self.head or self.embedding or self.norm)


class Parameters(Sequence[NamedParameter]):
    """The parameters of a model in their order, each once."""

    def __init__(self, parameters: Iterable[NamedParameter]) -> None:
        self._parameters = tuple(parameters)

    @classmethod
    def of(cls, model: nn.Module, head: Iterable[nn.Module] = ()) -> Parameters:
        """List the parameters of a model; `head` holds the modules of its last layer.

        >>> net = nn.Sequential(nn.Linear(4, 3), nn.LayerNorm(3), nn.Linear(3, 2))
        >>> [one.name for one in Parameters.of(net, head=[net[2]]) if one.hidden_matrix]
        ['0.weight']
        """
        owners: dict[int, list[nn.Module]] = {}
        for module in model.modules():
            for parameter in module._parameters.values():
                if parameter is not None:
                    owners.setdefault(id(parameter), []).append(module)
        last = {id(inner) for module in head for inner in module.modules()}
        return cls(
            NamedParameter(
                name,
                parameter,
                (holders := owners[id(parameter)])[0],
                head=any(id(module) in last for module in holders),
                embedding=any(isinstance(module, _EMBEDDINGS) for module in holders),
            )
            for name, parameter in model.named_parameters()
        )

    @property
    def tensors(self) -> list[nn.Parameter]:
        """The parameters alone, as classes of torch.optim expect them."""
        return [one.parameter for one in self._parameters]

    @overload
    def __getitem__(self, index: int) -> NamedParameter: ...
    @overload
    def __getitem__(self, index: slice) -> Parameters: ...
    def __getitem__(self, index: int | slice) -> NamedParameter | Parameters:
        """Return one parameter, or several as `Parameters`."""
        found = self._parameters[index]
        return found if isinstance(found, NamedParameter) else Parameters(found)

    def __iter__(self) -> Iterator[NamedParameter]:
        """Iterate over the parameters in the order of the model."""
        return iter(self._parameters)

    def __len__(self) -> int:
        """Return the number of parameters."""
        return len(self._parameters)
