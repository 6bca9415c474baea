"""Mirror the store to Weights & Biases: `steppe wandb sync` uploads what is not there yet.

Finished and interrupted runs and the leaderboard are mirrored; what is mirrored already and did not change is
left alone, so that a second call does nothing. WANDB_BASE_URL, WANDB_PROJECT and WANDB_ENTITY say where to.
Without a key, `wandb login` stores one; `--wandb offline` writes offline files.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import shlex
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from suite.cli import Parser, options
from suite.entries.declared import Declared
from suite.entries.registry import Entry, Registry
from suite.errors import SteppeError
from suite.files import make_folder, write_whole
from suite.spec import EntryRef, Param, RunSpec
from suite.store.store import Store
from suite.task import TaskSpec
from suite.track import content, launch, mode, state, table
from suite.track.content import Caption
from suite.track.mode import Target
from suite.track.state import MirrorFolder
from suite.track.supervisor import Supervisor

ACTIONS = ("sync",)


def add_mode(parser: argparse.ArgumentParser, choices: Sequence[str] = mode.MODES) -> None:
    """Add --wandb: whether runs are mirrored, and where to."""
    parser.add_argument(
        "--wandb",
        choices=choices,
        help="mirror on Weights & Biases (default: $WANDB_MODE, else online with a key, offline without)",
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    parser.add_argument("action", choices=ACTIONS, help="what to do")
    runs = parser.add_argument(
        "run",
        nargs="+",
        default=[],
        metavar="RUN",
        help="only these runs, without the leaderboard (default: everything)",
    )
    runs.required = False  # a "*" would be taken as empty where options stand before the runs
    add_mode(parser, ("online", "offline"))
    options.add_store(parser)
    options.add_plugins(parser)
    options.add_json(parser)


def execute(args: argparse.Namespace) -> int:
    """Mirror what is not mirrored; 0 if everything is, 1 if some is not."""
    target = _target(args.wandb)
    store = Store(options.store_root(args))
    registry = Declared(args.plugin)
    folders = [store.find(prefix) for prefix in args.run] or [store.run(name) for name in store.run_ids()]
    orders, counts = _orders(store, [folder.run_id for folder in folders], registry, target)
    if not args.run:
        orders += _leaderboard(store, args, target, counts)
    supervisor = _mirror(store, target, orders, counts)
    _say(store, target, counts, supervisor)
    if args.json:
        options.print_json({**counts, "mode": target.mode, "server": target.server})
    return 1 if counts["lost"] or counts["damaged"] else 0


def _target(requested: str | None) -> Target:
    target = mode.choose(requested)
    if target is None:
        raise SteppeError(
            "W&B is switched off by WANDB_MODE or WANDB_DISABLED: --wandb online or --wandb offline"
        )
    if target.mode == "offline" and requested is None and not mode.has_key(target.server):
        raise SteppeError(
            f"no W&B key for {target.server}: {mode.login(target.server)} stores one, then give this command "
            f"again; --wandb offline writes offline files"
        )
    return target


def _orders(
    store: Store, run_ids: Iterable[str], registry: Registry, target: Target
) -> tuple[list[dict[str, Any]], dict[str, int]]:
    """Return which runs are to be mirrored, and count those that there is nothing to do for."""
    counts = dict.fromkeys(("mirrored", "unchanged", "running", "without rows", "damaged", "lost"), 0)
    orders = []
    for run_id in run_ids:
        try:
            folder = store.run(run_id)
            now = content.read(folder)
            running = folder.status() == "running"
        except SteppeError as error:
            counts["damaged"] += 1
            print(f"steppe: {error}", file=sys.stderr)
            continue
        if now is None or running:
            counts["running" if running else "without rows"] += 1
        elif MirrorFolder(store.root, run_id).holds(target, now.digest):
            counts["unchanged"] += 1
        else:
            named = caption(now.spec, registry).short().to_dict()
            orders.append({"run": run_id, "caption": named, "ended": True})
    return orders, counts


def caption(spec: RunSpec, registry: Registry) -> Caption:
    """Name a run as the leaderboards do; all parameters are told of entries that are not known here."""
    task = registry.tasks.get(spec.task.name)
    entry = task.entry if task else None
    optimizer = registry.optimizers.get(spec.optimizer.name)
    return Caption(
        _label(spec.task, entry),
        _label(spec.optimizer, optimizer.entry if optimizer else None),
        entry.tier if isinstance(entry, TaskSpec) else "",
    )


def _label(ref: EntryRef, entry: Entry | None) -> str:
    from suite.entries.labels import entry_label

    declared: dict[str, Param] | None = dict(entry.params) if entry else None
    return entry_label(ref, declared)


def _leaderboard(
    store: Store, args: argparse.Namespace, target: Target, counts: dict[str, int]
) -> list[dict[str, Any]]:
    """Return the order for the leaderboard, if any; the runs are mirrored whatever is wrong with it."""
    try:
        payload = _payload(store, args)
    except SteppeError as error:
        counts["damaged"] += 1
        print(f"steppe: no leaderboard: {error}", file=sys.stderr)
        return []
    if payload is None:
        return []
    digest = table.digest_of(payload)
    name = table.run_id(digest)
    if MirrorFolder(store.root, name).holds(target, digest):
        counts["unchanged"] += 1
        return []
    return [{"run": name, "table": str(payload)}]


def _payload(store: Store, args: argparse.Namespace) -> Path | None:
    """Write the leaderboard as a table for W&B; None where there are no records."""
    from suite.cli import leaderboard

    if not store.index():
        return None
    folder = store.root / state.FOLDER
    make_folder(folder)
    path = folder / "leaderboard.csv"
    parser = Parser(prog="steppe leaderboard")
    leaderboard.configure(parser)
    plugins = [piece for plugin in args.plugin for piece in ("--plugin", str(plugin))]
    leaderboard.execute(parser.parse_args(["--store", str(store.root), *plugins, "-o", str(path)]))
    text = path.read_text(encoding="utf-8")
    columns, rows = typed(text)
    payload = folder / "leaderboard.json"
    document = {"columns": columns, "rows": rows, "files": {path.name: text}}
    write_whole(payload, json.dumps(document, ensure_ascii=True).encode())
    return payload


def typed(text: str) -> tuple[list[str], list[list[float | str | None]]]:
    """Read CSV into columns that hold numbers, or text, and None where there is nothing."""
    head, *lines = csv.reader(text.splitlines())
    columns: list[list[float | str | None]] = []
    for cells in zip(*lines, strict=True):
        try:
            columns.append([float(cell) if cell else None for cell in cells])
        except ValueError:
            columns.append([cell or None for cell in cells])
    return head, [list(row) for row in zip(*columns, strict=True)]


def _mirror(
    store: Store, target: Target, orders: Sequence[dict[str, Any]], counts: dict[str, int]
) -> Supervisor | None:
    """Write what is ordered, in a process of its own that is killed where it hangs."""
    if not orders:
        return None
    print(f"W&B: {len(orders)} to mirror", file=sys.stderr, flush=True)
    log = state.open_log(store.root)
    supervisor = Supervisor(store, target, log)
    try:
        for order in orders:
            supervisor.take(order)
        supervisor.close()
        while supervisor.left:
            supervisor.turn(1.0)
    finally:
        supervisor.kill()
        os.close(log)
    counts["mirrored"], counts["lost"] = len(supervisor.done), len(supervisor.lost)
    return supervisor


def _say(store: Store, target: Target, counts: dict[str, int], supervisor: Supervisor | None) -> None:
    folder = store.root / state.FOLDER
    where = (
        f"{target.server}, project {target.project}"
        if target.mode == "online"
        else f"offline files in {folder}"
    )
    told = ", ".join(f"{n} {word}" for word, n in counts.items() if n or word == "mirrored")
    print(f"W&B ({where}): {told}", file=sys.stderr)
    if supervisor is not None and supervisor.lost:
        print(f"  {supervisor.problem}; all that wandb said: {folder / state.LOG}", file=sys.stderr)
    elif counts["mirrored"] and target.mode == "offline":
        print("  with a key, `steppe wandb sync` uploads the runs straight from the store", file=sys.stderr)


def sidecar(
    store: Store, target: Target | None, specs: Iterable[RunSpec], registry: Registry, plugins: Sequence[Path]
) -> launch.Mirror | None:
    """Start the mirror of a sweep; None where runs are mirrored nowhere."""
    if target is None:
        return None
    captions = {spec.run_id: caption(spec, registry) for spec in specs}
    named = ["--store", str(store.root)] if str(store.root) != options.STORE else []
    named += [piece for plugin in plugins for piece in ("--plugin", str(plugin))]
    sync = shlex.join(["steppe", "wandb", "sync", *named])
    return launch.Mirror(store.root, target, captions, sync)
