"""The five-minute tour: six optimizers x three seeds on handwritten digits, then a leaderboard.

It is `steppe run -t digits-cnn -o '*' -s 0-2` followed by `steppe leaderboard`: called again, it resumes
what was stopped and prints the same leaderboard. Three seeds decide nothing, and the table says so.
"""

from __future__ import annotations

import argparse
import shlex

from suite.cli import Parser, leaderboard, options, run, wandb

RUNS = ["-t", "digits-cnn", "-o", "*", "-s", "0-2"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_store(parser)
    options.add_workers(parser)
    wandb.add_mode(parser)


def execute(args: argparse.Namespace) -> int:
    """Run what is missing, write the leaderboard into the store and print it."""
    store = options.store_root(args)
    shared = ["--store", str(store)]
    workers = ["--workers", str(args.workers)] if args.workers else []
    mirror = ["--wandb", args.wandb] if args.wandb else []
    parser = Parser(prog="steppe run")
    run.configure(parser)
    code = run.run_selected(
        parser.parse_args([*RUNS, *shared, *workers, *mirror]),
        shlex.join(["steppe", "demo", *shared, *mirror]),
    )
    if code == run.INTERRUPTED:
        return code
    parser = Parser(prog="steppe leaderboard")
    leaderboard.configure(parser)
    page = store / "leaderboard.md"
    code = max(code, leaderboard.execute(parser.parse_args(["-t", "digits-cnn", *shared, "-o", str(page)])))
    print(page.read_text(encoding="utf-8"))
    run.say(f"leaderboard written to {page}")
    return code
