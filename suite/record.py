"""What a finished run leaves: final evaluation, sharpness, cost and provenance, as one JSON record."""

from __future__ import annotations

import base64
import copy
import time
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suite import PROTOCOL, sharpness
from suite.context import Context
from suite.data.batches import eval_batches
from suite.data.splits import test_data
from suite.errors import SteppeError
from suite.evaluate import Evaluation, evaluate, reestimate_batchnorm
from suite.files import finite
from suite.objective import Meter
from suite.provenance import record_provenance
from suite.seeds import TASK_SEED, Streams
from suite.spec import Task

RECORD_VERSION = 1
MEASURES = ("lambda_max", "hessian_trace", "lpf", "lpf_difference")
"""Measures taken at the end of every run."""

BN_EXAMPLES = 10_000
"""Training images, about, that BatchNorm is re-estimated on; a smaller set is passed once."""

BATCH = 500


@dataclass(frozen=True)
class Trained:
    """Where training ended, and what it cost up to there."""

    model: nn.Module
    meter: Meter
    step: int
    seconds: Mapping[str, float]
    """`train_s`, `evaluate_s` and `measure_s`, over all attempts."""
    diverged: bool
    cosines: Mapping[str, float]
    """Realised against intended perturbation in low precision, at the first and the last step."""
    attempts: int
    measured: Mapping[str, sharpness.Estimate]
    """Those of the measures that were taken at the final weights already."""


def build_record(context: Context, trained: Trained) -> dict[str, Any]:
    """Evaluate, measure and describe a run that ended; its model is left with re-estimated statistics."""
    record: dict[str, Any] = {
        "record_version": RECORD_VERSION,
        "protocol": PROTOCOL,
        "run_id": context.spec.run_id,
        "spec": context.spec.to_dict(),
        "status": "completed",
        "failure": None,
        "results": {},
        "sharpness": {},
        "correct": "",
    }
    seconds = dict(trained.seconds)
    if trained.diverged:
        record["status"] = "failed"
        record["failure"] = {
            "kind": "diverged",
            "step": trained.step,
            "reason": "the training or validation loss of the epoch that ends here is not finite",
        }
    else:
        clock = time.perf_counter
        started = clock()
        record["results"], test = _results(context, trained.model, trained.meter)
        record["correct"] = pack_correct(test.correct)
        evaluated = clock()
        record["sharpness"] = _sharpness(context, trained.model, trained.measured)
        seconds["evaluate_s"] += evaluated - started
        seconds["measure_s"] += clock() - evaluated
    record["cost"] = {
        "sample_gradients": trained.meter.sample_gradients,
        "forward_only": trained.meter.forward_only,
        "steps": trained.step,
        "n_train": len(context.data.y),
        "declared": context.entry.cost(context.spec.optimizer.params),
        **{key: round(value, 3) for key, value in seconds.items()},
    }
    if trained.cosines:
        record["perturbation_cosine"] = dict(trained.cosines)
    record["entries"] = dict(context.source_hashes)
    record["data"] = {
        "split_checksum": context.data.split_checksum,
        "noise_checksum": context.data.noise_checksum,
    }
    record["provenance"] = record_provenance(context.spec, attempts=trained.attempts)
    return record


def _results(context: Context, model: nn.Module, meter: Meter) -> tuple[dict[str, Any], Evaluation]:
    """Accuracy with statistics as trained, then re-estimated; the one reading of the test set."""
    test_x, test_y = test_data(context.task, context.dataset, context.data_root, context.cache)

    def on(x: Tensor, y: Tensor) -> Evaluation:
        meter.forward_only += len(y)
        batches = eval_batches(x, y, context.dataset, context.device, BATCH)
        return evaluate(model, context.loss, batches, context.autocast)

    as_trained = on(test_x, test_y)
    meter.forward_only += reestimate_batchnorm(model, statistics_batches(context), context.autocast)
    test = on(test_x, test_y)
    validation = on(context.data.val_x, context.data.val_y)
    results: dict[str, Any] = {
        "test_accuracy": test.accuracy,
        "test_loss": test.loss,
        "test_accuracy_as_trained": as_trained.accuracy,
        "validation_accuracy": validation.accuracy,
        "validation_loss": validation.loss,
        "n_test": len(test_y),
    }
    if context.data.noise_checksum:
        clean = on(context.data.val_x, context.data.val_y_clean)
        results["validation_accuracy_clean"] = clean.accuracy
    return results, test


