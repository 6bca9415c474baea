"""Runs whose bits stand for those of the engine: `python -m tests.engine.battery [--json FILE]`.

Each takes a few seconds; together they pass through every optimizer, parts of mini-batches, label noise,
augmentation, dropout, curves, low precision, two ranks, and problems and optimizers of other kinds, all on
the CPU. They are made as a user makes them, by `steppe run` into a store of their own, and read from that
store. Reported are the SHA-256 of

    weights      the state of the model at the last step, in order: dtypes, shapes and bytes, without names
    metrics      metrics.jsonl
    results      what was scored, and which test examples were right; facts and profiles
    cost         gradients, losses, forward passes and steps
    train_loss   the metrics of the examples that the measures use
    lambda_max.. value and errors of each measure
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
import torch

from suite.store.folders import RunFolder, Store

ROOT = Path(__file__).resolve().parents[2]
PLUGINS = (
    Path(__file__).with_name("plugin.py"),
    *(ROOT / "tests" / "plugins" / f"{name}.py" for name in ("pairs", "edge", "tokens", "curvature", "spsa")),
)

COMMANDS = (
    ("-t", "battery-plain", "-o", "sgd,adam,sam,lpf-sgd,nso,adabelief"),
    ("-t", "battery-varied", "-o", "sam[adaptive=true],lpf-sgd[M=4],nso[k=2,lambda=0.5]"),
    ("-t", "battery-plain", "-o", "sam", "--precision", "bf16"),
    ("-t", "battery-plain", "-o", "sgd", "--ranks", "2"),
    ("-t", "pairs", "-o", "sam"),
    ("-t", "edge", "-o", "curvature"),
    ("-t", "tokens", "-o", "spsa,adam[clip=1]"),
)

COST = ("gradients", "losses", "function", "forward_only", "steps", "n_train")
ESTIMATE = ("value", "se_probes", "se_examples", "n", "probes")


def battery(root: Path) -> dict[str, dict[str, str]]:
    """Make the runs in a store at `root`, and return the digests of each by its name."""
    plugins = [piece for plugin in PLUGINS for piece in ("--plugin", str(plugin))]
    for command in COMMANDS:
        run_suite(*command, *plugins, "--store", str(root), "--device", "cpu", "--wandb", "off")
    store = Store(root)
    return dict(sorted(report(store.run(run_id)) for run_id in store.run_ids()))


def run_suite(*arguments: str) -> None:
    """Call `steppe run` in a process of its own."""
    code = "import sys; from suite.cli import main; sys.exit(main())"
    environment = {**os.environ, "WANDB_MODE": "disabled"}
    done = subprocess.run(
        [sys.executable, "-c", code, "run", *arguments],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise SystemExit(f"steppe run {' '.join(arguments)} failed:\n{done.stderr}")


def report(folder: RunFolder) -> tuple[str, dict[str, str]]:
    """Name a run, and return its digests."""
    record, state = folder.record(), folder.last_state()
    assert record is not None
    assert record.sharpness is not None
    assert state is not None
    spec = record.spec
    conditions = [spec.precision] + ([f"{spec.ranks} ranks"] if spec.ranks > 1 else [])
    name = f"{spec.optimizer.name} on {spec.task.name}, {', '.join(conditions)}"
    (metrics,) = folder.path.glob("attempts/*/metrics.jsonl")
    scored = (record.results, record.perturbation_cosine, record.facts, record.profiles)
    sharpness = record.sharpness
    digests = {
        "weights": sha256(tensors(state["model"])),
        "metrics": sha256([metrics.read_bytes()]),
        "results": values(*scored),
        "cost": values(*(getattr(record.cost, field) for field in COST)),
        "train_loss": values(sharpness.metrics, sharpness.n),
    }
    for measure, estimate in sorted(sharpness.measures.items()):
        digests[measure] = values(*(getattr(estimate, field) for field in ESTIMATE))
    return name, digests


def tensors(state: Mapping[str, torch.Tensor]) -> Iterator[bytes]:
    """The bytes of tensors in row-major order, each after its dtype and shape."""
    for tensor in state.values():
        yield f"{tensor.dtype} {tuple(tensor.shape)}\n".encode()
        yield tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()


def values(*found: Any) -> str:
    """Digest numbers, which JSON writes with all their digits."""
    return sha256([json.dumps(msgspec.to_builtins(found), sort_keys=True).encode()])


def sha256(pieces: Iterator[bytes] | list[bytes]) -> str:
    total = hashlib.sha256()
    for piece in pieces:
        total.update(piece)
    return total.hexdigest()


def main() -> None:
    """Run the battery and report it as JSON, to a file or to the standard output."""
    parser = argparse.ArgumentParser(prog="python -m tests.engine.battery", description=__doc__)
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the report")
    args = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="steppe-battery-") as folder:
        runs = battery(Path(folder))
    text = json.dumps({"seconds": round(time.monotonic() - started, 1), "runs": runs}, indent=1)
    if args.json is None:
        print(text)
    else:
        args.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
