"""Mirror the store to Weights & Biases: `steppe wandb sync` uploads new and changed runs.

Finished and interrupted runs and the leaderboard are mirrored; unchanged ones are skipped, so a second call
does nothing. WANDB_BASE_URL, WANDB_PROJECT and WANDB_ENTITY set the destination. `wandb login` stores a key;
`--wandb offline` writes offline files without one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from suite.cli import options
from suite.cli.arguments import Arguments
from suite.entries.registry import Registry
from suite.errors import SteppeError
from suite.files import make_folder, write_whole
from suite.store.folders import Store
from suite.track import content, launch, leaderboard_table, mirror_folder, mode
from suite.track.mirror_folder import MirrorFolder
from suite.track.mode import Target
from suite.track.sidecar import Supervisor
from suite.track.wandb_process import Command, State

ACTIONS = ("sync",)


def add_mode(parser: argparse.ArgumentParser, choices: Sequence[str] = mode.MODES) -> None:
    """Add --wandb: whether and how runs are mirrored."""
    parser.add_argument(
        "--wandb",
        choices=choices,
        help="mirror to Weights & Biases (default: $WANDB_MODE, else online with a key, offline without)",
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
    runs.required = False  # nargs="*" would match nothing if options precede the runs
    add_mode(parser, ("online", "offline"))
    options.add_store(parser)
    options.add_plugins(parser)
    options.add_json(parser)


def execute(args: Arguments) -> int:
    """Mirror new and changed runs; return 0 if all of them are mirrored, else 1."""
    target = _target(args.wandb)
    store = args.store
    registry = args.cached_registry
    folders = [store.find(prefix) for prefix in args.run] or [store.run(name) for name in store.run_ids()]
    commands, counts = _commands(store, [folder.run_id for folder in folders], registry, target)
    if not args.run:
        commands += _leaderboard(store, args, target, counts)
    reached = _mirror(store, target, commands)
    counts["mirrored"], counts["lost"] = reached.done, reached.lost
    _say(store, target, counts, reached.problem)
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


def _commands(
    store: Store, run_ids: Iterable[str], registry: Registry, target: Target
) -> tuple[list[Command], dict[str, int]]:
    """Return a command per run to mirror, and the number of skipped runs by reason."""
    counts = dict.fromkeys(("mirrored", "unchanged", "running", "without rows", "damaged", "lost"), 0)
    commands = []
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
            commands.append(Command(run_id, launch.labels_of(now.spec, registry)))
    return commands, counts


def _leaderboard(store: Store, args: Arguments, target: Target, counts: dict[str, int]) -> list[Command]:
    """Return the command for the leaderboard, or none: its errors must not prevent the upload of runs."""
    try:
        payload = _payload(store, args)
    except SteppeError as error:
        counts["damaged"] += 1
        print(f"steppe: no leaderboard: {error}", file=sys.stderr)
        return []
    if payload is None:
        return []
    digest = leaderboard_table.digest_of(payload)
    name = leaderboard_table.run_id(digest)
    if MirrorFolder(store.root, name).holds(target, digest):
        counts["unchanged"] += 1
        return []
    return [Command(name, table=str(payload))]


def _payload(store: Store, args: Arguments) -> Path | None:
    """Write the leaderboard as a table for W&B and return the path; None without records."""
    from suite.report import boards, csv_

    records = boards.load_records(store=store, say=lambda line: print(f"steppe: {line}", file=sys.stderr))
    if not records:
        return None
    board = boards.leaderboard(records, args.cached_registry)
    columns, rows = csv_.table(board)
    folder = store.root / mirror_folder.FOLDER
    make_folder(folder)
    path = folder / "leaderboard.json"
    document = {"columns": columns, "rows": rows, "files": {"leaderboard.csv": csv_.render(board)}}
    write_whole(path, json.dumps(document, ensure_ascii=True).encode())
    return path


def _mirror(store: Store, target: Target, commands: Sequence[Command]) -> State:
    """Run the commands in a separate process, which is killed if it hangs."""
    if not commands:
        return State()
    print(f"W&B: {len(commands)} to mirror", file=sys.stderr, flush=True)
    with mirror_folder.open_log(store.root) as log:
        supervisor = Supervisor(store, target, log)
        try:
            for command in commands:
                supervisor.take(command)
            supervisor.close()
            while supervisor.left:
                supervisor.turn()
        finally:
            supervisor.kill()
    return supervisor.state


def _say(store: Store, target: Target, counts: dict[str, int], problem: str) -> None:
    folder = store.root / mirror_folder.FOLDER
    online = f"{target.server}, project {target.project}"
    where = online if target.mode == "online" else f"offline files in {folder}"
    listed = ", ".join(f"{n} {word}" for word, n in counts.items() if n or word == "mirrored")
    print(f"W&B ({where}): {listed}", file=sys.stderr)
    if counts["lost"]:
        print(f"  {problem}; output of wandb: {folder / mirror_folder.LOG}", file=sys.stderr)
    elif counts["mirrored"] and target.mode == "offline":
        print("  with a key, `steppe wandb sync` uploads the runs directly from the store", file=sys.stderr)