def statistics_batches(context: Context, step: int | None = None) -> Iterator[tuple[Tensor, Tensor]]:
    """The pass over training data that BatchNorm is re-estimated on (rule 18) after `step` steps, or all.

    It is the head of the epoch that would come next, with its augmentation: for one seed the same for
    every optimizer. Without the augmentation the statistics are those of images that the weights never
    saw; with padded crops that cost 2.2 points of test accuracy on cifar10-resnet8-5k. The smaller batch
    at the end of an epoch is left out, as batches weigh the same.
    """
    batches = context.batches
    done = context.total_steps if step is None else step
    first = -(-done // batches.steps_per_epoch) * batches.steps_per_epoch
    whole = max(1, batches.n // batches.batch_size)
    for step in range(min(whole, max(1, BN_EXAMPLES // batches.batch_size))):
        yield batches.batch(first + step)


def measure_point(context: Context, model: nn.Module, n_examples: int | None = None) -> sharpness.Point:
    """The point at which all measures of a task are taken (rule 26): fixed seeded subset, eval mode, fp32."""
    n = min(n_examples or context.task.measure_examples, len(context.data.y))
    order = torch.randperm(len(context.data.y), generator=Streams(TASK_SEED).generator("measure"))
    chosen = order[:n].sort().values.to(context.data.y.device)
    batches = list(
        eval_batches(context.data.x[chosen], context.data.y[chosen], context.dataset, context.device, BATCH)
    )
    return sharpness.Point(
        model=model.eval(),
        inputs=torch.cat([inputs for inputs, _ in batches]),
        targets=torch.cat([targets for _, targets in batches]),
        seed=context.spec.seed,
        batch_size=BATCH,
    )


def _sharpness(context: Context, model: nn.Module, known: Mapping[str, sharpness.Estimate]) -> dict[str, Any]:
    if context.autocast is not None:  # measures compute in fp32, and so must their statistics
        reestimate_batchnorm(model, statistics_batches(context))
    point = measure_point(context, model)
    base = sharpness.subset_loss(point)
    missing = [name for name in MEASURES if name not in known]
    measured = {**known, **sharpness.measure(point, missing)}
    return {
        "n": len(point.targets),
        "train_loss": base.loss,
        "train_accuracy": base.accuracy,
        "measures": {name: measured[name].to_dict() for name in MEASURES},
    }


def curve_measures(task: Task) -> tuple[str, ...]:
    """Names of the measures that a task wants along training; SteppeError where it asks what cannot be."""
    if task.measure_every < 0:
        raise SteppeError(
            f"task {task.name}: measure_every is {task.measure_every}; valid: a period in epochs, "
            "0 to measure at the end only"
        )
    names: Sequence[str] = task.curve_measures
    if isinstance(names, str):  # which is a sequence of names, too: its letters
        raise SteppeError(
            f"task {task.name}: curve_measures is a text; valid: a tuple of names, ({names!r},)"
        )
    sharpness.check_names(names)
    return tuple(names) if task.measure_every else ()


def measure_along(
    context: Context, model: nn.Module, step: int, names: Sequence[str]
) -> tuple[dict[str, sharpness.Estimate], sharpness.SubsetLoss]:
    """Measure in the midst of training, after `step` steps, at the point at which the record measures.

    A copy of the model takes the re-estimated statistics: the one that trains stays as it is.
    """
    copied = copy.deepcopy(model)
    reestimate_batchnorm(copied, statistics_batches(context, step))
    point = measure_point(context, copied)
    return sharpness.measure(point, names), sharpness.subset_loss(point)


def curve_columns(
    measured: Mapping[str, sharpness.Estimate], loss: sharpness.SubsetLoss
) -> dict[str, float | None]:
    """Write measures as columns of a row of metrics, the loss on their examples beside them (rule 27)."""
    row: dict[str, float | None] = {}
    for name, estimate in measured.items():
        found = estimate.to_dict()
        row[name] = found["value"]
        for error in ("se_probes", "se_examples"):
            if found[error] is not None:
                row[f"{name}_{error}"] = found[error]
    return row | {"sharpness_train_loss": finite(loss.loss)}


def pack_correct(correct: Tensor) -> str:
    """Per-example correctness as base64 of zlib of packed bits (most significant bit first)."""
    return base64.b64encode(zlib.compress(np.packbits(correct.numpy()).tobytes(), 9)).decode()


def unpack_correct(text: str, n: int) -> Tensor:
    """Inverse of `pack_correct` for n examples."""
    bits = np.unpackbits(np.frombuffer(zlib.decompress(base64.b64decode(text)), dtype=np.uint8), count=n)
    return torch.from_numpy(bits.astype(bool))
