"""Tests of the properties of parameters that optimizers receive."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from suite.parameters import Parameters


class RootScale(nn.Module):
    """A custom normalisation layer, as in language models, that is not named like one."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(4))


class RMSNormOfMine(RootScale):
    """The same layer, recognisable as a norm by its name."""


class Language(nn.Module):
    """A network with an embedding tied to the head, a hidden matrix with a bias, and norms."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(10, 4)
        self.hidden = nn.Linear(4, 4)
        self.norm = nn.LayerNorm(4)
        self.mine = RMSNormOfMine()
        self.scale = RootScale()
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.words.weight

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.norm(self.hidden(self.words(x))))
        return out


def test_each_parameter_stands_once_with_its_name_and_module() -> None:
    model = Language()
    parameters = Parameters.of(model, [model.head])
    assert [one.name for one in parameters] == [name for name, _ in model.named_parameters()]
    assert [id(p) for p in parameters.tensors] == [id(p) for p in model.parameters()]
    by_name = {one.name: one for one in parameters}
    assert by_name["hidden.weight"].module is model.hidden
    assert by_name["words.weight"].module is model.words


def test_what_a_parameter_is() -> None:
    model = Language()
    parameters = Parameters.of(model, [model.head])
    are = {
        what: [one.name for one in parameters if getattr(one, what)]
        for what in ("head", "embedding", "norm", "bias", "hidden_matrix")
    }
    assert are == {
        "head": ["words.weight"],  # tied: both embedding and head
        "embedding": ["words.weight"],
        "norm": ["norm.weight", "norm.bias", "mine.weight"],
        "bias": ["hidden.bias", "norm.bias"],
        "hidden_matrix": ["hidden.weight"],
    }


def test_a_head_of_several_layers_is_head_all_through() -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 2)))
    parameters = Parameters.of(model, [model[1]])
    assert [one.head for one in parameters] == [False, False, True, True, True, True]


def test_convolutions_of_norm_free_networks_are_hidden_matrices() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GroupNorm(2, 4), nn.BatchNorm2d(4), nn.Linear(4, 2))
    parameters = Parameters.of(model, [model[3]])
    assert [one.name for one in parameters if one.hidden_matrix] == ["0.weight"]
    assert [one.name for one in parameters if one.norm] == ["1.weight", "1.bias", "2.weight", "2.bias"]


def test_some_of_them_are_parameters_again() -> None:
    parameters = Parameters.of(Language())
    assert isinstance(parameters[1:], Parameters)
    assert len(parameters[1:]) == len(parameters) - 1
    assert parameters[-1].name == "scale.weight"
