"""Every promise of a task can be broken, and says so: one mistake, one cross."""

import dataclasses
import re
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from suite.conformance import TASKS, check_task
from suite.data.dataset import Generated
from suite.entries.registry import Found
from suite.metric import ACCURACY, LOSS, Metric, Profile
from suite.problem import Problem
from suite.spec import Param
from tests.conformance.broken_problems import (
    CLASSES,
    HERE,
    AnotherAccuracy,
    AugmentsValidation,
    Concludes,
    ConcludeZeroes,
    Contrastive,
    CountsBatches,
    CountsInFloats,
    CountsTooMany,
    DrawsFromNumpy,
    DrawsFromTorch,
    EvaluateDecays,
    EvidenceOfNumbers,
    FloatTargets,
    ForgetsAScore,
    ForwardScales,
    Infinite,
    InfiniteGradient,
    Joint,
    LossesTurn,
    MeasuresAll,
    MeasuresBySeed,
    MeasuresLittle,
    Normalises,
    NoSecondDerivative,
    NotAMean,
    NothingYet,
    OneLoss,
    OneOrder,
    OnlyALoss,
    OwesUnits,
    Percent,
    Points,
    ReadsTheTests,
    Remembers,
    ScalesByTheTests,
    ScoresALoss,
    ScoresErase,
    ScoresPerLogit,
    ScoresTwice,
    SeedsItself,
    SinglePrecision,
    Softmax,
    SplitsBySeed,
    StrangeHead,
    SumsTwice,
    TakesApart,
    ValidatesOnTheTests,
    WatchDecays,
    Watches,
    WatchesTheTests,
    WatchesTheTestsInSecret,
    WatchFreezes,
    WatchScales,
    Weightless,
    WrongEvidence,
    WrongSecondDerivative,
    found,
    points,
)


def broken(task: Found) -> dict[str, str]:
    return {check.promise: check.message for check in check_task(task, None) if not check.ok}


def test_the_task_that_is_broken_below_is_sound() -> None:
    checks = check_task(found(), None)
    names = [promise.name for promise in TASKS]
    assert [check.promise for check in checks] == ["is well formed", "finds its data", *names]
    assert all(check.ok for check in checks), broken(found())


NO_SPLITS = {"tests": (), "validation": ""}
F1 = Metric("f1", "higher")
SHARP, RISES = Metric("sharp", "neither"), Metric("rises", "lower")
WAY = Profile("way", "way", LOSS)

