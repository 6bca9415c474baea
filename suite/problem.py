"""A task prepared for one run: its data, model, loss and evaluation. The engine trains a `Problem`.

    outputs = problem.forward(model, batch)        the outputs of the model for a batch
    problem.losses(outputs, batch)       (n,)      the loss of each example, summed over its units
    problem.loss(outputs, batch)         ()        the mean over all units of the batch: the training loss
    problem.scores(outputs, batch)       {name: (n,)}   further numbers of each example, summed over its units

A task file subclasses `Problem`, or one of the classes below, which already make batches: `InMemory` for
examples that fit on the device, `Classification` for cross-entropy on top of it. Every batch is a pure
function of (seed, step), so that a run resumes without saved state of a data reader.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from suite.batch import Batch
from suite.data.dataset import Data, Generated, Reader
from suite.errors import SteppeError
from suite.seeds import TASK_SEED, Streams
from suite.task import Task

EVAL_BATCH = 500
"""Examples per forward pass in evaluation, if the loss is a mean over examples."""


class Splits:
    """The splits of a data set; test splits are sealed until training ends."""

    def __init__(
        self, data: Data, root: Path | None = None, cache: Path | None = None, sealed: Collection[str] = ()
    ) -> None:
        self._data, self._root, self._cache = data, root, cache
        self._sealed = frozenset(sealed)
        self._reader: Reader | None = None
        self.digests: dict[str, str] = {}
        """SHA-256 of each generated split that was read."""

    def __getitem__(self, split: str) -> Any:
        """Return a split; SteppeError if it is sealed or the data set does not have it."""
        if split in self._sealed:
            raise SteppeError(
                f"split {split!r} of data set {self._data.name} is a test split and sealed while a run "
                "trains: read it in `batches(split)`, which the engine calls after training"
            )
        if self._reader is None:
            self._reader = self._data.open(self._root, self._cache)
        found = self._reader(split)
        if isinstance(self._data, Generated):
            self.digests[split] = found.digest()
        return found

    def unseal(self) -> None:
        """Permit reading the test splits, after training."""
        self._sealed = frozenset()


@dataclass(frozen=True)
class Setting:
    """The arguments from which a problem is built."""

    task: Task
    data: Data
    """The data set of the run, one of `task.data`."""
    splits: Splits
    seed: int = 0
    """Seed of the run; draws of the task, the same for every run, use `suite.seeds.TASK_SEED`."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32
    """Dtype of weights and of floating-point inputs."""
    autocast: torch.dtype | None = None
    """Dtype of the forward pass, if it is not `dtype`."""


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one split, and the correct examples for each metric that is a mean of booleans."""

    n: int
    """Number of examples."""
    metrics: Mapping[str, float]
    right: Mapping[str, Tensor] = field(default_factory=dict)
    """By metric, booleans (n,) on the CPU in the order of the split: evidence that a record keeps."""


@dataclass(frozen=True)
class Curve:
    """The points of a declared `suite.metric.Profile`."""

    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Conclusion:
    """The declared facts and profiles of a whole run."""

    facts: Mapping[str, float] = field(default_factory=dict)
    profiles: Mapping[str, Curve] = field(default_factory=dict)


class Problem:
    """Data, model, loss and evaluation of one run. Subclass it, or one of the classes below.

    A subclass defines `model`, `losses` (or `loss`, if the batch loss is joint) and the three methods that
    return data: `batch`, `batches`, `measured`. The other methods have defaults.
    """

    n_train: int
    """Examples per epoch."""
    score_names: tuple[str, ...] = ()
    """Keys of `scores`, declared because a rank without examples needs them too."""
    memory_format: torch.memory_format = torch.contiguous_format
    """Memory format of the model's weights."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.task, self.device = setting.task, setting.device
        self.identity: dict[str, str] = {}
        """Checksums of the draws from the data set, by name: runs of one table must agree in them."""

    # -- model and loss --------------------------------------------------------------------------

    def model(self) -> nn.Module:
        """Build the model; torch's global generator is at the start of the run's stream `init`."""
        raise NotImplementedError(f"{type(self).__name__} has no method `model`: write it")

    def head(self, model: nn.Module) -> Sequence[nn.Module]:
        """Return the last layers, which some optimizers treat separately; by default the last `nn.Linear`."""
        linear = [module for module in model.modules() if isinstance(module, nn.Linear)]
        return linear[-1:]

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Return the outputs for a batch: a tensor, or tuples and dicts of tensors.

        Call `model` itself, not its submodules: it may be compiled, or a `ModelAt`.
        """
        return model(batch.inputs)

    def losses(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the loss of each example (n,), summed over its units."""
        raise NotImplementedError(f"{type(self).__name__} has no method `losses`: write it")

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss over the units of the batch, a 0-dim tensor."""
        return self.losses(outputs, batch).sum() / batch.units

    def scores(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        """Return further numbers of each example, {name: (n,)}; booleans for correctness."""
        return {}

    def metrics(self, means: Mapping[str, float]) -> dict[str, float]:
        """Return the metrics that follow from the means of loss and scores, for instance a perplexity."""
        return dict(means)

    # -- data ------------------------------------------------------------------------------------

    @property
    def batch_size(self) -> int:
        """Examples per mini-batch."""
        return self.task.batch_size or self.n_train

    @property
    def steps_per_epoch(self) -> int:
        """Steps in one pass over the training set; the last mini-batch may be smaller."""
        return -(-self.n_train // self.batch_size)

    def batch(self, step: int) -> Batch:
        """Return the mini-batch of a 0-based step: a pure function of the run's seed and the step."""
        raise NotImplementedError(f"{type(self).__name__} has no method `batch`: write it")

    def batches(self, split: str) -> Iterator[Batch]:
        """Yield a split in its own order, without augmentation; a test split after training only."""
        raise NotImplementedError(f"{type(self).__name__} has no method `batches`: write it")

    def measured(self, n: int) -> Batch:
        """Return about n fixed training examples, the same for every run, for the sharpness measures."""
        raise NotImplementedError(f"{type(self).__name__} has no method `measured`: write it")

    # -- evaluation ------------------------------------------------------------------------------

    def predict(self, model: nn.Module, batch: Batch) -> Any:
        """Return the outputs in the run's precision; lower precision is widened to float32."""
        autocast = self.setting.autocast
        with torch.autocast(self.device.type, dtype=autocast, enabled=autocast is not None):
            outputs = self.forward(model, batch)
        return outputs if autocast is None else widened(outputs)

    def evaluate(self, model: nn.Module, split: str) -> Evaluation:
        """Evaluate a split by means over its units. Override it for other metrics, for instance of retrieval.

        The model is in eval mode and autograd is off. A joint loss is averaged over the batches of full size.
        """
        losses: list[Tensor] = []
        scores: dict[str, list[Tensor]] = {}
        n = units = in_loss = 0
        for batch in self.batches(split):
            outputs = self.predict(model, batch)
            # A joint loss depends on the batch size: a smaller last batch counts only if it is the only one.
            if self.task.separable or len(batch) == self.batch_size or not losses:
                losses.append(self.loss(outputs, batch).double() * batch.units)
                in_loss += batch.units
            n, units = n + len(batch), units + batch.units
            for name, some in self.scores(outputs, batch).items():
                scores.setdefault(name, []).append(some)
        if not n:
            raise SteppeError(f"task {self.task.name}: split {split!r} is empty")
        if not in_loss:
            raise SteppeError(f"task {self.task.name}: the examples of split {split!r} have no units")
        check_score_names(self.task.name, tuple(scores))
        means = {"loss": float(torch.stack(losses).sum()) / in_loss}
        right: dict[str, Tensor] = {}
        for name, parts in scores.items():
            joined = torch.cat(parts).cpu()
            means[name] = float(joined.double().sum()) / units
            if joined.dtype == torch.bool and units == n:
                right[name] = joined
        return Evaluation(n, self.metrics(means), right)

    def watch(self, model: nn.Module, row: Mapping[str, Any]) -> dict[str, float]:
        """Return the task's declared columns for the row of an epoch, which holds loss, lr and measures.

        The model is that in training, or that with the optimizer's evaluation weights, in eval mode. Do not
        change its weights, `requires_grad` flags or statistics. The row is a copy.
        """
        return {}

    def conclude(self, model: nn.Module, rows: Sequence[Mapping[str, Any]]) -> Conclusion:
        """Return the declared facts and profiles, from the final weights and the rows of the whole run.

        It is called last. The model is in eval mode, as evaluated; do not change it.
        """
        return Conclusion()


