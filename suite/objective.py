"""The objective, which gives an optimizer its gradients and losses, and the meter that counts their cost.

An objective is bound to one mini-batch at a time. A call runs forward and backward on a slice of that batch
and adds to `.grad` the share of that slice in the gradient of the mean loss over the whole mini-batch:

    objective(part=j, parts=M) adds  (n_j / n) * grad L(w; slice j),   sum_j n_j = n.

The optimizer zeroes gradients. `loss` returns the loss without a gradient; `function` returns it as a pure
function of the flat weights, which can be differentiated again. All evaluations of a step share one dropout
mask per example (protocol rule 19); `track_stats=False` keeps BatchNorm's running statistics (rule 18).
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from suite.batch import Batch
from suite.errors import SteppeError
from suite.flat_params import memory_strides
from suite.numerics.dropout import SharedDropout, share_dropout
from suite.numerics.flops import Flops
from suite.numerics.smooth import smooth
from suite.problem import ModelAt, mapped, widened
from suite.process_group import ProcessGroup, slice_bounds
from suite.seeds import Streams

# The first call of torch.func.jvp imports modules of torch that raise this warning about themselves.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)


class BatchLoss(Protocol):
    """The part of `suite.problem.Problem` that an objective uses."""

    score_names: tuple[str, ...]

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Return the outputs for a batch."""
        ...

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss over the units of the batch."""
        ...

    def scores(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return further numbers of each example, by the names in `score_names`."""
        ...


class Objective(Protocol):
    """The only way an optimizer gets a gradient or a loss."""

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """Accumulate the gradient of one slice; return its share of the batch's mean loss, detached.

        Args:
            part: index of the slice among `parts` consecutive slices, 0-based.
            parts: number of slices M; their sizes differ by at most one. If there are fewer examples than
                slices, some slices are empty: they cost nothing and return 0.
            track_stats: whether this evaluation updates BatchNorm's running statistics.
            across_ranks: whether the gradients are summed over all ranks of the run. If not, `.grad` holds
                this rank's own share, from its own examples, and the ranks may continue at different
                weights until the next sum. The loss is summed over ranks in either case.

        Returns:
            0-dim tensor (n_j / n) * mean loss of the slice, so that the sum over parts is the batch's mean.

        """
        ...

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """Return the value of a call without a gradient, at a third of its cost; statistics do not change."""
        ...

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """Return the share of the loss as a pure function of flat weights (P,), laid out as in `FlatParams`.

        It can be differentiated as often as the task's loss, by `torch.func` or by autograd. Its cost is the
        number of operations of these evaluations over that of one gradient; the optimizer's own matrix
        products in the step count too. It belongs to the mini-batch of one step and cannot be called in
        another. An entry that uses it names "function" in its `needs`. Available on one rank only.
        """
        ...


@dataclass
class Meter:
    """Cost counted in examples: evaluations charged to the optimizer, and uncharged forward passes."""

    gradients: int = 0
    """Examples through one forward and one backward pass."""
    losses: int = 0
    """Examples through a forward pass for the loss alone: each is a third of a gradient."""
    function: float = 0.0
    """Operations of the loss as a function and of its derivatives, over those of one example's gradient."""
    forward_only: int = 0
    """Examples in evaluation and in the re-estimation of BatchNorm; not charged."""
    operations: float = 0.0
    """Operations of one example's gradient, counted at the first request of the function."""

    @property
    def sample_gradients(self) -> int | float:
        """The cost in sample-gradients (PROTOCOL, rule 1): gradients + losses / 3 + function.

        >>> Meter(gradients=128, losses=96).sample_gradients
        160.0
        """
        if not self.losses and not self.function:
            return self.gradients
        return self.gradients + self.losses / 3 + self.function


