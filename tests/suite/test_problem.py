"""Tests of batches, sealed splits, means over units, joint losses, and mini-batches by seed and step."""

from __future__ import annotations

import copy
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor, nn

from suite.batch import Batch, LazyBatch
from suite.data.dataset import Generated
from suite.errors import SteppeError
from suite.metric import ACCURACY, LOSS, Metric
from suite.problem import Classification, InMemory, ModelAt, Splits, widened
from tests.suite.fake_problems import make_problem, make_task


def some(n: int = 10, seed: int = 0) -> Batch:
    generator = torch.Generator().manual_seed(seed)
    return Batch(inputs=torch.randn(n, 3, generator=generator), targets=torch.arange(n) % 2)


# -- batches -----------------------------------------------------------------------------------------


def test_a_batch_names_its_fields_and_counts_its_units() -> None:
    batch = Batch(words=torch.zeros(4, 2), weight=torch.tensor([1, 2, 3, 4]))
    assert (len(batch), batch.units) == (4, 10)
    assert batch[1:3].units == 5
    assert batch[torch.tensor([0, 3])].units == 5
    assert batch.part(2, 4).units == 7
    assert batch.part(0, 4) is batch
    with pytest.raises(AttributeError, match="a batch has no 'inputs'"):
        _ = batch.inputs


def test_fields_have_a_row_for_each_example() -> None:
    with pytest.raises(SteppeError, match="targets has 2 rows, not 3: one row an example"):
        Batch(inputs=torch.zeros(3, 1), targets=torch.zeros(2))


@pytest.mark.parametrize("weight", [torch.full((3,), 0.5), torch.ones(2), torch.ones(3, 1)])
def test_units_are_whole_numbers_one_an_example(weight: torch.Tensor) -> None:
    inputs = torch.zeros(3, 2)
    for make in (
        lambda: Batch(inputs=inputs, weight=weight),
        lambda: LazyBatch(3, lambda low, high: Batch(inputs=inputs[low:high]), weight),
    ):
        with pytest.raises(SteppeError, match="for 3 examples; valid: the number of units of each, whole"):
            make()
    assert Batch(inputs=inputs, weight=torch.full((3,), 2.0)).units == 6  # a float weight from a summed mask


def test_what_is_whole_numbers_stays_so_when_a_batch_is_cast() -> None:
    cast = some().to(torch.device("cpu"), torch.float64)
    assert (cast.inputs.dtype, cast.targets.dtype) == (torch.float64, torch.int64)


def test_a_digest_sees_names_types_values_and_weights() -> None:
    x = torch.arange(4.0)
    digests = {
        Batch(a=x).digest(),
        Batch(b=x).digest(),
        Batch(a=x.double()).digest(),
        Batch(a=x + 1).digest(),
        Batch(a=x.view(2, 2)).digest(),
        Batch(a=x, weight=torch.ones(4)).digest(),
    }
    assert len(digests) == 6
    assert Batch(a=x).digest() == Batch(a=x.clone()).digest()


def test_a_lazy_batch_reads_each_slice_once_and_no_more() -> None:
    whole, read = some(10), []

    def load(low: int, high: int) -> Batch:
        read.append((low, high))
        return whole.part(low, high)

    lazy = LazyBatch(10, load)
    assert (len(lazy), lazy.units, read) == (10, 10, [])
    lazy.part(2, 5)
    lazy.part(2, 5)
    assert read == [(2, 5)]
    assert torch.equal(lazy[6:8].inputs, whole.inputs[6:8])
    assert torch.equal(lazy.inputs, whole.inputs)
    assert lazy.digest() == whole.digest()
    assert read == [(2, 5), (6, 8), (0, 10)]
    assert len(copy.copy(lazy)) == 10


# -- splits ------------------------------------------------------------------------------------------


def test_test_splits_are_sealed_until_training_is_over() -> None:
    splits = Splits(Generated("tests", lambda: {"train": some(), "test": some(seed=1)}), sealed=["test"])
    splits["train"]
    with pytest.raises(SteppeError, match="split 'test' of data set tests is a test split and sealed"):
        splits["test"]
    splits.unseal()
    assert torch.equal(splits["test"].inputs, some(seed=1).inputs)
    assert set(splits.digests) == {"train", "test"}


def test_a_split_that_is_not_there_is_named() -> None:
    with pytest.raises(SteppeError, match=r"split of data set tests 'shifted'.*train"):
        Splits(Generated("tests", lambda: {"train": some()}))["shifted"]


# -- evaluation --------------------------------------------------------------------------------------


class Tokens(InMemory):
    """The loss of an example is the sum of its tokens' losses."""

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return batch.loss

    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        return batch.loss

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"hits": batch.hits}