BROKEN: list[tuple[type[Problem], dict[str, Any], str, str]] = [
    (SeedsItself, {}, "initialises from the init stream only", "the model seeds its own initialisation"),
    (DrawsFromNumpy, {}, "initialises from the init stream only", "two models of one seed differ: .*0.bias"),
    (Infinite, {}, "starts with finite numbers", "the loss is inf at the initial weights on 4 examples"),
    (InfiniteGradient, {}, "starts with finite numbers", "the gradient of 0.weight is not finite"),
    (NotAMean, {}, "starts with finite numbers", r"the loss has shape \(4,\): return the mean"),
    (TakesApart, {}, "calls its model", "forward uses more of the model than a call"),
    (StrangeHead, {}, "names its last layer", "head returns a module that is not one of the model's"),
    (Softmax, {}, "gives logits", "outputs are probabilities .* leave the softmax .* out"),
    (FloatTargets, {}, "gives logits", "targets are torch.float32 .*: whole numbers"),
    (
        DrawsFromTorch,
        {},
        "gives deterministic batches",
        "one seed and step . differ in inputs",
    ),
    (Remembers, {}, "gives deterministic batches", "keep nothing from one call to the next"),
    (OneOrder, {}, "gives deterministic batches", "two seeds give the same first mini-batch"),
    (
        CountsTooMany,
        {},
        "gives deterministic batches",
        "an epoch of 45 examples .* one of 5; these have",
    ),
    (AugmentsValidation, {}, "gives fixed examples to evaluate", "differs between two calls"),
    (SplitsBySeed, {}, "gives fixed examples to evaluate", "'validation' differs between two seeds: draw it"),
    (
        MeasuresBySeed,
        {},
        "gives fixed examples to evaluate",
        "measured.n. differs between two calls",
    ),
    (
        Points,
        {"measure_examples": 50},
        "has the sizes that it declares",
        "is 50, but there are 44",
    ),
    (Points, {"n_train": 45}, "has the sizes that it declares", "declares 45 training examples, .* has 44"),
    (MeasuresLittle, {}, "has the sizes that it declares", "measure_examples is 20, but there are 10"),
    (
        Weightless,
        {},
        "has the sizes that it declares",
        "an example of .* has 0 units: leave",
    ),
    (MeasuresAll, {}, "has the sizes that it declares", "gives 44 examples: give about n"),
    (ReadsTheTests, {}, "leaves the test splits alone", "'test' is read before training ends"),
    (
        ScalesByTheTests,
        {},
        "leaves the test splits alone",
        "another content of the test split",
    ),
    (ValidatesOnTheTests, {}, "leaves the test splits alone", "'test' is read before training ends"),
    (
        Normalises,
        {"data": (Generated("points", lambda: points(41)),)},
        "takes the last mini-batch",
        r"has 1 example \(41 in batches of 8\), on which a training step fails: Expected more than 1 value",
    ),
    (Joint, {}, "adds up over slices", "needs separable=False"),
    (
        OnlyALoss,
        {"metrics": (LOSS,)},
        "sums its losses to its loss",
        "there is no losses.outputs",
    ),
    (SumsTwice, {}, "sums its losses to its loss", "losses sum to .* a unit, loss gives"),
    (OneLoss, {}, "sums its losses to its loss", r"losses has shape \(\) for 4 examples"),
    (
        ForgetsAScore,
        {},
        "gives the scores that it names",
        "score_names says accuracy, top_two",
    ),
    (ScoresPerLogit, {}, "gives the scores that it names", r"score margin has shape \(4, 3\) for 4 examples"),
    (AnotherAccuracy, {}, "gives the scores that it names", "its scores have the mean"),
    (Points, {"metrics": (ACCURACY, F1)}, "evaluates what it declares", "lacks the metric 'f1'"),
    (Percent, {}, "evaluates what it declares", "accuracy on split 'test' is .* with the unit %"),
    (WrongEvidence, {}, "evaluates what it declares", r"right\['accuracy'\] has the mean 1, the metric is"),
    (EvidenceOfNumbers, {}, "evaluates what it declares", r"is torch.float32 \(4,\): booleans"),
    (CountsBatches, {}, "evaluates what it declares", "counts 3 examples of 4"),
    (NothingYet, {"metrics": (F1, LOSS)}, "evaluates what it declares", "f1 on split 'validation' is nan at"),
    (
        Points,
        {"data": (Generated("points", lambda: {**points(), "test": points()["test"][:0]}),)},
        "evaluates what it declares",
        "split 'test' is empty",
    ),
    (Points, {"tests": ("test", "other")}, "evaluates what it declares", "unknown split of data set points"),
    (
        Points,
        {"columns": (SHARP,)},
        "concludes what it declares",
        "watch gives the columns none",
    ),
    (Watches, {"columns": (SHARP,)}, "concludes what it declares", "KeyError: 'lambda_max'"),
    (
        Watches,
        {"columns": (SHARP,), "measure_every": 2},
        "concludes what it declares",
        "KeyError: 'lambda_max'",
    ),
    (Points, {"facts": (RISES,)}, "concludes what it declares", "the facts none; declared are rises"),
    (Concludes, {"facts": (RISES,)}, "concludes what it declares", "the profiles way; declared are none"),
    (
        Concludes,
        {"facts": (RISES,), "profiles": (WAY,)},
        "concludes what it declares",
        "profile way has 2 places for 1 values",
    ),
    (WatchesTheTests, {"columns": (SHARP,)}, "concludes what it declares", "'test' .* sealed while a run"),
    (
        WatchesTheTestsInSecret,
        {"columns": (SHARP,)},
        "concludes what it declares",
        "watch reads the test split 'test': it is called while the run trains",
    ),
    (
        WatchDecays,
        {"columns": (SHARP,)},
        "concludes what it declares",
        r"watch\(\) changes the weights: it may",
    ),
    (
        WatchFreezes,
        {"columns": (SHARP,)},
        "concludes what it declares",
        r"watch\(\) changes which parameters are trained",
    ),
    (ConcludeZeroes, {"facts": (RISES,)}, "concludes what it declares", r"conclude\(\) changes the weights"),
    (CountsInFloats, {}, "evaluates what it declares", "'test' counts 4.0 examples; valid: a whole number"),
    (OwesUnits, {}, "has the sizes that it declares", "an example of a mini-batch has -1 units: leave"),
    (
        Points,
        {"data": (Generated("points", lambda: {**points(), "test": points()["validation"]}),)},
        "keeps its splits apart",
        "splits 'test' and 'validation' hold the same examples",
    ),
    (
        Points,
        {"data": (Generated("points", lambda: {**points(), "test": points()["train"]}),)},
        "keeps its splits apart",
        "splits 'test' and 'train' hold the same examples",
    ),
    (
        Points,
        {"data": (Generated("points", lambda: {**points(), "validation": points()["train"]}),)},
        "keeps its splits apart",
        "splits 'validation' and 'train' hold the same examples",
    ),
    (
        SinglePrecision,
        {"precisions": ("fp32", "fp64")},
        "runs in its precisions",
        "no gradient in fp64",
    ),
    (
        NoSecondDerivative,
        {},
        "can be differentiated twice",
        "reverse over reverse.*: NotImplemented",
    ),
    (WrongSecondDerivative, {}, "can be differentiated twice", "is off by .* of its norm: some layer has a"),
]