class StatsSwitch:
    """Switches the tracking of running statistics of every BatchNorm of a model on and off.

    A layer in training mode with `track_running_stats=False` normalises by the batch and leaves
    `running_mean`, `running_var` and `num_batches_tracked` unchanged; momentum 0 would still count batches.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self._layers = [m for m in norms if m.running_mean is not None]
        self._on = True
        for layer in self._layers:
            layer.track_running_stats = True

    def set(self, on: bool) -> None:
        """Update (True) or keep (False) the running statistics in the following forward passes."""
        if on != self._on:
            for layer in self._layers:
                layer.track_running_stats = on
            self._on = on


class BatchObjective:
    """The engine's objective: a model, a problem's loss, and the mini-batch given by the last `load`.

    With several `ranks`, each rank evaluates its share of a slice, and all get the same result: gradient,
    loss, `scores` and meter refer to the whole slice.
    """

    def __init__(
        self,
        model: nn.Module,
        problem: BatchLoss,
        streams: Streams,
        *,
        separable: bool = True,
        autocast: torch.dtype | None = None,
        ranks: ProcessGroup | None = None,
    ) -> None:
        self.meter = Meter()
        self.scores: dict[str, Tensor] = {}
        """Sums of the problem's scores in the first evaluation of every example, 0-dim tensors."""
        self._model = model
        self._problem = problem
        self._streams = streams
        self._separable = separable
        self._autocast = autocast
        self._ranks = ProcessGroup() if ranks is None else ranks
        self._params = [p for p in model.parameters() if p.requires_grad]
        self._device = self._params[0].device.type
        self._stats = StatsSwitch(model)
        self._dropout: list[SharedDropout] = share_dropout(model)
        self._step = -1
        self._seen = 0
        self._flops: Flops | None = None
        self._asked = False
        """Whether `function` was called inside the present block of `metered`."""

    def load(self, step: int, batch: Batch) -> None:
        """Bind the mini-batch of `step`, which is already on the device."""
        self._step, self._batch = step, batch
        self._seen = 0
        self.scores = {}
        for layer in self._dropout:
            layer.begin_step(len(batch))

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """See `Objective`; raises SteppeError for parts > 1 if the batch loss is not a mean over examples."""
        return self._evaluate(part, parts, track_stats, self._params if across_ranks else ())

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """See `Objective`."""
        with torch.no_grad():
            return self._evaluate(part, parts, track_stats=False, params=None)

    @contextmanager
    def metered(self) -> Iterator[None]:
        """Permit `function` inside the block, which must contain every call of the returned function."""
        self._flops, self._asked = Flops(), False
        try:
            with self._flops:
                yield
        finally:
            if self._asked:  # otherwise none of the operations belong to the function
                self.meter.function += self._flops.total / self.meter.operations
            self._flops = None

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """See `Objective`; raises SteppeError on several ranks and outside `metered`."""
        if self._flops is None:
            raise SteppeError(
                "the loss as a function of the weights was not declared: let the entry's `needs` name "
                "'function' (in a loop of your own: call it inside `with objective.metered()`)"
            )
        if self._ranks.n > 1:
            raise SteppeError("the loss as a function of the weights is had on one rank only")
        low, high = self._bounds(part, parts)
        names = [name for name, p in self._model.named_parameters() if p.requires_grad]
        orders = [(p, _memory_order(p)) for p in self._params]
        views, sizes = [_view_of(p, order) for p, order in orders], [p.numel() for p in self._params]

        step = self._step

        # Takes the bounds as arguments, because the unit of cost is counted on the whole mini-batch.
        def of(low: int, high: int, flat: Tensor) -> Tensor:
            if self._step != step or self._flops is None:
                raise SteppeError(
                    "the loss as a function is that of one step's mini-batch: ask for it in every step"
                )
            if low == high:  # zero, but differentiable
                return flat.sum() * 0.0
            self._begin(part, parts, track_stats=False)
            pieces = torch.split(flat, sizes)
            values = {name: view(piece) for name, view, piece in zip(names, views, pieces, strict=True)}
            with smooth():
                outputs, batch = self._forward(low, high, ModelAt(self._model, values))
                return self._of_batch(self._problem.loss(outputs, batch), batch)

        # The unit is an average over the whole mini-batch: some operations do not belong to single examples.
        if not self.meter.operations:
            n, at = len(self._batch), torch.cat([p.detach().permute(order).flatten() for p, order in orders])
            with self._flops.pause(), Flops() as counted:
                torch.func.grad(partial(of, 0, n))(at)
            if not counted.total:
                raise SteppeError("this model has no matrix product or convolution to be metered by")
            self.meter.operations = counted.total / n
        self._asked |= low < high
        return partial(of, low, high)

    # -- internals -------------------------------------------------------------------------------

    def _evaluate(
        self, part: int, parts: int, track_stats: bool, params: Sequence[nn.Parameter] | None
    ) -> Tensor:
        """Evaluate a slice; gradients of `params` are summed over ranks; None: the loss alone."""
        low, high = self._bounds(part, parts)
        if low == high:
            return self._zero()
        self._begin(part, parts, track_stats)
        count = high > self._seen  # the score of an example comes from its first evaluation
        mine = self._ranks.bounds(low, high)
        if self._ranks.n > 1:
            loss, scores = self._share(*mine, count, params)
        elif self._flops is None:
            loss, scores = self._pass(*mine, count, params is not None)
        else:
            with self._flops.pause():
                loss, scores = self._pass(*mine, count, params is not None)
        self._seen = max(self._seen, high)
        if params is None:
            self.meter.losses += high - low
        else:
            self.meter.gradients += high - low
        for name, value in scores.items():
            self.scores[name] = self.scores[name] + value if name in self.scores else value
        return loss

    def _bounds(self, part: int, parts: int) -> tuple[int, int]:
        if parts > 1 and not self._separable:
            raise SteppeError("this task's batch loss is not a mean over examples: parts must be 1")
        if not (isinstance(part, int) and isinstance(parts, int) and 0 <= part < parts):
            raise SteppeError(f"part {part} of {parts}; valid: whole numbers, 0 to parts - 1")
        return slice_bounds(len(self._batch), part, parts)

    def _begin(self, part: int, parts: int, track_stats: bool) -> None:
        self._stats.set(track_stats)
        # Library code inside the model draws from the global generator: the same numbers in every evaluation
        # of this slice. The counter -1 separates them from draws of `SharedDropout`, which counts from 0.
        place = (self._ranks.rank,) if self._ranks.n > 1 else ()
        self._streams.seed_global("dropout", self._step, -1, part, parts, *place)

    def _zero(self) -> Tensor:
        return self._params[0].new_zeros((), requires_grad=False)

    def _of_batch(self, loss: Tensor, batch: Batch) -> Tensor:
        """Weight the mean loss of a slice by its share of the whole mini-batch."""
        return loss if batch.units == self._batch.units else loss * (batch.units / self._batch.units)

    def _forward(self, low: int, high: int, model: Any = None) -> tuple[Any, Batch]:
        batch = self._batch.part(low, high)
        for layer in self._dropout:
            layer.begin_pass(low, high, self._streams, self._step)
        with torch.autocast(self._device, dtype=self._autocast, enabled=self._autocast is not None):
            outputs = self._problem.forward(self._model if model is None else model, batch)
        return (outputs if self._autocast is None else widened(outputs)), batch

    def _pass(self, low: int, high: int, count: bool, backward: bool) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss share and the scores of examples [low, high); with `backward` add the gradient."""
        outputs, batch = self._forward(low, high)
        loss = self._of_batch(self._problem.loss(outputs, batch), batch)
        if backward:
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach(), self._sums(outputs, batch) if count else {}

    def _sums(self, outputs: Any, batch: Batch) -> dict[str, Tensor]:
        if not self._problem.score_names:
            return {}
        detached = outputs.detach() if isinstance(outputs, Tensor) else mapped(Tensor.detach, outputs)
        scores = self._problem.scores(detached, batch)
        return {name: scores[name].sum() for name in self._problem.score_names}

    def _share(
        self, low: int, high: int, count: bool, params: Sequence[nn.Parameter] | None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Evaluate this rank's examples [low, high), and sum loss, scores and gradients over ranks."""
        if params:
            self._ranks.begin(params)
        loss, scores = self._zero(), dict[str, Tensor]()
        if low < high:
            loss, scores = self._pass(low, high, count, params is not None)
        # Loss and scores share one vector, so that they travel in the all-reduce of the gradients. A rank
        # without examples contributes zeros under the declared names.
        names = self._problem.score_names
        numbers = self._params[0].new_zeros(1 + len(names), requires_grad=False)
        numbers[0] = loss
        for at, name in enumerate(names, 1):
            if name in scores:
                numbers[at] = scores[name]
        numbers = self._ranks.add_up(params or (), numbers)
        return numbers[0], dict(zip(names, numbers[1:], strict=True)) if count else {}


