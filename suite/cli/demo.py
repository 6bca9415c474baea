"""The five-minute tour: six optimizers x three seeds on handwritten digits, then a leaderboard.

It is `steppe run -t digits-cnn -o '*' -s 0-2` followed by `steppe leaderboard`, as a text and as a site:
called again, it resumes what was stopped. Three seeds decide nothing, and the table says so.
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
    """Run what is missing, write the leaderboard into the store and print the heart of it."""
    store = options.store_root(args)
    shared = ["--store", str(store)] if args.store else []
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
    page = store / "leaderboard.md"
    leaderboard.execute(_leaderboard(*shared, "-o", str(page)))
    print(summary(_leaderboard(*shared, "--view", "epochs")))
    run.say(f"all of it, sharpness and the other views included: {page}, and as a page to open:")
    leaderboard.execute(_leaderboard(*shared, "--format", "html"))
    return code


def _leaderboard(*arguments: str) -> argparse.Namespace:
    parser = Parser(prog="steppe leaderboard")
    leaderboard.configure(parser)
    return parser.parse_args(["-t", "digits-cnn", *arguments])


def summary(args: argparse.Namespace) -> str:
    """Write what fits a terminal of each table that the options of `steppe leaderboard` choose."""
    from suite.report import text

    board = leaderboard.build(leaderboard.chosen_records(args), options.registry(args), args)
    parts = []
    for table in board.tables:
        score = table.score
        header = [
            "optimizer",
            "n",
            "failed",
            score.title,
            "cost",
            "train s",
            "subset loss",
            "lambda_max",
            "verdict",
        ]
        rows = [
            [row.optimizer, str(row.n), str(row.failed), score.interval(row.values.get(score.key)),
             f"{row.cost:.2f}x", text.seconds(row.train_s),
             text.measured(row.train_loss),
             text.measured(found.over_seeds if (found := row.measures.get("lambda_max")) else None),
             score.verdict(row.verdict)]
            for row in table.rows
        ]  # fmt: skip
        parts.append(f"\n{table.task}: equal {table.view}, {table.budget:g}x ({text.UNTUNED})\n")
        parts.append(options.table([header, *rows]))
    return "\n".join(parts) + "\n"
