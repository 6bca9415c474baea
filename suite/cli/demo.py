"""Run a five-minute tour: six optimizers x three seeds on handwritten digits, then a leaderboard.

Runs `steppe run -t digits-cnn -o '*' -s 0-2`, then `steppe leaderboard` as text and as a site. A second call
resumes interrupted runs. Three seeds are too few for any test, and the table says so.
"""

from __future__ import annotations

import argparse
import shlex

from suite.cli import leaderboard, options, parse, run, wandb
from suite.cli.arguments import Arguments
from suite.terminal import output
from suite.terminal.message import say

RUNS = ["-t", "digits-cnn", "-o", "*", "-s", "0-2"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments."""
    options.add_store(parser)
    options.add_workers(parser)
    wandb.add_mode(parser)


def execute(args: Arguments) -> int:
    """Run the missing runs, write the leaderboard into the store and print its main columns."""
    store = args.store.root
    shared = args.store_option
    workers = ["--workers", str(args.workers)] if args.workers else []
    mirror = ["--wandb", args.wandb] if args.wandb else []
    selected = parse("run", [*RUNS, *shared, *workers, *mirror])
    code = run.run_selected(selected, shlex.join(["steppe", "demo", *shared, *mirror]))
    if code == run.INTERRUPTED:
        return code
    page = store / "leaderboard.md"
    leaderboard.execute(_leaderboard(*shared, "-o", str(page)))
    print(summary(_leaderboard(*shared, "--view", "epochs")))
    say(f"the whole leaderboard, with sharpness and the other views: {page}; as a site:")
    leaderboard.execute(_leaderboard(*shared, "--format", "html"))
    return code


def _leaderboard(*arguments: str) -> Arguments:
    return parse("leaderboard", ["-t", "digits-cnn", *arguments])


def summary(args: Arguments) -> str:
    """Write the main columns of each table that the options of `steppe leaderboard` select."""
    from suite.report import boards, text

    board = boards.leaderboard(leaderboard.chosen_records(args), args.cached_registry, view=args.view)
    parts = []
    for table in board.tables:
        score = table.score
        header = ["optimizer", "n", "failed", score.title, "cost", "train s", "subset loss"]
        header += ["lambda_max", "verdict"]
        rows = [
            [row.optimizer, str(row.n), str(row.failed), score.interval(row.values.get(score.key)),
             f"{row.cost:.2f}x", text.seconds(row.train_s), text.measured(row.train_loss),
             text.measured(found.over_seeds if (found := row.measures.get("lambda_max")) else None),
             score.verdict(row.verdict)]
            for row in table.rows
        ]  # fmt: skip
        parts.append(f"\n{table.task}: equal {table.view}, {table.budget:g}x ({text.UNTUNED})\n")
        parts.append(output.table([header, *rows]))
    return "\n".join(parts) + "\n"
