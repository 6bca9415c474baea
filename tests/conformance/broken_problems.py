"""A sound task of a few points, and problems for it with one mistake each."""

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.data.dataset import Generated
from suite.entries.registry import Found
from suite.metric import ACCURACY, LOSS
from suite.problem import Classification, Conclusion, Curve, Evaluation, InMemory, Problem, Setting
from suite.task import Task, TaskSpec

HERE = Path(__file__)
N, CLASSES = 44, 3


def points(n: int = N) -> dict[str, Batch]:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(n + 30, 6, generator=generator), torch.arange(n + 30) % CLASSES
    whole = Batch(inputs=x, targets=y)
    return {"train": whole[:n], "validation": whole[n : n + 15], "test": whole[n + 15 :]}


class Points(Classification):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))


def found(problem: type[Problem] = Points, **changes: Any) -> Found:
    """A sound task of 44 points in batches of 8, with a problem or fields of its own."""
    fields: dict[str, Any] = {
        "name": "points",
        "version": "1",
        "tier": "smoke",
        "summary": "points",
        "data": (Generated("points", points),),
        "problem": problem,
        "metrics": (ACCURACY, LOSS),
        "epochs": 2,
        "batch_size": 8,
        "measure_examples": 20,
        "measures": (),
    }
    entry = TaskSpec("points", "1", "smoke", "points", lambda: Task(**{**fields, **changes}))
    return Found(entry, HERE, plugin=True)


# -- problems with one mistake -----------------------------------------------------------------------


class SeedsItself(Points):
    def model(self) -> nn.Module:
        torch.manual_seed(1)
        return super().model()


class DrawsFromNumpy(Points):
    def model(self) -> nn.Module:
        import numpy as np

        model = super().model()
        with torch.no_grad():
            model[0].bias.copy_(torch.from_numpy(np.random.randn(8)))
        return model


class Infinite(Points):
    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().losses(outputs, batch) / 0

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch).mean()


class InfiniteGradient(Points):
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model(batch.inputs)
        return outputs + (outputs - outputs.detach()).abs().sqrt()


class NotAMean(Points):
    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch)


class TakesApart(Points):
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model[2](model[1](model[0](batch.inputs)))  # type: ignore[index]
        return outputs


class StrangeHead(Points):
    def head(self, model: nn.Module) -> Sequence[nn.Module]:
        return [nn.Linear(8, CLASSES)]


class Softmax(Points):
    def model(self) -> nn.Module:
        return nn.Sequential(super().model(), nn.Softmax(1))


class FloatTargets(Points):
    def examples(self, split: str) -> Batch:
        batch = super().examples(split)
        return Batch(inputs=batch.inputs, targets=F.one_hot(batch.targets, CLASSES).float())

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"accuracy": outputs.argmax(1) == batch.targets.argmax(1)}


class DrawsFromTorch(Points):
    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        return Batch(inputs=batch.inputs + torch.rand(()), targets=batch.targets)


class Remembers(Points):
    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        self.calls = getattr(self, "calls", 0) + 1
        return Batch(inputs=batch.inputs * self.calls, targets=batch.targets)


class OneOrder(Points):
    def batch(self, step: int) -> Batch:
        low = step % self.steps_per_epoch * self.batch_size
        return self.train[low : low + self.batch_size]


class CountsTooMany(Points):
    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.n_train += 1


class AugmentsValidation(Points):
    def batches(self, split: str) -> Iterator[Batch]:
        for batch in super().batches(split):
            yield Batch(inputs=batch.inputs + 1e-6 * torch.rand(()), targets=batch.targets)


class SplitsBySeed(Points):
    def batches(self, split: str) -> Iterator[Batch]:
        for batch in super().batches(split):
            yield batch[torch.randperm(len(batch), generator=self._streams.generator("split"))]


class MeasuresBySeed(Points):
    def measured(self, n: int) -> Batch:
        return self.train[torch.randperm(N, generator=self._streams.generator("measure"))[:n]]


class MeasuresLittle(Points):
    def measured(self, n: int) -> Batch:
        return super().measured(n // 2)


class MeasuresAll(Points):
    def measured(self, n: int) -> Batch:
        return self.train


class Weightless(Points):
    def examples(self, split: str) -> Batch:
        batch = super().examples(split)
        return Batch(
            inputs=batch.inputs, targets=batch.targets, weight=(torch.arange(len(batch)) % 9).clamp(max=1)
        )

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch).sum() / batch.units

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        assert batch.weight is not None
        return super().losses(outputs, batch) * batch.weight


class ReadsTheTests(Points):
    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.test = setting.splits["test"]


class ScalesByTheTests(Points):
    def examples(self, split: str) -> Batch:
        whole = self.setting.data.make().values()  # type: ignore[attr-defined]
        scale = torch.cat([batch.inputs for batch in whole]).std()
        batch = super().examples(split)
        return Batch(inputs=batch.inputs / scale, targets=batch.targets)


class ValidatesOnTheTests(Points):
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        list(super().batches("test"))
        return super().evaluate(model, split)


class Normalises(Points):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Tanh(), nn.Linear(8, CLASSES))


class Joint(Points):
    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().losses(outputs - outputs.mean(0), batch)

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch).mean()


