"""Synthetic records and the entries that they are of."""

from suite.report.leaderboard import build
from suite.report.runs import TaskInfo
from suite.spec import EntryRef, Param, RunSpec

N_TRAIN = 4500
EPOCHS = 40.0
TASKS = {
    "images": TaskInfo("small", lambda _: EPOCHS, {"noise": Param(default=0.0)}),
    "digits": TaskInfo("smoke", lambda _: EPOCHS, {"noise": Param(default=0.0)}),
    "big": TaskInfo("full", lambda _: EPOCHS, {"noise": Param(default=0.0)}),
}
PARAMS = {"rho": Param(default=0.05), "base": Param(default="sgd")}
COSTS = {"sgd": 1, "sam": 2, "nso": 2}


def record(optimizer="sgd", seed=0, accuracy=0.65, *, task="images", epochs=EPOCHS, failed=False, noise=0.0,
           rho=0.05, train_loss=0.5, curvature=20.0, train_s=100.0, fingerprint="cpu A", version="1",
           cost=None, plugin_source=None, **spec):  # fmt: skip
    declared = COSTS.get(optimizer, 1) if cost is None else cost
    steps = round(epochs * 36) // (2 if failed else 1)
    run = RunSpec(
        task=EntryRef(task, "1", {"noise": noise}),
        optimizer=EntryRef(optimizer, version, {"rho": rho, "base": "sgd"}, plugin_source),
        seed=seed,
        **{"data": "images-jpeg", "data_checksum": "00", "epochs": epochs} | spec,
    )
    estimate = {"se_probes": 1.5, "se_examples": 2.5, "n": 1000, "probes": 80, "estimator": "hutchinson"}
    out = {
        "record_version": 1,
        "run_id": run.run_id,
        "spec": run.to_dict(),
        "status": "failed" if failed else "completed",
        "failure": {"kind": "diverged", "step": 7, "reason": "nan"} if failed else None,
        "results": {},
        "sharpness": {},
        "cost": {
            "sample_gradients": round(steps * N_TRAIN / 36 * declared),
            "forward_only": 0,
            "steps": steps,
            "n_train": N_TRAIN,
            "declared": declared,
            "train_s": train_s,
        },
        "data": {"split_checksum": "ab", "noise_checksum": None},
        "provenance": {"fingerprint": fingerprint},
    }
    if not failed:
        out["results"] = {
            "test_accuracy": accuracy,
            "test_accuracy_as_trained": accuracy - 0.01,
            "validation_accuracy": accuracy + 0.02,
        }
        measures = {"hessian_trace": {"value": curvature, **estimate}}
        out["sharpness"] = {"n": 1000, "train_loss": train_loss, "measures": measures}
    return out


def seeds(optimizer, accuracies, **options):
    """One record for each of the accuracies, seeds 0, 1, ..."""
    return [record(optimizer, seed, accuracy, **options) for seed, accuracy in enumerate(accuracies)]


def board(records, command="steppe leaderboard", **options):
    return build(records, TASKS, {"sgd": PARAMS, "sam": PARAMS, "nso": PARAMS}, command, **options)


def wavy(mean, spread=0.01, n=10, phase=0):
    """n accuracies around a mean, with a fixed irregular pattern."""
    pattern = [0.3, -1.1, 0.8, 1.6, -0.4, -1.5, 0.1, 1.2, -0.9, -0.1]
    return [mean + spread * pattern[(i + phase) % 10] for i in range(n)]
