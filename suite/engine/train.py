"""The training loop of one run, from its spec to its record.

A run is a pure function of its spec: batches, noise and dropout come from named streams with the step as
counter, so a run resumed from any checkpoint equals the uninterrupted run bit for bit (same device kind, same
thread count, no compile).
"""

from __future__ import annotations

import math
import sys
import time
from typing import Any

import torch
from torch import nn

from suite.engine.context import Context, prepare
from suite.engine.evaluate import check_number, evaluate, reestimate_batchnorm
from suite.engine.host import Host
from suite.engine.record import (
    Trained,
    build_record,
    curve_columns,
    measure_along,
    statistics_batches,
    watched,
)
from suite.engine.steps import Steps
from suite.engine.torch_process_group import coordinate
from suite.entries.stored_run import StoredRun
from suite.process_group import ProcessGroup
from suite.records.provenance import attempt_provenance, fingerprint
from suite.records.schema import Estimate
from suite.store.attempt import Attempt
from suite.store.lease import RunDone, RunFenced
from suite.store.lines import finite

PROGRESS_S = 0.5
"""Seconds between progress messages within an epoch."""


def run_one(run: StoredRun, host: Host) -> str:
    """Train, evaluate and measure one run as its rank 0, resuming from an earlier attempt's checkpoint.

    Returns "done" (a record exists, perhaps from another attempt), "failed" (the record reports a failure) or
    "interrupted" (`stop` returned True, or a newer attempt owns the run; it can be resumed). Raises RunBusy
    if a live attempt owns the run, RankLostError if another process of the run is lost, SteppeError on a
    mistake in the input.
    """
    folder, spec = run.folder, run.spec
    if folder.record() is not None:
        return folder.status()
    context = prepare(run)
    try:
        attempt = folder.start(host.restart_count, host.job)
    except RunDone:
        return folder.status()
    with attempt:
        attempt.provenance(attempt_provenance(spec, context.task.description))
        try:
            with coordinate(spec.ranks, spec.device, host.address, host.rendezvous, host.stop) as ranks:
                if ranks is None:
                    return "interrupted"
                trainer = Trainer(context, attempt, host, ranks)
                if not trainer.train():
                    return "interrupted"
            return trainer.finish()  # on rank 0 alone; the other ranks are free by then
        except RunFenced as error:
            print(error, file=sys.stderr, flush=True)
            return "interrupted"


