"""The loop that turns one run spec into one record.

A run is a pure function of its spec: batches, noise and dropout come from named streams at the step's
counters, so a run resumed from any checkpoint equals the uninterrupted one bit for bit (same device kind,
same thread count, no compile).
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suite.attempt import Attempt
from suite.claim import RunDone, RunSuperseded
from suite.context import Context, build_model, prepare
from suite.data.batches import eval_batches
from suite.evaluate import evaluate
from suite.files import finite
from suite.objective import BatchObjective, Objective
from suite.precision import PerturbationProbe, low_precision_cast
from suite.provenance import attempt_provenance
from suite.record import Trained, build_record, curve_columns, curve_measures, measure_along
from suite.registry import Registry
from suite.schedule import lr_factor
from suite.seeds import NormalStream, Streams
from suite.sharpness import Estimate
from suite.spec import BuildContext
from suite.store import RunFolder

CHECKPOINT_S = 60.0
"""Seconds between checkpoints on the timer, unless the caller says otherwise."""

PROGRESS_S = 0.5
"""Seconds between progress messages inside an epoch."""

Progress = Callable[[dict[str, Any]], None]


def run_one(
    folder: RunFolder,
    registry: Registry,
    data_root: Path | None,
    *,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda _: None,
    checkpoint_s: float = CHECKPOINT_S,
    restart_count: int = 0,
    job: str = "",
) -> str:
    """Train, evaluate and measure one run, resuming what an earlier attempt left.

    Returns "done" (a record stands, also if another attempt wrote it), "failed" (the record says that
    the run diverged) or "interrupted" (`stop` asked, or a newer attempt owns the run; it can be resumed).
    Raises RunBusy if a live attempt is at work, SteppeError on a mistake in the input.
    """
    if folder.result() is not None:
        return folder.status()
    spec = folder.spec()
    context = prepare(spec, folder, registry, data_root)
    try:
        attempt = folder.start(restart_count, job)
    except RunDone:
        return folder.status()
    with attempt:
        attempt.provenance(attempt_provenance(spec))
        try:
            return Trainer(context, attempt, stop, progress, checkpoint_s).run()
        except RunSuperseded as error:
            print(error, file=sys.stderr, flush=True)
            return "interrupted"


class Trainer:
    """The state of one run and the loop over its steps."""

    def __init__(
        self,
        context: Context,
        attempt: Attempt,
        stop: Callable[[], bool],
        progress: Progress,
        checkpoint_s: float,
    ) -> None:
        self.context, self.attempt = context, attempt
        self._stop, self._progress, self._checkpoint_s = stop, progress, checkpoint_s
        self._curve_measures = curve_measures(context.task)
        self._measured: dict[str, Estimate] = {}
        spec = context.spec
        self.model = build_model(context)
        self.optimizer = context.entry.build(
            list(self.model.parameters()),
            spec.optimizer.params,
            BuildContext(context.total_steps, NormalStream(spec.seed)),
        )
        self._initial_lr = [float(group["lr"]) for group in self.optimizer.param_groups]
        self.objective = BatchObjective(
            torch.compile(self.model) if spec.compile else self.model,  # type: ignore[arg-type]
            context.loss,
            Streams(spec.seed, context.device),
            separable=context.task.separable,
            autocast=context.autocast,
        )
        self.step = 0
        self.seconds = {"train_s": 0.0, "evaluate_s": 0.0, "measure_s": 0.0}
        self.cosines: dict[str, float] = {}
        self.diverged = False
        self._validation: dict[str, float] = {}
        self._last_loss = float("nan")
        self._reset_sums()

    def _reset_sums(self) -> None:
        zero = torch.zeros((), dtype=torch.float64, device=self.context.device)
        self._sums = {"loss": zero, "correct": zero.clone(), "examples": zero.clone()}

    # -- checkpoint ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain data."""
        return {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "meter": vars(self.objective.meter).copy(),
            "seconds": dict(self.seconds),
            "sums": dict(self._sums),
            "cosines": dict(self.cosines),
            "validation": dict(self._validation),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.step = state["step"]
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.objective.meter.__dict__.update(state["meter"])
        self.seconds.update(state["seconds"])
        self._sums = {key: value.to(self.context.device) for key, value in state["sums"].items()}
        self.cosines = dict(state["cosines"])
        self._validation = dict(state["validation"])

    # -- the loop --------------------------------------------------------------------------------

    def run(self) -> str:
        """Train from the newest checkpoint to the end, then evaluate, measure and publish."""
        state = self.attempt.resume()
        if state is not None:
            self.load(state)
            self._report("resuming")
        if not self._train():
            return "interrupted"
        self._report("measuring")
        record = build_record(
            self.context,
            Trained(
                model=self.model,
                meter=self.objective.meter,
                step=self.step,
                seconds=self.seconds,
                diverged=self.diverged,
                cosines=self.cosines,
                attempts=self.attempt.number,
                measured=self._measured,
            ),
        )
        self.attempt.publish(record)
        outcome = "failed" if self.diverged else "done"
        self._report(outcome)
        return outcome

    def _train(self) -> bool:
        """Run the remaining steps; False if the run must stop before its end."""
        context = self.context
        total, per_epoch = context.total_steps, context.batches.steps_per_epoch
        self.model.train()
        clock = time.perf_counter
        started = last_saved = last_told = clock()
        while self.step < total:
            self._one_step()
            self.step += 1
            at_end = self.step == total
            if self.step % per_epoch == 0 or at_end:
                self._wait()
                self.seconds["train_s"] += clock() - started
                self._end_epoch()
                if self.diverged:
                    return True
                started = last_told = clock()
            elif clock() - last_told >= PROGRESS_S:
                last_told = clock()
                self._report("running")
            stopping = self._stop()
            if at_end or stopping or clock() - last_saved >= self._checkpoint_s:
                self._wait()
                self.seconds["train_s"] += clock() - started
                self.attempt.checkpoint(self.state())
                started = last_saved = clock()
            if stopping:
                self.attempt.event("stopped", step=self.step)
                self._report("interrupted")
                return False
        return True

    def _one_step(self) -> None:
        context, step = self.context, self.step
        inputs, targets = context.batches.batch(step)
        factor = lr_factor(context.spec.optimizer.params, step, context.total_steps)
        for group, lr in zip(self.optimizer.param_groups, self._initial_lr, strict=True):
            group["lr"] = lr * factor
        self.objective.load(step, inputs, targets)
        cast = low_precision_cast(context.spec) if step in (0, context.total_steps - 1) else None
        if cast is not None and context.entry.perturbs:
            loss = self._probed_step("first" if step == 0 else "last", cast)
        else:
            loss = self._ask_for_step(self.objective)
        sums = self._sums
        sums["loss"] += loss * len(targets)
        if self.objective.correct is not None:
            sums["correct"] += self.objective.correct
        sums["examples"] += len(targets)

    def _probed_step(self, name: str, cast: Callable[[Tensor], Tensor]) -> Tensor:
        probe = PerturbationProbe(self.objective, self.model, cast)
        loss = self._ask_for_step(probe)
        if probe.cosine is not None:
            self.cosines[name] = probe.cosine
        return loss

    def _ask_for_step(self, objective: Objective) -> Tensor:
        # torch types the argument of step as a plain closure.
        loss: Tensor = self.optimizer.step(objective)  # type: ignore[arg-type, assignment]
        return loss

    def _end_epoch(self) -> None:
        context = self.context
        started = time.perf_counter()
        loss, correct, n = (float(self._sums[key]) for key in ("loss", "correct", "examples"))
        self._reset_sums()
        self._last_loss = loss / n
        epoch = -(-self.step // context.batches.steps_per_epoch)
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": self.step,
            "lr": float(self.optimizer.param_groups[0]["lr"]),
            "train_loss": finite(loss / n),
            "train_accuracy": correct / n,
            "sample_gradients": self.objective.meter.sample_gradients,
        }
        if row["train_loss"] is None:
            self.diverged = True
        else:
            result = evaluate(self.model, context.loss, self.validation_batches(), context.autocast)
            self.objective.meter.forward_only += len(context.data.val_y)
            self._validation = {"accuracy": result.accuracy, "loss": result.loss}
            row |= {"validation_loss": finite(result.loss), "validation_accuracy": result.accuracy}
            self.diverged = row["validation_loss"] is None
        self.seconds["evaluate_s"] += time.perf_counter() - started
        self.attempt.metrics(row | (self._measure(epoch) if self._curve_measures else {}))
        self.attempt.timing({"epoch": epoch, "step": self.step, **self.seconds})
        self._report("running")

    def _measure(self, epoch: int) -> dict[str, float | None]:
        """Take the measures that are due at the end of an epoch, as columns of its row."""
        self._measured = {}
        due = self.step == self.context.total_steps or epoch % self.context.task.measure_every == 0
        if not due or self.diverged:
            return {}
        self._report("measuring")
        started = time.perf_counter()
        self._measured, loss = measure_along(self.context, self.model, self.step, self._curve_measures)
        self.seconds["measure_s"] += time.perf_counter() - started
        return curve_columns(self._measured, loss)

    def validation_batches(self) -> Any:
        """Batches over the validation split."""
        context = self.context
        return eval_batches(context.data.val_x, context.data.val_y, context.dataset, context.device)

    # -- telling ---------------------------------------------------------------------------------

    def _wait(self) -> None:
        if self.context.device.type == "cuda":
            torch.cuda.synchronize()

    def _report(self, state: str) -> None:
        spec, context = self.context.spec, self.context
        examples = float(self._sums["examples"])
        if examples:
            self._last_loss = float(self._sums["loss"]) / examples
        self._progress(
            {
                "run_id": spec.run_id,
                "task": spec.task.label(context.task_params),
                "optimizer": spec.optimizer.label(context.entry.params),
                "seed": spec.seed,
                "epoch": self.step // context.batches.steps_per_epoch,
                "epochs": spec.epochs,
                "step": self.step,
                "steps": context.total_steps,
                "loss": finite(self._last_loss),
                "validation_accuracy": self._validation.get("accuracy"),
                "sample_gradients": self.objective.meter.sample_gradients,
                "state": state,
            }
        )