def test_means_are_over_units_not_over_examples() -> None:
    weight = torch.randint(1, 5, (1203,), generator=torch.Generator().manual_seed(0))
    loss, hits = torch.rand(1203, dtype=torch.float64), torch.minimum(weight, torch.tensor(2)).double()
    batch = Batch(loss=loss, hits=hits, weight=weight)
    metrics = (LOSS, Metric("hits", "higher"))
    problem = make_problem(make_task({"train": batch}, Tokens, metrics=metrics), torch.float64)
    found = problem.evaluate(nn.Identity(), "train")
    assert found.n == 1203
    # Sums of a thousand doubles in another order.
    assert found.metrics["loss"] == pytest.approx(float(loss.sum()) / int(weight.sum()), rel=1e-13)
    assert found.metrics["hits"] == pytest.approx(float(hits.sum()) / int(weight.sum()), rel=1e-13)
    assert found.right == {}  # hits are not evidence: they count units, not examples


def test_evidence_is_which_examples_were_right() -> None:
    batch = some(1100)
    problem = make_problem(make_task({"train": batch}, Classification, metrics=(ACCURACY, LOSS)))
    torch.manual_seed(0)
    model = nn.Linear(3, 2)
    with torch.no_grad():
        found = problem.evaluate(model, "train")
        right = model(batch.inputs).argmax(1) == batch.targets
    assert torch.equal(found.right["accuracy"], right)
    assert found.metrics["accuracy"] == int(right.sum()) / 1100


def test_an_empty_split_is_an_error() -> None:
    problem = make_problem(make_task({"train": some(), "test": some()[:0]}, Classification))
    problem.setting.splits.unseal()
    with pytest.raises(SteppeError, match="task tests: split 'test' is empty"):
        problem.evaluate(nn.Linear(3, 2), "test")


class Joint(InMemory):
    """A loss of a whole batch: the square of its mean output."""

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return outputs.mean() ** 2


def test_a_joint_loss_is_averaged_over_whole_batches() -> None:
    inputs = torch.arange(10.0).view(10, 1)
    task = make_task({"train": Batch(inputs=inputs)}, Joint, batch_size=4, separable=False)
    problem = make_problem(task)
    assert problem.n_train == 8  # the incomplete last batch is left out
    found = problem.evaluate(nn.Identity(), "train")
    assert found.n == 10
    assert found.metrics["loss"] == pytest.approx((1.5**2 + 5.5**2) / 2)  # 8 and 9 are no whole batch


def test_joint_losses_are_measured_on_whole_batches() -> None:
    task = make_task({"train": some(10)}, Joint, batch_size=4, separable=False)
    assert [len(make_problem(task).measured(n)) for n in (1, 7, 8, 100)] == [4, 4, 8, 10]


# -- batches of training -----------------------------------------------------------------------------


def test_a_mini_batch_is_a_function_of_seed_and_step() -> None:
    task = make_task({"train": some(10)}, Classification, batch_size=4)
    first, again = make_problem(task, seed=3), make_problem(task, seed=3)
    steps = [first.batch(step).inputs for step in range(9)]
    assert torch.equal(again.batch(7).inputs, steps[7])
    assert torch.equal(again.batch(1).inputs, steps[1])  # in any order
    assert [len(x) for x in steps] == [4, 4, 2] * 3
    epoch = torch.cat(steps[3:6])
    assert torch.equal(epoch.sort(0).values, some(10).inputs.sort(0).values)
    assert not torch.equal(epoch, torch.cat(steps[:3]))
    assert not torch.equal(make_problem(task, seed=4).batch(7).inputs, steps[7])


def test_full_batches_keep_their_order() -> None:
    problem = make_problem(make_task({"train": some(10)}, Classification, batch_size=0))
    assert problem.steps_per_epoch == 1
    assert torch.equal(problem.batch(5).inputs, some(10).inputs)


def test_what_is_measured_does_not_depend_on_the_seed() -> None:
    task = make_task({"train": some(10)}, Classification)
    one, other = make_problem(task, seed=0).measured(4), make_problem(task, seed=1).measured(4)
    assert one.digest() == other.digest()


# -- outputs -----------------------------------------------------------------------------------------


class Pair(NamedTuple):
    """Two named outputs."""

    a: Tensor
    b: Tensor


def test_outputs_of_any_form_are_widened() -> None:
    half = torch.ones(2, dtype=torch.bfloat16)
    given: dict[str, Any] = {"pair": Pair(half, half), "list": [half, 3], "whole": torch.arange(2)}
    found = widened(given)
    assert isinstance(found["pair"], Pair)
    assert found["pair"].b.dtype is torch.float32
    assert found["list"][0].dtype is torch.float32
    assert found["list"][1] == 3
    assert found["whole"].dtype is torch.int64


def test_a_model_at_other_weights_is_called_as_a_model() -> None:
    model = nn.Linear(3, 2)
    at = ModelAt(model, {name: torch.zeros_like(p) for name, p in model.named_parameters()})
    assert torch.equal(at(torch.randn(4, 3)), torch.zeros(4, 2))
    assert model.weight.abs().sum() > 0