class Contrastive(Points):
    """Examples of one class attract each other: a loss of pairs, which has no `losses`."""

    score_names = ()

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        raise NotImplementedError

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        alike = batch.targets[:, None] == batch.targets
        return F.binary_cross_entropy_with_logits(outputs @ outputs.T, alike.to(outputs.dtype))

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {}


class OnlyALoss(InMemory):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return F.cross_entropy(outputs, batch.targets)


class SumsTwice(Points):
    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return 2 * super().losses(outputs, batch)


class OneLoss(Points):
    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().losses(outputs, batch).mean()


class ForgetsAScore(Points):
    score_names = ("accuracy", "top_two")


class ScoresPerLogit(Points):
    score_names = ("accuracy", "margin")

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {**super().scores(outputs, batch), "margin": outputs}


class AnotherAccuracy(Points):
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        found = super().evaluate(model, split)
        return Evaluation(found.n, {**found.metrics, "accuracy": found.metrics["accuracy"] / 2 + 0.1})


class Percent(Points):
    score_names = ("hits",)

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {"hits": super().scores(outputs, batch)["accuracy"]}

    def metrics(self, means: Mapping[str, float]) -> dict[str, float]:
        return {"loss": means["loss"], "accuracy": 100 * means["hits"] + 1}


class WrongEvidence(Points):
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        found = super().evaluate(model, split)
        return Evaluation(found.n, found.metrics, {"accuracy": torch.ones(found.n, dtype=torch.bool)})


class EvidenceOfNumbers(Points):
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        found = super().evaluate(model, split)
        return Evaluation(found.n, found.metrics, {"accuracy": torch.ones(found.n)})


class CountsBatches(Points):
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        found = super().evaluate(model, split)
        return dataclasses.replace(found, n=found.n - 1, right={})


class NothingYet(Points):
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        found = super().evaluate(model, split)
        return Evaluation(found.n, {**found.metrics, "f1": math.nan})


class Watches(Points):
    def watch(self, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float]:
        return {"sharp": row["lr"] * row["lambda_max"]}


class Concludes(Points):
    def conclude(self, model: nn.Module, rows: Sequence[Mapping[str, Any]]) -> Conclusion:
        return Conclusion({"rises": float(len(rows))}, {"way": Curve([0.0, 1.0], [1.0])})


class WatchesTheTests(Points):
    def watch(self, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float]:
        return {"sharp": float(len(self.setting.splits["test"]))}


class WatchesTheTestsInSecret(Points):
    def watch(self, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float]:
        return {"sharp": float(len(self.setting.data.open(None, None)("test")))}


class WatchDecays(Points):
    @torch.no_grad()
    def watch(self, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float]:
        for p in model.parameters():
            p.mul_(0.9)
        return {"sharp": 1.0}


class WatchFreezes(Points):
    def watch(self, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float]:
        model.requires_grad_(False)
        return {"sharp": 1.0}


class WatchScales(Points):
    def watch(self, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float]:
        self.train.inputs.mul_(1.1)
        return {"sharp": 1.0}


class ConcludeZeroes(Points):
    @torch.no_grad()
    def conclude(self, model: nn.Module, rows: Sequence[Mapping[str, Any]]) -> Conclusion:
        for p in model.parameters():
            p.zero_()
        return Conclusion({"rises": 1.0})


class EvaluateDecays(Points):
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        for p in model.parameters():
            p.mul_(0.9)
        return super().evaluate(model, split)


class ForwardScales(Points):
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model(batch.inputs.mul_(0.9))
        return outputs


class LossesTurn(Points):
    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        return super().losses(outputs, Batch(inputs=outputs, targets=batch.targets.add_(1).fmod_(CLASSES)))

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        return self.losses(outputs, batch).mean()


class ScoresErase(Points):
    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        batch.inputs.zero_()
        return super().scores(outputs, batch)


class ScoresALoss(Points):
    score_names = ("accuracy", "loss")

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        return {**super().scores(outputs, batch), "loss": outputs[:, 0]}


class ScoresTwice(Points):
    score_names = ("accuracy", "accuracy")


class CountsInFloats(Points):
    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        found = super().evaluate(model, split)
        return dataclasses.replace(found, n=float(found.n))  # type: ignore[arg-type]


class OwesUnits(Points):
    def batch(self, step: int) -> Batch:
        batch = super().batch(step)
        weight = torch.ones(len(batch), dtype=torch.int64)
        weight[0] = 1 if step < 2 else -1
        return Batch(**batch.fields, weight=weight)


class SinglePrecision(Points):
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model(batch.inputs.float())
        return outputs


class NoSecondDerivative(Points):
    def model(self) -> nn.Module:
        return nn.Sequential(nn.EmbeddingBag(2, 8), nn.Tanh(), nn.Linear(8, CLASSES))

    def examples(self, split: str) -> Batch:
        batch = super().examples(split)
        return Batch(inputs=(batch.inputs > 0).long(), targets=batch.targets)


class WrongSecondDerivative(Points):
    def forward(self, model: nn.Module, batch: Batch) -> Tensor:
        outputs: Tensor = model(batch.inputs)
        return outputs * outputs.detach()
