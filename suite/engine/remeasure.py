"""New estimates of sharpness measures for a finished run, from its stored final weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from suite import sharpness
from suite.engine.context import build_model, prepare
from suite.engine.evaluate import reestimate_batchnorm
from suite.engine.record import measure_point, statistics_batches
from suite.engine.steps import with_weights
from suite.entries.stored_run import StoredRun
from suite.errors import SteppeError
from suite.records.provenance import origin
from suite.records.schema import Estimate, Record, Sharpness


def remeasure(
    run: StoredRun,
    record: Record,
    names: Sequence[str],
    *,
    n_examples: int | None = None,
    write: bool = False,
) -> dict[str, Estimate]:
    """Estimate the named measures at the final point of a run with this record.

    Args:
        run: the run.
        record: its record.
        names: the measures.
        n_examples: number of training examples; None: the task's number.
        write: whether to write the estimates into the record, each with its origin.

    Raises:
        SteppeError: the final weights are not stored, or the entries or the data changed since.

    """
    point = _final_point(run, n_examples)
    found = sharpness.measure(point, names)
    if not write:
        return found
    mine = origin(record.spec)
    found = {name: replace(one, origin=mine) for name, one in found.items()}
    subset = record.sharpness
    if subset is None:
        loss = sharpness.subset_loss(point)
        subset = Sharpness(loss.n, {name: float(value) for name, value in loss.metrics.items()}, {})
    blank = replace(subset, measures={})
    run.folder.amend_record(lambda now: with_measures(now, blank, found))
    return found


def with_measures(record: Record, blank: Sharpness, found: Mapping[str, Estimate]) -> Record:
    """Add estimates to those of the record; `blank` receives them if the record has none."""
    known = record.sharpness or blank
    whole = replace(known, measures={**known.measures, **found})
    return replace(record, sharpness=whole)


def _final_point(run: StoredRun, n_examples: int | None) -> sharpness.Point:
    """Load the final weights and re-estimate BatchNorm as the run did."""
    state = run.folder.last_state()
    context = prepare(run)
    if state is None or state["step"] != context.total_steps:
        raise SteppeError(
            f"run {run.spec.run_id} keeps no final weights: delete {run.folder.path} and run it again to "
            f"have them"
        )
    model = build_model(context)
    model.load_state_dict(state["model"])
    if state["evaluated"] is not None:
        model = with_weights(model, state["evaluated"])
    reestimate_batchnorm(model, statistics_batches(context), context.problem.forward)
    return measure_point(context, model, n_examples)
