"""Synthetic records of tasks that classify no images: other scales, splits and kinds of results."""

from msgspec.structs import replace

from suite.metric import LOSS, Description, Metric, Profile
from suite.records.schema import CurveResult, Sharpness, SplitResult
from tests.suite.report.fake_records import EPOCHS, record, right, wavy

RECOVERY = Metric("recovery_error", "lower", scale="log", margin=0.1, floor=1e-8)
RECALL = Metric("recall_at_1", "higher", "%", margin=0.01)
RANK = Metric("median_rank", "lower")
PERPLEXITY = Metric("perplexity", "lower", margin=0.5)
HITS = Metric("next_token_hits", "higher", "%")

SENSING = Description("small", EPOCHS, (RECOVERY, LOSS))
"""One test split; the primary metric is on a log scale, down to a floor."""
PAIRS = Description("small", EPOCHS, (RECALL, RANK), tests=("seen", "unseen", "with_distractors"))
"""Three test splits, and no BatchNorm."""
EDGE = Description(
    "small", EPOCHS, (LOSS,), tests=(), validation="",
    facts=(Metric("rises", "neither"), Metric("seconds_to_solution", "lower", "s")),
    columns=(Metric("effective_rank", "neither"),),
    profiles=(Profile("interpolation", "way from initial to final weights", LOSS),),
)  # fmt: skip
"""Neither test nor validation split, and no margin."""
TOKENS = Description("small", EPOCHS, (PERPLEXITY, HITS), tests=())
"""Validation only; the primary metric has no unit, and lower is better."""

TASKS = {"sensing": SENSING, "pairs": PAIRS, "edge": EDGE, "tokens": TOKENS}


def results(task, value):
    """Evaluation of every split of a task whose scored split comes to this value."""
    if task == "sensing":
        return {split: SplitResult(60, {"recovery_error": value, "loss": 0.5 * value * value})
                for split in SENSING.evaluated}  # fmt: skip
    if task == "pairs":
        shares = zip(PAIRS.evaluated, (1.0, 0.8, 0.5, 1.0), strict=True)
        found = {split: round(value * share, 3) for split, share in shares}
        return {
            split: SplitResult(
                1000, {"recall_at_1": recall, "median_rank": 4.0 / value}, {},
                {"recall_at_1": right(recall, 1000)} if split in PAIRS.tests else {},
            )
            for split, recall in found.items()
        }  # fmt: skip
    if task == "edge":
        return {"train": SplitResult(60, {"loss": value})}
    return {"validation": SplitResult(500, {"perplexity": value, "next_token_hits": 1 / value**0.25})}


def run(task, optimizer="sgd", seed=0, value=0.5, **options):
    """A record of one of these tasks."""
    given = {"described": TASKS[task], "found": results(task, value), "data": f"{task}-set"}
    if task == "edge":
        given["facts"] = {"rises": 3.0 + seed, "seconds_to_solution": 12.5 + seed}
    made = record(optimizer, seed, task=task, **given | options)
    if made.failed:
        return made
    sharpness = Sharpness(1000, {"loss": options.get("train_loss", 0.5)}, made.sharpness.measures)
    profiles = {}
    if task == "edge":
        along = tuple(i / 10 for i in range(11))
        profiles = {"interpolation": CurveResult(along, tuple(value * (2 - t) for t in along))}
    return replace(made, sharpness=sharpness, profiles=profiles)


def runs(task, optimizer, values, **options):
    """One record for each of the values, seeds 0, 1, ..."""
    return [run(task, optimizer, seed, value, **options) for seed, value in enumerate(values)]


def decades(exponent, spread=0.02, n=10, phase=0):
    """n values around a power of ten, with a fixed irregular pattern in decades."""
    return [10**one for one in wavy(exponent, spread, n, phase)]


def everything():
    """Some records of each of the tasks: a tie, a worse row, a value at the floor, a null, a failure."""
    out = runs("sensing", "sgd", decades(-5)) + runs("sensing", "sam", decades(-4.98, phase=3))
    out += runs("sensing", "nso", [0.0, *decades(-7, 0.5, 9)])
    out += runs("pairs", "sgd", wavy(0.6)) + runs("pairs", "sam", wavy(0.7))
    out += runs("edge", "sgd", wavy(1e-3, 1e-5)) + runs("edge", "sam", wavy(1e-3, 1e-5, phase=3))
    out += runs("tokens", "sgd", wavy(123.4, 0.2)) + runs("tokens", "adam", wavy(118.1, 0.2))
    out.append(run("tokens", "nso", 0, failed=True))
    lost = results("tokens", 120.0)["validation"]
    null = {"validation": replace(lost, metrics=lost.metrics | {"next_token_hits": None})}
    return [*out, run("tokens", "sam", 0, 120.0, found=null)]