class Trainer:
    """The state of one run and the loop over its steps."""

    def __init__(self, context: Context, attempt: Attempt, host: Host, ranks: ProcessGroup) -> None:
        self.context, self.attempt = context, attempt
        self._host, self._ranks = host, ranks
        self._measured: dict[str, Estimate] = {}
        self.steps = Steps(context, ranks)
        self.seconds = {"train_s": 0.0, "evaluate_s": 0.0, "measure_s": 0.0}
        self.diverged = False
        self._fingerprints = [fingerprint(context.spec)]
        self._score: float | None = None
        """The primary metric at the last evaluation of the validation split."""
        self._last_loss = float("nan")

    # -- checkpoint ------------------------------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that the rest of the run depends on, as tensors and plain data."""
        return {
            **self.steps.state(),
            "seconds": dict(self.seconds),
            "score": self._score,
            "fingerprints": list(self._fingerprints),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Restore the output of `state`."""
        self.steps.load(state)
        self.seconds.update(state["seconds"])
        self._score = state["score"]
        self._fingerprints = list(dict.fromkeys([*state["fingerprints"], *self._fingerprints]))

    # -- the loop --------------------------------------------------------------------------------

    def train(self) -> bool:
        """Train from the newest checkpoint to the end; False if the run must stop earlier."""
        state = self._ranks.share(self.attempt.resume())
        if state is not None:
            self.load(state)
            self._report("resuming")
        return self._train()

    def finish(self) -> str:
        """Evaluate, measure and publish the record; return "done", or "failed" if the record is a failure."""
        self._report("measuring")
        steps = self.steps
        record = build_record(
            self.context,
            Trained(
                model=steps.evaluated()[0],
                meter=steps.objective.meter,
                step=steps.step,
                seconds=self.seconds,
                diverged=self.diverged,
                cosines=steps.cosines,
                attempts=self.attempt.number,
                fingerprints=self._fingerprints,
                measured=self._measured,
                rows=self.attempt.rows(),
            ),
        )
        self.attempt.publish(record)
        outcome = "failed" if record.failed else "done"
        self._report(outcome)
        return outcome

    def _train(self) -> bool:
        """Take the remaining steps; False if the run must stop before its end."""
        context, steps = self.context, self.steps
        total, per_epoch = context.total_steps, context.problem.steps_per_epoch
        steps.model.train()
        clock = time.perf_counter
        started = last_saved = last_told = clock()
        stopping = False
        # Rank 0 decides before each step whether to go on; the other ranks get its decision from `agreed`.
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
            stopping = self._host.stop()
            if at_end or stopping or clock() - last_saved >= self._host.checkpoint_s:
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
        means = steps.means()
        steps.reset_sums()
        self._last_loss = means["loss"]
        epoch = -(-steps.step // context.problem.steps_per_epoch)
        row: dict[str, Any] = {
            "epoch": epoch,
            "step": steps.step,
            "lr": float(steps.optimizer.param_groups[0]["lr"]),
            **self._training_columns(means),
            "sample_gradients": steps.objective.meter.sample_gradients,
        }
        self.diverged = row["train_loss"] is None
        model, other = steps.model, False
        at_end = steps.step == context.total_steps
        looks = bool(context.task.validation) and (at_end or epoch % context.task.evaluate_every == 0)
        measures = context.task.measure_every and (at_end or epoch % context.task.measure_every == 0)
        if (looks or measures or context.task.columns) and not self.diverged:
            model, other = steps.evaluated()
        # Averaged weights have no BatchNorm statistics of their own; measures re-estimate on a copy anyway.
        if other and (looks or context.task.columns):
            self._reestimate(model)
        if looks and not self.diverged:
            row |= self._validate(model)
        self.seconds["evaluate_s"] += time.perf_counter() - started
        self._measured = {}
        if measures and not self.diverged:
            row |= self._measure(model)
        if not self.diverged:
            row |= watched(context.problem, model, row)
        self.attempt.metrics(row)
        self.attempt.timing({"epoch": epoch, "step": steps.step, **self.seconds})
        self._report("running")

    def _training_columns(self, means: dict[str, float]) -> dict[str, float | None]:
        """Return the means of an epoch as columns: the loss, and the metrics that follow from means."""
        task = self.context.task
        found = self.context.problem.metrics(means) if math.isfinite(means["loss"]) else means
        wanted = ["loss", *(metric.name for metric in task.metrics if metric.name != "loss")]
        columns = {f"train_{name}": found[name] for name in wanted if name in found}
        for name, value in columns.items():
            check_number(task.name, name, value)
        return {name: finite(float(value)) for name, value in columns.items()}

    def _reestimate(self, model: nn.Module) -> None:
        """Re-estimate the BatchNorm statistics of a model that does not hold the weights in training."""
        batches = statistics_batches(self.context, self.steps.step)
        meter = self.steps.objective.meter
        meter.forward_only += reestimate_batchnorm(model, batches, self.context.problem.predict)

    def _validate(self, model: nn.Module) -> dict[str, float | None]:
        """Evaluate the validation split; return its metrics as columns."""
        context, meter = self.context, self.steps.objective.meter
        split = context.task.validation
        result = evaluate(context.problem, model, split)
        meter.forward_only += result.n
        order = [metric.name for metric in context.task.metrics]
        found = {
            name: finite(float(result.metrics[name])) for name in sorted(order, key=lambda n: n != "loss")
        }
        self._score = found[order[0]]
        self.diverged = found.get("loss", 0.0) is None
        return {f"{split}_{name}": value for name, value in found.items()}

    def _measure(self, model: nn.Module) -> dict[str, float | None]:
        """Take the measures due at the end of an epoch; return them as columns of its row."""
        self._report("measuring")
        started = time.perf_counter()
        names = self.context.task.curve_measures
        self._measured, loss = measure_along(self.context, model, self.steps.step, names)
        self.seconds["measure_s"] += time.perf_counter() - started
        return curve_columns(self._measured, loss)

    # -- reporting -------------------------------------------------------------------------------

    def _wait(self) -> None:
        if self.context.device.type == "cuda":
            torch.cuda.synchronize()

    def _report(self, state: str) -> None:
        spec, context, steps = self.context.spec, self.context, self.steps
        units = float(steps.sums["units"])
        if units:
            self._last_loss = float(steps.sums["loss"]) / units
        self._host.progress(
            {
                "run_id": spec.run_id,
                **context.labels,
                "seed": spec.seed,
                "epoch": steps.step // context.problem.steps_per_epoch,
                "epochs": spec.epochs,
                "step": steps.step,
                "steps": context.total_steps,
                "loss": finite(self._last_loss),
                "score": self._score,
                "metric": context.task.metrics[0].name,
                "unit": context.task.metrics[0].unit,
                "sample_gradients": steps.objective.meter.sample_gradients,
                "state": state,
            }
        )
