"""What an optimizer calls to get gradients and losses, and the meter that counts what they cost.

An objective is bound to one mini-batch at a time. Calling it runs forward and backward on a slice of
that batch and accumulates into `.grad` the gradient of the mean loss over the whole mini-batch:

    objective(part=j, parts=M) adds  (n_j / n) * grad L(w; slice j),   sum_j n_j = n.

The optimizer zeroes gradients. Two more doors give the loss alone and the loss as a pure function of the flat
weights, which can be differentiated again. All evaluations of a step share one dropout mask per example
(protocol rule 19), and `track_stats=False` leaves the running statistics of BatchNorm alone (rule 18).
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
from suite.numerics.dropout import SharedDropout, share_dropout
from suite.numerics.flops import Flops
from suite.numerics.smooth import smooth
from suite.params import memory_strides
from suite.problem import ModelAt, mapped, widened
from suite.process_group import ProcessGroup, slice_bounds
from suite.seeds import Streams

# What torch.func.jvp imports when it is first called says that itself is old.
warnings.filterwarnings("ignore", "`torch.jit.script` is deprecated", FutureWarning)


class BatchLoss(Protocol):
    """What an objective asks of a problem (see `suite.problem.Problem`)."""

    score_names: tuple[str, ...]

    def forward(self, model: nn.Module, batch: Batch) -> Any:
        """Return the outputs for a batch."""
        ...

    def loss(self, outputs: Any, batch: Batch) -> Tensor:
        """Return the mean loss over the units of the batch."""
        ...

    def scores(self, outputs: Any, batch: Batch) -> Mapping[str, Tensor]:
        """Return further numbers of each example, by the names of `score_names`."""
        ...


class Objective(Protocol):
    """The only way an optimizer gets a gradient or a loss."""

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """Accumulate the gradient of one slice; return its share of the batch's mean loss, detached.

        Args:
            part: which of the `parts` consecutive slices, 0-based.
            parts: number of slices M; their sizes differ by one where they must. Slices beyond the
                number of examples are empty: they cost nothing and return 0.
            track_stats: whether BatchNorm's running statistics take up this evaluation.
            across_ranks: whether the gradients of all processes of the run are added up. If not, `.grad`
                holds this process's own share, from its own examples, and the processes may go on at
                weights of their own until the next sum. The loss is that of all of them in either case.

        Returns:
            0-dim tensor (n_j / n) * mean loss of the slice, so that the sum over parts is the batch's mean.

        """
        ...

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """Return what a call would, without a gradient: a third of its cost. Running statistics stay."""
        ...

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """Return the share of the loss as a pure function of flat weights (P,), as `FlatParams` has them.

        It can be differentiated as often as the task's loss can, by `torch.func` or by autograd, and is
        charged the operations of all of that, in units of those of a gradient; matrix products of the
        optimizer's own in such a step are counted, too. It is the function of this step's mini-batch, and of
        no other step. An entry that uses it says so in its `needs`. On one process only.
        """
        ...


@dataclass
class Meter:
    """Cost, counted in examples: what an optimizer asked for, and what is not charged."""

    gradients: int = 0
    """One example through one forward and one backward pass."""
    losses: int = 0
    """One example through a forward pass for its loss alone: a third of a gradient."""
    function: float = 0.0
    """The loss as a function, with derivatives: operations, over those of one example's gradient."""
    forward_only: int = 0
    """Forward passes of evaluation and of the re-estimation of BatchNorm."""
    operations: float = 0.0
    """Of one example's gradient, counted when the function is first asked for: the unit of `function`."""

    @property
    def sample_gradients(self) -> int | float:
        """The cost in sample-gradients (PROTOCOL, rule 1)."""
        if not self.losses and not self.function:
            return self.gradients
        return self.gradients + self.losses / 3 + self.function


class StatsSwitch:
    """Turns the tracking of running statistics of every BatchNorm of a model on and off.

    A layer in training mode with `track_running_stats=False` normalises by the batch and leaves
    `running_mean`, `running_var` and `num_batches_tracked` untouched; momentum 0 would still count.
    """

    def __init__(self, model: nn.Module) -> None:
        norms = [m for m in model.modules() if isinstance(m, _BatchNorm)]
        self._layers = [m for m in norms if m.running_mean is not None]
        self._on = True
        for layer in self._layers:
            layer.track_running_stats = True

    def set(self, on: bool) -> None:
        """Track (True) or leave alone (False) the running statistics in the next forward passes."""
        if on != self._on:
            for layer in self._layers:
                layer.track_running_stats = on
            self._on = on


