"""Synthetic records and the entries that they are of."""

from functools import cache

from msgspec.structs import replace

from suite.metric import ACCURACY, LOSS, Description
from suite.records.schema import (
    Cost,
    Estimate,
    Failure,
    Origin,
    Provenance,
    Record,
    Sharpness,
    Sources,
    SplitResult,
    pack_right,
)
from suite.report.leaderboard import build
from suite.spec import EntryRef, Param, RunSpec

N_TRAIN = 4500
EPOCHS = 40.0
N_TEST, N_VALIDATION = 10_000, 10_000
TASK_PARAMS = {"noise": Param(default=0.0)}
TASKS = dict.fromkeys(("images", "digits", "big", "sensing", "pairs", "edge", "tokens"), TASK_PARAMS)
TIERS = {"images": "small", "digits": "smoke", "big": "full"}
PARAMS = {"rho": Param(default=0.05), "base": Param(default="sgd")}
COSTS = {"sgd": 1, "sam": 2, "nso": 2}


def description(task="images", **changes):
    """What the records of these tasks say of them."""
    given = {"tier": TIERS.get(task, "small"), "epochs": EPOCHS, "metrics": (ACCURACY, LOSS)}
    return Description(**given | changes)


@cache
def right(share, n):
    """Evidence: the first examples are right, as many as make this share of n."""
    bits = (1 << round(share * n)) - 1 << n - round(share * n)
    return pack_right((bits << -n % 8).to_bytes(-(-n // 8), "big"))


def results(accuracy, loss=1.0):
    """Evaluation of both splits, with BatchNorm."""
    trained = {"accuracy": accuracy - 0.01, "loss": loss + 0.1}
    evidence = {"accuracy": right(accuracy, N_TEST)}
    return {
        "test": SplitResult(N_TEST, {"accuracy": accuracy, "loss": loss}, trained, evidence),
        "validation": SplitResult(N_VALIDATION, {"accuracy": accuracy + 0.02, "loss": loss}),
    }


def record(optimizer="sgd", seed=0, accuracy=0.65, *, task="images", epochs=EPOCHS, failed=False, noise=0.0,
           rho=0.05, train_loss=0.5, curvature=20.0, train_s=100.0, fingerprint="cpu A", version="1",
           cost=None, plugin_source=None, loss=1.0, measure_version=1, described=None, found=None,
           facts=None, digests=None, fingerprints=(), split="ab", source="a" * 64,
           measures=("hessian_trace",), **spec):  # fmt: skip
    declared = COSTS.get(optimizer, 1) if cost is None else cost
    steps = round(epochs * 36) // (2 if failed else 1)
    run = RunSpec(
        task=EntryRef(task, "1", {"noise": noise}),
        optimizer=EntryRef(optimizer, version, {"rho": rho, "base": "sgd"}, plugin_source),
        seed=seed,
        **{"data": "images-jpeg", "data_checksum": "00", "epochs": epochs} | spec,
    )
    reason = "" if curvature is not None else "no memory"
    estimate = Estimate(curvature, 1.5, 2.5, 1000, 80, "hutchinson", measure_version, reason)
    gradients = round(steps * N_TRAIN / 36 * declared)
    if found is None:
        found = results(accuracy, loss)
    return Record(
        protocol=run.protocol,
        engine=run.engine,
        run_id=run.run_id,
        spec=run,
        task=description(task) if described is None else described,
        status="failed" if failed else "completed",
        failure=Failure("diverged", 7, "nan") if failed else None,
        results={} if failed else found,
        facts={} if failed or facts is None else facts,
        sharpness=None if failed else Sharpness(
            1000, {"loss": train_loss, "accuracy": 0.9}, dict.fromkeys(measures, estimate)
        ),
        cost=Cost(float(gradients), gradients, 0, 0.0, 0, steps, N_TRAIN, float(declared), train_s, 1.0, 1.0),
        sources=Sources(source, plugin_source or source),
        data={"split": split},
        digests=digests or {},
        provenance=Provenance(
            Origin("b" * 64, "c" * 40, fingerprint), {"torch": "2.15.0"}, {"cpu": "A"}, not fingerprints, 1,
            fingerprints=fingerprints,
        ),
    )  # fmt: skip


def changed(one, part, **values):
    """The record with other values in one of its parts."""
    return replace(one, **{part: replace(getattr(one, part), **values)})


def seeds(optimizer, accuracies, **options):
    """One record for each of the accuracies, seeds 0, 1, ..."""
    return [record(optimizer, seed, accuracy, **options) for seed, accuracy in enumerate(accuracies)]


def board(records, command="steppe leaderboard", **options):
    return build(records, TASKS, {"sgd": PARAMS, "sam": PARAMS, "nso": PARAMS}, command, **options)


def wavy(mean, spread=0.01, n=10, phase=0):
    """n accuracies around a mean, with a fixed irregular pattern."""
    pattern = [0.3, -1.1, 0.8, 1.6, -0.4, -1.5, 0.1, 1.2, -0.9, -0.1]
    return [mean + spread * pattern[(i + phase) % 10] for i in range(n)]