@pytest.mark.parametrize(
    ("problem", "changes", "promise", "message"),
    BROKEN,
    ids=[f"{row[0].__name__}-{'-'.join(row[1])}".strip("-") for row in BROKEN],
)
def test_one_mistake_breaks_one_promise(
    problem: type[Problem], changes: dict[str, Any], promise: str, message: str
) -> None:
    crosses = broken(found(problem, **changes))
    assert set(crosses) == {promise}
    assert "\n" not in crosses[promise]
    assert re.search(message, crosses[promise]), crosses[promise]


@pytest.mark.parametrize(
    ("problem", "changes", "promise", "message"),
    [
        (
            WatchScales,
            {"columns": (SHARP,)},
            "concludes what it declares",
            r"watch\(\) changes the training examples",
        ),
        (EvaluateDecays, {}, "evaluates what it declares", r"evaluate\(\) changes the weights"),
        (ForwardScales, {}, "calls its model", r"forward\(\) changes the mini-batch"),
        (LossesTurn, {}, "sums its losses to its loss", r"losses\(\) changes the mini-batch"),
        (LossesTurn, {}, "adds up over slices", r"loss\(\) changes the mini-batch"),
        (ScoresErase, {}, "gives the scores that it names", r"scores\(\) changes the mini-batch"),
        (ScoresALoss, {}, "gives the scores that it names", "'loss' is the name of the loss that is trained"),
        (ScoresTwice, {}, "gives the scores that it names", "'accuracy' stands twice"),
    ],
)
def test_what_changes_more_than_its_own_result_is_named(
    problem: type[Problem], changes: dict[str, Any], promise: str, message: str
) -> None:
    found_there = broken(found(problem, **changes))[promise]
    assert re.search(message, found_there), found_there


