"""Selectors: the grammar, what a glob stands for, and the runs they expand to."""

from __future__ import annotations

from pathlib import Path

import pytest

from suite.entries.registry import Registry
from suite.entries.select import parse_seeds, parse_selector, parse_selectors, select
from suite.entries.selection import Selection, declared_cost
from suite.errors import SteppeError

SIX = {"sgd", "adam", "sam", "lpf-sgd", "nso", "adabelief"}

PLUGIN = """
from suite.spec import OptimizerSpec, Param

def build(params, hyper, context):
    import torch
    return torch.optim.SGD(params.tensors, lr=hyper["lr"])

OPTIMIZERS = [
    OptimizerSpec(
        name="mine", version="1.0", summary="", source="", params={"lr": Param(0.1, low=0.0)},
        cost=lambda hyper: 2.0, build=build,
    )
]
"""


@pytest.fixture
def plugged(tmp_path: Path) -> Registry:
    plugin = tmp_path / "mine.py"
    plugin.write_text(PLUGIN)
    return Registry([plugin])


def test_selector_holds_name_and_alternatives() -> None:
    selector = parse_selector(" sam[rho=0.05|0.1, adaptive=true] ")
    assert selector.pattern == "sam"
    assert list(selector.grid()) == [
        {"rho": "0.05", "adaptive": "true"},
        {"rho": "0.1", "adaptive": "true"},
    ]


def test_commas_outside_brackets_and_repeats_separate_selectors() -> None:
    selectors = parse_selectors(["sgd,sam[rho=0.1,adaptive=true]", "nso"])
    assert [s.pattern for s in selectors] == ["sgd", "sam", "nso"]
    assert selectors[1].overrides == {"rho": ("0.1",), "adaptive": ("true",)}


@pytest.mark.parametrize(
    "text", ["sam[rho]", "sam[=1]", "sam[rho=]", "sam[rho=1|]", "sam[rho=1", "sam]", "[rho=1]"]
)
def test_broken_selector_is_one_clear_line(text: str) -> None:
    with pytest.raises(SteppeError, match="not a") as caught:
        parse_selector(text)
    assert "\n" not in str(caught.value)


def test_parameter_given_twice_is_refused() -> None:
    with pytest.raises(SteppeError, match="rho is given twice"):
        parse_selector("sam[rho=1,rho=2]")


def test_seeds_keep_their_order_and_come_once() -> None:
    assert parse_seeds("0-3,12,2") == (0, 1, 2, 3, 12)


@pytest.mark.parametrize("text", ["", "a", "-1", "3-1", "1,,2", "1.5", "0-999999999"])
def test_broken_seeds_are_refused(text: str) -> None:
    with pytest.raises(SteppeError, match="not seeds"):
        parse_seeds(text)


def test_star_is_exactly_the_six_built_in_optimizers(plugged: Registry) -> None:
    assert {ref.name for ref in select(plugged, "optimizer", ["*"])} == SIX


def test_plugin_is_reached_by_name_and_by_glob_and_carries_its_source(plugged: Registry) -> None:
    (by_name,) = select(plugged, "optimizer", ["mine"])
    (by_glob,) = select(plugged, "optimizer", ["min*"])
    assert by_name == by_glob
    assert by_name.plugin_source == plugged.optimizer("mine").source_hash


def test_same_settings_named_twice_are_one_reference(plugged: Registry) -> None:
    assert len(select(plugged, "optimizer", ["mine", "mine[lr=0.1]", "mine[lr=1e-1|0.2]"])) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("sma", "did you mean 'sam'"),
        ("sam[rhoo=1]", "did you mean 'rho'"),
        ("sam[rho=-1]", "out of range"),
        ("sam[rho=much]", "not a number"),
        ("zzz*", "unknown optimizer"),
    ],
)
def test_wrong_optimizer_is_told_with_the_nearest_match(plugged: Registry, text: str, says: str) -> None:
    with pytest.raises(SteppeError, match=says):
        select(plugged, "optimizer", [text])


@pytest.mark.parametrize("texts", [[], [""]])
def test_nothing_selected_is_told(plugged: Registry, texts: list[str]) -> None:
    with pytest.raises(SteppeError, match=r"^no optimizer is selected: name one or more"):
        select(plugged, "optimizer", texts)


def test_expand_orders_by_seed_then_optimizer_and_drops_repeats() -> None:
    specs = Selection(["digits-cnn"], ["sgd", "sam", "sgd"], [1, 0]).expand(Registry())
    assert [(s.seed, s.optimizer.name) for s in specs] == [(1, "sgd"), (1, "sam"), (0, "sgd"), (0, "sam")]
    assert len({s.run_id for s in specs}) == 4
    assert all(s.data_checksum and s.device == "cpu" for s in specs)


def test_a_cost_that_cannot_be_told_names_its_entry(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.replace("lambda hyper: 2.0", "lambda hyper: hyper['k']"))
    registry = Registry([path])
    (reference,) = select(registry, "optimizer", ["mine"])
    with pytest.raises(
        SteppeError, match=r"^optimizer mine cannot tell its cost: KeyError: 'k'; correct the"
    ):
        declared_cost(registry, reference)


def test_views_hold_epochs_or_cost_equal() -> None:
    registry = Registry()
    task = registry.resolve_task(registry.reference("task", "digits-cnn", {}))
    by_epochs = Selection(["digits-cnn"], ["sgd", "sam"], [0], budget=2).expand(registry)
    by_cost = Selection(["digits-cnn"], ["sgd", "sam"], [0], budget=2, view="sample-gradients").expand(
        registry
    )
    assert [s.epochs for s in by_epochs] == [2 * task.epochs, 2 * task.epochs]
    assert [s.epochs for s in by_cost] == [2 * task.epochs, task.epochs]  # SAM takes two gradients a step


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"budget": 0.0}, "budget 0 is out of range"),
        ({"budget": float("nan")}, "out of range"),
        ({"view": "epoch"}, "did you mean 'epochs'"),
        ({"precision": "fp16"}, "unknown precision"),
        ({"precision": "tf32"}, "needs a CUDA device"),
        ({"data_name": "cifar10-jpeg"}, "cifar10-jpeg"),
    ],
)
def test_wrong_option_is_told(options: dict[str, object], says: str) -> None:
    with pytest.raises(SteppeError, match=says):
        Selection(["digits-cnn"], ["sgd"], [0], **options).expand(Registry())  # type: ignore[arg-type]