def check_score_names(task: str, names: Sequence[str]) -> None:
    """Raise SteppeError for names of scores under which one mean would overwrite another."""
    if isinstance(names, str):  # a str is a sequence of one-letter names
        raise SteppeError(f"task {task}: score_names is a text; valid: a tuple of names, ({names!r},)")
    if "loss" in names:
        raise SteppeError(
            f"task {task}: score_names: 'loss' is the name of the loss that is trained; choose another one"
        )
    for name in names:
        if list(names).count(name) > 1:
            raise SteppeError(f"task {task}: score_names: {name!r} stands twice; name each score once")


class InMemory(Problem):
    """A problem whose examples fit on the device: define `model`, `losses` and optionally `scores`.

    The splits are those of the data set, as `Batch`es, unless `examples` is overridden.
    """

    def __init__(self, setting: Setting) -> None:
        super().__init__(setting)
        self.train = self._placed("train")
        if not len(self.train):
            raise SteppeError(f"task {self.task.name}: split 'train' is empty")
        n, size = len(self.train), self.task.batch_size or len(self.train)
        # A joint loss is of whole batches: examples beyond the last whole one are not counted.
        self.n_train = n if self.task.separable else n - n % size or n
        self._held: dict[str, Batch] = {"train": self.train}
        self._streams, self._epoch = Streams(setting.seed), -1

    def examples(self, split: str) -> Batch:
        """Return all examples of a split in its own order; override it to draw or normalise them."""
        found: Batch = self.setting.splits[split]
        return found

    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Return the augmented mini-batch; make every draw from the generator, on the CPU."""
        return batch

    def batch(self, step: int) -> Batch:
        """See `Problem`."""
        if not self.task.batch_size:
            return self.augment(self.train, self._streams.generator("augment", step))
        epoch, position = divmod(step, self.steps_per_epoch)
        if epoch != self._epoch:
            self._order = torch.randperm(len(self.train), generator=self._streams.generator("order", epoch))
            self._epoch = epoch
        rows = self._order[position * self.batch_size : (position + 1) * self.batch_size]
        return self.augment(self.train[rows.to(self.device)], self._streams.generator("augment", step))

    def batches(self, split: str) -> Iterator[Batch]:
        """See `Problem`."""
        if split not in self._held:
            self._held[split] = self._placed(split)
        some = self._held[split]
        size = EVAL_BATCH if self.task.separable else self.batch_size
        for low in range(0, len(some), size):
            yield some.part(low, min(low + size, len(some)))

    def measured(self, n: int) -> Batch:
        """See `Problem`; for a joint loss, whole batches with at most n examples in total, at least one."""
        if not self.task.separable:
            n = max(1, n // self.batch_size) * self.batch_size
        order = torch.randperm(len(self.train), generator=Streams(TASK_SEED).generator("measure"))
        return self.train[order[: min(n, len(self.train))].sort().values.to(self.device)]

    def _placed(self, split: str) -> Batch:
        return self.examples(split).to(self.device, self.setting.dtype)


class ClassificationLoss:
    """Cross-entropy and accuracy of logits (n, C) for integer `targets` (n,).

    It can also be used alone, as the loss of a `BatchObjective` in a custom training loop.
    """

    score_names: tuple[str, ...] = ("accuracy",)

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """See `Problem`."""
        return model(batch.inputs)

    def losses(self, outputs: Tensor, batch: Batch) -> Tensor:
        """See `Problem`."""
        return F.cross_entropy(outputs, batch.targets, reduction="none")

    def loss(self, outputs: Tensor, batch: Batch) -> Tensor:
        """See `Problem`; the fused mean rounds once."""
        return F.cross_entropy(outputs, batch.targets)

    def scores(self, outputs: Tensor, batch: Batch) -> dict[str, Tensor]:
        """See `Problem`."""
        return {"accuracy": outputs.argmax(1) == batch.targets}


class Classification(ClassificationLoss, InMemory):
    """A problem of `inputs` and integer `targets` that fit on the device: define only `model`."""


class ModelAt:
    """A model at other weights, given by parameter name; `Problem.forward` accepts it as a model.

    >>> double = ModelAt(nn.Linear(1, 1, bias=False), {"weight": torch.tensor([[2.0]])})
    >>> double(torch.tensor([3.0])).item()
    6.0
    """

    def __init__(self, model: nn.Module, values: Mapping[str, Tensor]) -> None:
        self._model, self._values = model, dict(values)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the model at these weights."""
        return torch.func.functional_call(self._model, self._values, args, kwargs)


def mapped(change: Callable[[Tensor], Tensor], outputs: Any) -> Any:
    """Apply a function to every tensor in the outputs of a model."""
    if isinstance(outputs, Tensor):
        return change(outputs)
    if isinstance(outputs, Mapping):
        return {key: mapped(change, value) for key, value in outputs.items()}
    if isinstance(outputs, list | tuple):
        values = [mapped(change, value) for value in outputs]
        return type(outputs)(*values) if hasattr(outputs, "_fields") else type(outputs)(values)
    return outputs


def widened(outputs: Any) -> Any:
    """Convert outputs of low precision to float32, in which every loss is computed."""
    return mapped(lambda one: one.float() if one.is_floating_point() else one, outputs)