@pytest.mark.parametrize(
    ("problem", "changes", "promise", "message"),
    [
        (Contrastive, {"metrics": (LOSS,), "separable": False}, "adds up over slices", "a joint loss: "),
        (
            Watches,
            {"columns": (SHARP,), "measure_every": 1},
            "concludes what it declares",
            "column sharp",
        ),
        (SinglePrecision, {}, "can be differentiated twice", "Hessian products agree, .* in float32"),
        (SinglePrecision, {}, "adds up over slices", "within 0.001, in float32"),
        (
            NoSecondDerivative,
            {"twice_differentiable": False},
            "can be differentiated twice",
            "not declared",
        ),
        (Normalises, {}, "takes the last mini-batch", "a training step runs on the 4 examples"),
        (Points, NO_SPLITS, "leaves the test splits alone", "there is no test split"),
        (Points, NO_SPLITS, "evaluates what it declares", "accuracy, loss on train"),
        (Points, {"batch_size": 0}, "gives deterministic batches", "mini-batches of 44, the last"),
        (Points, {"batch_size": 11}, "takes the last mini-batch", "no smaller mini-batch"),
    ],
)
def test_what_is_said_and_done_is_right(
    problem: type[Problem], changes: dict[str, Any], promise: str, message: str
) -> None:
    checks = {check.promise: check for check in check_task(found(problem, **changes), None)}
    assert all(check.ok for check in checks.values()), broken(found(problem, **changes))
    assert re.search(message, checks[promise].message), checks[promise].message


def test_a_loss_of_pairs_that_calls_itself_separable_is_named() -> None:
    crosses = broken(found(Contrastive, metrics=(LOSS,)))
    assert set(crosses) == {"adds up over slices", "sums its losses to its loss"}
    assert all("separable=False" in message for message in crosses.values())


def test_weights_of_a_file_are_the_same_for_every_seed() -> None:
    class Loaded(Points):
        def model(self) -> nn.Module:
            return nn.Linear(6, CLASSES, device="meta").to_empty(device="cpu").apply(zero)

    def zero(module: nn.Module) -> None:
        for p in module.parameters():
            nn.init.zeros_(p)

    (check,) = (
        c for c in check_task(found(Loaded), None) if c.promise == "initialises from the init stream only"
    )
    assert check.ok
    assert check.message == "21 parameters, the same for every seed"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "other"}, "the entry has the name 'points', the task that it makes 'other'"),
        ({"version": "2"}, "the entry has the version '1', the task that it makes '2'"),
        ({"measures": ("lamda_max",)}, "unknown measure 'lamda_max'; did you mean 'lambda_max'"),
        ({"curve_measures": ("lamda_max",)}, "unknown measure 'lamda_max'; did you mean 'lambda_max'"),
        ({"metrics": ()}, "metrics: there is none; valid: one or more"),
        ({"data": ()}, "data is empty"),
        ({"precisions": ("fp16",)}, "unknown precision of task points 'fp16'"),
        ({"batch_size": -1}, "batch_size is -1; valid: a whole number from 0 on"),
        ({"measure_every": -2}, "measure_every is -2; valid: a whole number from 0 on"),
    ],
)
def test_a_malformed_task_is_not_judged_further(changes: dict[str, Any], message: str) -> None:
    (check,) = check_task(found(**changes), None)
    assert not check.ok
    assert re.search(message, check.message), check.message


def test_entries_have_a_form() -> None:
    sound = found()
    for change, message in (
        ({"name": "Points"}, "the name 'Points' is not lower-case words"),
        ({"summary": " "}, "the entry's summary is empty"),
        ({"tier": "tiny"}, "unknown tier 'tiny'"),
        ({"params": {"n": Param(1)}, "make": lambda n: sound.entry.make()}, "no help text for n"),
        ({"make": lambda: None}, "make returns a NoneType, not a Task"),
    ):
        entry = dataclasses.replace(sound.entry, **change)  # type: ignore[arg-type]
        (check,) = check_task(Found(entry, HERE, plugin=True), None)
        assert not check.ok
        assert message in check.message


def test_a_task_whose_data_is_away_is_not_judged_further() -> None:
    class Away(Generated):
        def available(self, root: Path | None) -> bool:
            return False

    checks = check_task(found(data=(Away("away", points),)), None)
    assert [check.promise for check in checks if not check.ok] == ["finds its data"]
    assert len(checks) == 2
    assert "run `steppe prepare points`" in checks[1].message
