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

from suite.attempt import Attempt
from suite.claim import RunDone, RunSuperseded
from suite.context import Context, prepare
from suite.data.batches import eval_batches
from suite.evaluate import evaluate
from suite.files import finite
from suite.group import lead
from suite.provenance import attempt_provenance
from suite.ranks import Ranks
from suite.record import Trained, build_record, curve_columns, curve_measures, measure_along
from suite.registry import Registry
from suite.sharpness import Estimate
from suite.steps import Steps
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
    address: str = "127.0.0.1",
    meet: Callable[[int], None] = lambda _: None,
) -> str:
    """Train, evaluate and measure one run, resuming what an earlier attempt left.

    Of a run's several processes this is rank 0: `meet` is told the port at `address` on which the others are
    awaited (see `suite.follow`).

    Returns "done" (a record stands, also if another attempt wrote it), "failed" (the record says that
    the run diverged) or "interrupted" (`stop` asked, or a newer attempt owns the run; it can be resumed).
    Raises RunBusy if a live attempt is at work, RankLostError if another process of the run is lost,
    SteppeError on a mistake in the input.
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
            with lead(spec.ranks, spec.device, address, meet, stop) as ranks:
                if ranks is None:
                    return "interrupted"
                trainer = Trainer(context, attempt, stop, progress, checkpoint_s, ranks)
                if not trainer.train():
                    return "interrupted"
            return trainer.finish()  # alone: the others are free meanwhile
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
        ranks: Ranks,
    ) -> None:
        self.context, self.attempt = context, attempt
        self._stop, self._progress, self._checkpoint_s = stop, progress, checkpoint_s
        self._ranks = ranks
        self._curve_measures = curve_measures(context.task)
        self._measured: dict[str, Estimate] = {}
        self.steps = Steps(context, ranks)
        self.seconds = {"train_s": 0.0, "evaluate_s": 0.0, "measure_s": 0.0}
        self.diverged = False
        self._validation: dict[str, float] = {}
        self._last_loss = float("nan")

    # -- checkpoint ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """All that the rest of the run depends on, as tensors and plain data."""
        return {
            **self.steps.state(),
            "seconds": dict(self.seconds),
            "validation": dict(self._validation),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continue from what `state` returned."""
        self.steps.load(state)
        self.seconds.update(state["seconds"])
        self._validation = dict(state["validation"])

    # -- the loop --------------------------------------------------------------------------------

    def train(self) -> bool:
        """Train from the newest checkpoint to the end; False if the run must stop before that."""
        state = self._ranks.share(self.attempt.resume())
        if state is not None:
            self.load(state)
            self._report("resuming")
        return self._train()

    def finish(self) -> str:
        """Evaluate, measure and publish; return "done", or "failed" if the run diverged."""
        self._report("measuring")
        steps = self.steps
        record = build_record(
            self.context,
            Trained(
                model=steps.model,
                meter=steps.objective.meter,
                step=steps.step,
                seconds=self.seconds,
                diverged=self.diverged,
                cosines=steps.cosines,
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
        context, steps = self.context, self.steps
        total, per_epoch = context.total_steps, context.batches.steps_per_epoch
        steps.model.train()
        clock = time.perf_counter
        started = last_saved = last_told = clock()
        stopping = False
        while self._ranks.agreed(steps.step < total and not (self.diverged or stopping)):
            steps.take()
            at_end = steps.step == total
            if steps.step % per_epoch == 0 or at_end:
                self._wait()
                self.seconds["train_s"] += clock() - started
                self._end_epoch()
                if self.diverged:
                    continue
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
            self.attempt.event("stopped", step=steps.step)
            self._report("interrupted")
        return not stopping

    def _end_epoch(self) -> None:
        context, steps = self.context, self.steps
        started = time.perf_counter()
        loss, correct, n = (float(steps.sums[key]) for key in ("loss", "correct", "examples"))
        steps.reset_sums()
        self._last_loss = loss / n
        epoch = -(-steps.step // context.batches.steps_per_epoch)
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": steps.step,
            "lr": float(steps.optimizer.param_groups[0]["lr"]),
            "train_loss": finite(loss / n),
            "train_accuracy": correct / n,
            "sample_gradients": steps.objective.meter.sample_gradients,
        }
        if row["train_loss"] is None:
            self.diverged = True
        else:
            result = evaluate(steps.model, context.loss, self.validation_batches(), context.autocast)
            steps.objective.meter.forward_only += len(context.data.val_y)
            self._validation = {"accuracy": result.accuracy, "loss": result.loss}
            row |= {"validation_loss": finite(result.loss), "validation_accuracy": result.accuracy}
            self.diverged = row["validation_loss"] is None
        self.seconds["evaluate_s"] += time.perf_counter() - started
        self.attempt.metrics(row | (self._measure(epoch) if self._curve_measures else {}))
        self.attempt.timing({"epoch": epoch, "step": steps.step, **self.seconds})
        self._report("running")

    def _measure(self, epoch: int) -> dict[str, float | None]:
        """Take the measures that are due at the end of an epoch, as columns of its row."""
        self._measured = {}
        step = self.steps.step
        due = step == self.context.total_steps or epoch % self.context.task.measure_every == 0
        if not due or self.diverged:
            return {}
        self._report("measuring")
        started = time.perf_counter()
        self._measured, loss = measure_along(self.context, self.steps.model, step, self._curve_measures)
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
        spec, context, steps = self.context.spec, self.context, self.steps
        examples = float(steps.sums["examples"])
        if examples:
            self._last_loss = float(steps.sums["loss"]) / examples
        self._progress(
            {
                "run_id": spec.run_id,
                "task": spec.task.label(context.task_params),
                "optimizer": spec.optimizer.label(context.entry.params),
                "seed": spec.seed,
                "epoch": steps.step // context.batches.steps_per_epoch,
                "epochs": spec.epochs,
                "step": steps.step,
                "steps": context.total_steps,
                "loss": finite(self._last_loss),
                "validation_accuracy": self._validation.get("accuracy"),
                "sample_gradients": steps.objective.meter.sample_gradients,
                "state": state,
            }
        )
