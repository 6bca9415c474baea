"""Tests of inconsistent declarations of tasks, and of optimizers whose needs a task does not meet."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

import pytest
import torch

from suite.batch import Batch
from suite.errors import SteppeError
from suite.metric import LOSS, Metric
from suite.problem import Classification
from suite.spec import BuildContext, OptimizerSpec
from suite.task import Task, check_fit
from tests.suite.fake_problems import make_task

TRAIN = {"train": Batch(inputs=torch.zeros(20, 3), targets=torch.arange(20) % 2)}


def task(**changes: Any) -> Task:
    return make_task(TRAIN, Classification, **changes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"tier": "tiny"}, "tier of task tests"),
        ({"data": ()}, "data is empty; list at least one data set"),
        ({"epochs": 0}, "epochs is 0; valid: a number above 0"),
        ({"epochs": float("inf")}, "epochs is inf"),
        ({"batch_size": -1}, "batch_size is -1; valid: a whole number from 0 on"),
        ({"batch_size": 2.5}, "batch_size is 2.5"),
        ({"evaluate_every": 0}, "evaluate_every is 0; valid: a whole number from 1 on"),
        ({"measure_examples": 0}, "measure_examples is 0"),
        ({"tests": "test"}, "tests is a text; valid: a tuple of names, ('test',)"),
        ({"precisions": ("fp16",)}, "precision of task tests"),
        ({"precisions": ()}, "precisions is empty; valid: fp32"),
        ({"metrics": (LOSS, LOSS)}, "task tests: metrics: the name 'loss' stands twice"),
        ({"metrics": (Metric("sign", "neither"),)}, "the first, sign, is compared and needs a direction"),
        ({"metrics": ()}, "task tests: metrics: there is none; valid: one or more"),
        ({"validation": "train"}, "'train' is the training split"),
        ({"columns": (Metric("lr", "neither"),)}, "columns: 'lr' is a column that every run writes itself"),
        ({"columns": (Metric("train_loss", "neither"),)}, "'train_loss' is a column that every run writes"),
        ({"columns": (Metric("lambda_max", "neither"),)}, "'lambda_max' is a column that every run writes"),
        ({"columns": (Metric("lpf_se_probes", "neither"),)}, "'lpf_se_probes' is a column that every run"),
    ],
)
def test_what_does_not_fit_together(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(SteppeError, match=re.escape(says)):
        replace(task(), **changes)


def optimizer(*needs: str) -> OptimizerSpec:
    def build(parameters: Any, hyper: Any, context: BuildContext) -> Any:
        raise AssertionError

    return OptimizerSpec(
        name="demanding", version="1", summary="", source=__file__, build=build, params={},
        cost=lambda hyper: 1.0, needs=lambda hyper: frozenset(needs),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "needs", "ranks", "precision", "says"),
    [
        ({"separable": False}, ["parts"], 1, "fp32",
         "demanding needs a batch loss that is a mean over examples"),
        ({"twice_differentiable": False}, ["function"], 1, "fp32",
         "demanding needs a loss that can be differentiated more than once"),
        ({}, ["full-batch"], 1, "fp32", "demanding needs all training examples in every step ('full-batch')"),
        ({}, ["function"], 2, "fp32", "needs the loss as a function, on 1 rank only, not 2"),
        ({}, ["wings"], 1, "fp32", "need of optimizer demanding"),
        ({"precisions": ("fp64",)}, [], 1, "fp32", "precision of task tests"),
        ({}, [], 9, "fp32", "9 ranks for task tests; valid: 1 to 8, the size of its mini-batches"),
        ({}, [], 0, "fp32", "0 ranks for task tests"),
        ({"separable": False}, [], 2, "fp32", "so that ranks cannot share a mini-batch; valid: 1"),
    ],
)  # fmt: skip
def test_what_a_task_cannot_give(
    changes: dict[str, Any], needs: list[str], ranks: int, precision: str, says: str
) -> None:
    with pytest.raises(SteppeError, match=re.escape(says)):
        check_fit(task(**changes), optimizer(*needs), {}, ranks, precision)


def test_what_a_task_can_give() -> None:
    check_fit(task(), optimizer("parts", "function"), {}, 1, "fp32")
    check_fit(task(batch_size=0), optimizer("full-batch"), {}, 1, "fp64")
    check_fit(task(), optimizer("parts"), {}, 8, "bf16")


def test_needs_that_cannot_be_told_name_their_entry() -> None:
    entry = replace(optimizer(), needs=lambda hyper: hyper["parts"])
    with pytest.raises(SteppeError, match=r"^optimizer demanding cannot tell its needs: KeyError"):
        check_fit(task(), entry, {}, 1, "fp32")


def test_needs_that_are_a_text_are_refused() -> None:
    entry = replace(optimizer(), needs=lambda hyper: "parts")
    with pytest.raises(
        SteppeError, match=r"its needs are the text 'parts'; valid: a tuple of names, \('parts',\)"
    ):
        check_fit(task(), entry, {}, 1, "fp32")


@pytest.mark.parametrize("cost", [math.nan, math.inf, -1, 0])
def test_a_cost_is_a_number_above_0(cost: float) -> None:
    entry = replace(optimizer(), cost=lambda hyper: cost)
    with pytest.raises(
        SteppeError, match=rf"^optimizer demanding: its cost is {cost:g}; valid: a number above 0"
    ):
        check_fit(task(), entry, {}, 1, "fp32")