def _memory_order(p: Tensor) -> list[int]:
    """Return the dimensions of a parameter from outermost to innermost in memory, as in `FlatParams`."""
    strides = memory_strides(p)
    return sorted(range(p.dim()), key=lambda d: (-strides[d], d))


def _view_of(p: Tensor, order: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Return a function that gives a piece of a flat vector the shape of the parameter."""
    shape, back = [p.shape[d] for d in order], [order.index(d) for d in range(p.dim())]
    return lambda piece: piece.view(shape).permute(back)


class ObservedObjective:
    """A wrapper of an objective: subclass it to observe the evaluations of an optimizer."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def look(self) -> None:
        """Called before every evaluation, when the model holds the weights of that evaluation."""

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """See `Objective`."""
        self.look()
        return self.objective(part, parts, track_stats, across_ranks)

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """See `Objective`."""
        self.look()
        return self.objective.loss(part, parts)

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """See `Objective`; evaluations of the function are not observed."""
        return self.objective.function(part, parts)


class ClosureObjective:
    """A plain closure (forward, backward, return the loss) as an objective, for custom training loops."""

    def __init__(self, closure: Callable[[], Tensor], model: nn.Module | None = None) -> None:
        self._closure = closure
        self._stats = StatsSwitch(model) if model is not None else None

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """Run the closure; it must not zero gradients. Raises SteppeError on parts > 1."""
        if parts > 1:
            raise SteppeError("a closure cannot be split: use parts=1, or suite.objective.BatchObjective")
        if self._stats is not None:
            self._stats.set(track_stats)
        with torch.enable_grad():
            return self._closure().detach()

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """Raise SteppeError: a closure always runs its backward pass."""
        raise SteppeError("a closure gives gradients only: use suite.objective.BatchObjective")

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """Raise SteppeError: a closure does not take weights."""
        raise SteppeError("a closure gives gradients only: use suite.objective.BatchObjective")


def as_objective(closure: Callable[[], Tensor], model: nn.Module | None = None) -> ClosureObjective:
    """Wrap a closure that runs forward and backward; pass `model` so that `track_stats` works."""
    return ClosureObjective(closure, model)