class BatchObjective:
    """The engine's objective: a model, a problem's loss, and the mini-batch given by the last `load`.

    Of several `ranks` each evaluates its slice of the slice, and what comes out is the same in all of them:
    gradient, loss, `scores` and meter are those of the whole.
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
        """Whether the function was asked for inside the present block of `metered`."""

    def load(self, step: int, batch: Batch) -> None:
        """Bind the mini-batch of `step`, which is on the device already."""
        self._step, self._batch = step, batch
        self._seen = 0
        self.scores = {}
        for layer in self._dropout:
            layer.begin_step(len(batch))

    def __call__(
        self, part: int = 0, parts: int = 1, track_stats: bool = True, across_ranks: bool = True
    ) -> Tensor:
        """See `Objective`; raises SteppeError on parts > 1 where the batch loss is no mean over examples."""
        return self._evaluate(part, parts, track_stats, self._params if across_ranks else ())

    def loss(self, part: int = 0, parts: int = 1) -> Tensor:
        """See `Objective`."""
        with torch.no_grad():
            return self._evaluate(part, parts, track_stats=False, params=None)

    @contextmanager
    def metered(self) -> Iterator[None]:
        """Open the door `function` inside the block, which holds everything that is done with it."""
        self._flops, self._asked = Flops(), False
        try:
            with self._flops:
                yield
        finally:
            if self._asked:  # else no operation is of it
                self.meter.function += self._flops.total / self.meter.operations
            self._flops = None

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """See `Objective`; raises SteppeError on several ranks, and outside of `metered`."""
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

        def of(low: int, high: int, flat: Tensor) -> Tensor:
            if self._step != step or self._flops is None:
                raise SteppeError(
                    "the loss as a function is that of one step's mini-batch: ask for it in every step"
                )
            if low == high:
                return flat.sum() * 0.0
            self._begin(part, parts, track_stats=False)
            pieces = torch.split(flat, sizes)
            values = {name: view(piece) for name, view, piece in zip(names, views, pieces, strict=True)}
            with smooth():
                outputs, batch = self._forward(low, high, ModelAt(self._model, values))
                return self._of_batch(self._problem.loss(outputs, batch), batch)

        if not self.meter.operations:  # of the whole mini-batch: not all operations are of single examples
            n, at = len(self._batch), torch.cat([p.detach().permute(order).flatten() for p, order in orders])
            with self._flops.pause(), Flops() as counted:
                torch.func.grad(partial(of, 0, n))(at)
            if not counted.total:
                raise SteppeError("this model has no matrix product or convolution to be metered by")
            self.meter.operations = counted.total / n
        self._asked |= low < high
        return partial(of, low, high)

    # -- within ----------------------------------------------------------------------------------

    def _evaluate(
        self, part: int, parts: int, track_stats: bool, params: Sequence[nn.Parameter] | None
    ) -> Tensor:
        """Evaluate a slice; `params`: whose gradients to add up over ranks; None: the loss alone."""
        low, high = self._bounds(part, parts)
        if low == high:
            return self._zero()
        self._begin(part, parts, track_stats)
        count = high > self._seen  # the first evaluation of an example is the one that its score is of
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
        # Random draws of library code inside the model: the same for every evaluation of this slice.
        # The -1 keeps them apart from the layers' own draws, which count from 0 there.
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
        """Return the share of the loss of examples [low, high) and their scores; or add its gradient."""
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
        """Do this process's part of an evaluation that several share, and add everything up."""
        if params:
            self._ranks.begin(params)
        loss, scores = self._zero(), dict[str, Tensor]()
        if low < high:
            loss, scores = self._pass(low, high, count, params is not None)
        names = self._problem.score_names
        numbers = self._params[0].new_zeros(1 + len(names), requires_grad=False)
        numbers[0] = loss
        for at, name in enumerate(names, 1):
            if name in scores:
                numbers[at] = scores[name]
        numbers = self._ranks.add_up(params or (), numbers)
        return numbers[0], dict(zip(names, numbers[1:], strict=True)) if count else {}


def _memory_order(p: Tensor) -> list[int]:
    """Dimensions of a parameter from the outermost in memory to the innermost, as in `FlatParams`."""
    strides = memory_strides(p)
    return sorted(range(p.dim()), key=lambda d: (-strides[d], d))


def _view_of(p: Tensor, order: Sequence[int]) -> Callable[[Tensor], Tensor]:
    """Return what makes a piece of a flat vector look like the parameter."""
    shape, back = [p.shape[d] for d in order], [order.index(d) for d in range(p.dim())]
    return lambda piece: piece.view(shape).permute(back)


class ObservedObjective:
    """An objective around another one: subclass it to look at what an optimizer asks for."""

    def __init__(self, objective: Objective) -> None:
        self.objective = objective

    def look(self) -> None:
        """Called before every evaluation, with the weights at which it takes place."""

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
        """See `Objective`; it is evaluated at weights of the caller's, at which nobody looks."""
        return self.objective.function(part, parts)


class ClosureObjective:
    """A plain closure (forward, backward, return the loss) as an objective, for anybody's own loop."""

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
        """Raise SteppeError: a closure runs its backward pass too."""
        raise SteppeError("a closure gives gradients only: use suite.objective.BatchObjective")

    def function(self, part: int = 0, parts: int = 1) -> Callable[[Tensor], Tensor]:
        """Raise SteppeError: a closure is a function of nothing."""
        raise SteppeError("a closure gives gradients only: use suite.objective.BatchObjective")


def as_objective(closure: Callable[[], Tensor], model: nn.Module | None = None) -> ClosureObjective:
    """Adapt a closure that does forward and backward; pass `model` so that `track_stats` works."""
    return ClosureObjective(closure, model)
