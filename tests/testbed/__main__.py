"""The command line: `python -m tests.testbed up|down|status`."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from suite.errors import SteppeError
from tests.testbed.cluster import Status, Testbed
from tests.testbed.settings import Settings

WORDS = {
    "nodes": "nodes, each with a slurmd of its own",
    "cpus": "CPUs that a node pretends to have",
    "memory": "memory that a node pretends to have, in MB",
    "gpus": "GPUs that a node pretends to have",
    "grace": "seconds between a preemption's warning and its end (GraceTime of partition low)",
    "kill_wait": "seconds from SIGTERM to SIGKILL",
    "slurmd_timeout": "seconds of a slurmd's silence before its node is down",
    "max_array_size": "largest index of a job array, plus 1",
    "min_job_age": "seconds that squeue -t all keeps a finished job",
    "base_port": "first of the ports; without it a free block is looked for",
}


def parser() -> argparse.ArgumentParser:
    """Declare the arguments."""
    top = argparse.ArgumentParser(prog="python -m tests.testbed", description=__doc__)
    commands = top.add_subparsers(dest="command", required=True, metavar="up|down|status")
    up = commands.add_parser("up", help="start missing daemons; prints the line that exports SLURM_CONF")
    down = commands.add_parser("down", help="stop every daemon")
    status = commands.add_parser("status", help="print what runs; exit code 0 if everything does, else 1")
    for command in (up, down, status):
        command.add_argument(
            "--folder", type=Path, default=Path(".testbed"), help="where all of it lives [.testbed]"
        )
        command.add_argument("--json", action="store_true", help="print one JSON object")
    defaults = {field.name: field.default for field in fields(Settings)}
    up.add_argument(
        "--accounting", action=argparse.BooleanOptionalAction, help="with slurmdbd, for sacct [no]"
    )
    for name, words in WORDS.items():
        default = "" if name == "base_port" else f" [{defaults[name]}]"
        up.add_argument(f"--{name.replace('_', '-')}", type=int, metavar="N", help=words + default)
    up.add_argument(
        "--timeout", type=float, default=60, metavar="S", help="seconds to wait for the nodes [60]"
    )
    up.add_argument(
        "--install", action="store_true", help="let apt-get install the Debian packages that are missing"
    )
    down.add_argument("--purge", action="store_true", help="remove the folder, too")
    return top


def main(argv: list[str] | None = None) -> int:
    """Run one command; on an error print one line (and the end of a log) and return exit code 2."""
    args = parser().parse_args(argv)
    try:
        testbed = Testbed(args.folder)
        return {"up": _up, "down": _down, "status": _status}[args.command](testbed, args)
    except (SteppeError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def _up(testbed: Testbed, args: argparse.Namespace) -> int:
    start = time.monotonic()
    chosen = {name: value for name in (*WORDS, "accounting") if (value := getattr(args, name)) is not None}
    status = testbed.up(chosen, install=args.install, timeout_s=args.timeout)
    if args.json:
        print(json.dumps(_as_json(status)))
        return 0
    print(f"up in {time.monotonic() - start:.1f} s: {', '.join(status.nodes)}", file=sys.stderr)
    print(f"export SLURM_CONF={shlex.quote(str(testbed.slurm_conf))}")
    return 0


def _down(testbed: Testbed, args: argparse.Namespace) -> int:
    stopped = testbed.down(purge=args.purge)
    if args.json:
        print(json.dumps({"folder": str(testbed.folder), "stopped": stopped, "purged": args.purge}))
    else:
        print(f"stopped: {', '.join(stopped) or 'nothing ran'}")
    return 0


def _status(testbed: Testbed, args: argparse.Namespace) -> int:
    status = testbed.status()
    if args.json:
        print(json.dumps(_as_json(status)))
    elif status.settings is None:
        print(f"no testbed in {testbed.folder}")
    else:
        for name, pid in status.daemons.items():
            print(f"{name:<12} {'down' if pid is None else f'up, process {pid}'}")
        for name, state in status.nodes.items():
            print(f"node {name:<7} {state}")
        print(f"export SLURM_CONF={shlex.quote(str(testbed.slurm_conf))}")
    return 0 if status.up else 1


def _as_json(status: Status) -> dict[str, Any]:
    return {
        "folder": str(status.folder),
        "slurm_conf": str(status.folder / "slurm.conf"),
        "up": status.up,
        "settings": asdict(status.settings) if status.settings else None,
        "daemons": dict(status.daemons),
        "nodes": dict(status.nodes),
    }


if __name__ == "__main__":
    sys.exit(main())
