"""What may be published, and what is refused: every field of a record, and what fields say of each other."""

from __future__ import annotations

import base64
import contextlib
import copy
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from suite.errors import SteppeError
from suite.metric import ACCURACY, LOSS, Description, Metric, Profile
from suite.publishing.lineage import ROOT, commit_of
from suite.publishing.published import MAX_BYTES, examine, publishable, read_records, recounted
from suite.records import schema
from suite.records.schema import CurveResult, Estimate, Origin, Record, Sharpness, SplitResult
from suite.report import csv_, leaderboard, markdown
from suite.spec import RunSpec
from tests.suite.report import foreign
from tests.suite.report.fake_records import record, right

Json = dict[str, Any]
GONE = object()

DESCRIBED = Description(
    "small", 40.0, (ACCURACY, Metric("recovery_error", "lower", scale="log", margin=0.1, floor=1e-8), LOSS),
    extras=("shifted",), facts=(Metric("rises", "neither"),), columns=(Metric("rank", "neither"),),
    profiles=(Profile("path", "way", LOSS),),
)  # fmt: skip


def whole() -> Record:
    """A sound record that has every field that a record may have."""
    metrics: dict[str, float | None] = {"accuracy": 0.8, "recovery_error": 1e-4, "loss": 1.0}
    splits = dict.fromkeys(("validation", "shifted"), SplitResult(50, metrics))
    found = {"test": SplitResult(50, metrics, metrics, {"accuracy": right(0.8, 50)}), **splits}
    measured = Estimate(2.5, 0.1, 0.2, 50, 8, "test", 1, origin=Origin("d" * 64, "e" * 40, "cpu B"))
    made = record(found=found, described=DESCRIBED, facts={"rises": 3.0}, digests={"train": "f" * 64},
                  fingerprints=("cpu A", "cpu B"), plugin_source="9" * 64)  # fmt: skip
    return replace(
        made,
        provenance=replace(made.provenance, settings={"ONEDNN_MAX_CPU_ISA": "avx2"}),
        profiles={"path": CurveResult((0.0, 1.0), (2.0, 1.0))},
        perturbation_cosine={"first": 1.0, "last": 0.99},
        sharpness=Sharpness(
            50,
            {"loss": 0.5, "accuracy": 0.9},
            {
                "hessian_trace": measured,
                "lpf": replace(measured, value=0.6, origin=None),
                "lpf_difference": replace(measured, value=0.1, origin=None),
            },
        ),
    )


def plain(one: Record) -> Json:
    made: Json = json.loads(schema.to_line(schema.decode(schema.to_line(one))))
    return made


def paths(part: Any, above: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Every field of JSON data, outer ones first."""
    items = part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ()
    for key, inner in items:
        yield (*above, key)
        yield from paths(inner, (*above, key))


def dotted(path: tuple[str | int, ...]) -> str:
    """A path as the errors write it."""
    return "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in path).removeprefix(".")


def at(data: Any, path: tuple[str | int, ...]) -> Any:
    for key in path:
        data = data[key]
    return data


def changed(data: Json, path: tuple[str | int, ...], value: Any) -> Json:
    """Copy a record with another value in one field; its id is that of its spec where it has one."""
    out = copy.deepcopy(data)
    parent = at(out, path[:-1])
    if value is GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = value
    if path[0] == "spec" and value is not GONE:
        with contextlib.suppress(SteppeError, ValueError):
            out["run_id"] = RunSpec.from_dict(out["spec"]).run_id
    return out


def run_id(line: Json) -> str:
    return str(line["run_id"])


def written(path: Path, *lines: Json) -> Path:
    path.write_bytes(b"".join(map(encoded, lines)))
    return path


def encoded(line: Json) -> bytes:
    """A line as it is published, as far as it can be one."""
    with contextlib.suppress(OverflowError, UnicodeEncodeError):
        return msgspec.json.encode(line, order="sorted") + b"\n"
    return json.dumps(line).encode() + b"\n"


def refused(path: Path) -> str:
    """The only problem of a file, which both readers tell alike, without its place and its hint."""
    (problem,) = examine(path).problems
    with pytest.raises(SteppeError) as error:
        read_records(path)
    assert str(error.value) == problem
    assert "\n" not in problem
    assert problem.startswith(f"{path}:1")
    return problem.removeprefix(f"{path}:1: ").partition(": restore the line")[0]


def behind(evidence: str, content: bytes) -> str:
    """Evidence with something behind the end of its stream."""
    return base64.b64encode(base64.b64decode(evidence) + content).decode()


PLAIN = plain(whole())
FIELDS = list(paths(PLAIN))


def test_the_record_of_these_tests_is_sound_and_has_every_field(tmp_path: Path) -> None:
    path = written(tmp_path / "task.jsonl", PLAIN)
    assert examine(path).problems == ()
    assert list(read_records(path)) == [whole()]
    missing = {"failure"}  # of a run that failed only
    assert set(PLAIN) == {"record_version", *Record.__struct_fields__} - missing


@pytest.mark.parametrize("task", foreign.TASKS)
def test_records_of_foreign_tasks_are_sound(tmp_path: Path, task: str) -> None:
    values = [50.0, 60.0] if task == "tokens" else [0.5, 0.6]
    lines = sorted(map(plain, foreign.runs(task, "sgd", values)), key=run_id)
    assert examine(written(tmp_path / "task.jsonl", *lines)).problems == ()


@pytest.mark.parametrize("path", FIELDS, ids=dotted)
def test_a_wrong_type_is_told_by_its_path(tmp_path: Path, path: tuple[str | int, ...]) -> None:
    before = at(PLAIN, path)
    wrong: Any = 7 if isinstance(before, str | list | dict | None) else "many"
    if path[:3] in (("spec", "task", "params"), ("spec", "optimizer", "params")) and len(path) == 4:
        wrong = [1]  # parameters may be texts and numbers alike
    if path[:2] == ("provenance", "hardware") and len(path) == 3:
        wrong = 0.5
    told = refused(written(tmp_path / "task.jsonl", changed(PLAIN, path, wrong)))
    assert told.startswith(f"{dotted(path)} is {wrong!r}")
    assert "valid: " in told


OPTIONAL = {
    "data.split", "digests", "perturbation_cosine", "perturbation_cosine.first",
    "perturbation_cosine.last", "provenance.fingerprints", "provenance.hardware.cpu",
    "provenance.settings", "provenance.versions.torch", "results.test.as_trained", "results.test.right",
    "sharpness", "sharpness.measures.hessian_trace", "sharpness.measures.hessian_trace.origin",
    "sharpness.measures.lpf", "sharpness.measures.lpf_difference", "sharpness.metrics.accuracy",
    "task.columns", "task.metrics[0].margin", "task.metrics[0].unit", "task.metrics[1].margin",
}  # fmt: skip
"""What a sound record may lack: it has a default, or not every run has it."""


@pytest.mark.parametrize("path", FIELDS, ids=dotted)
def test_a_missing_field_is_told(tmp_path: Path, path: tuple[str | int, ...]) -> None:
    file = written(tmp_path / "task.jsonl", changed(PLAIN, path, GONE))
    if dotted(path) in OPTIONAL:
        assert examine(file).problems == ()
    else:
        assert refused(file)


NAMED = ["cost", "cost.steps", "task.metrics[0].better", "results.test.n", "sharpness.measures.lpf.estimator",
         "provenance.origin.fingerprint"]  # fmt: skip


@pytest.mark.parametrize("path", NAMED)
def test_the_name_of_a_missing_field_is_told(tmp_path: Path, path: str) -> None:
    keys = next(keys for keys in FIELDS if dotted(keys) == path)
    told = refused(written(tmp_path / "task.jsonl", changed(PLAIN, keys, GONE)))
    assert told == f"{path} is missing"


OBJECTS = [(), *(path for path in FIELDS if isinstance(at(PLAIN, path), dict))]


@pytest.mark.parametrize("path", OBJECTS, ids=dotted)
def test_an_unknown_field_is_told_with_the_known_ones(tmp_path: Path, path: tuple[str | int, ...]) -> None:
    file = written(tmp_path / "task.jsonl", changed(PLAIN, (*path, "path"), "/home/me"))
    free = {("spec", "task", "params"), ("spec", "optimizer", "params"), ("provenance", "versions"),
            ("provenance", "hardware"), ("provenance", "settings"), ("data",)}  # fmt: skip
    if path in free:
        assert examine(file).problems == ()
        return
    told = refused(file)
    assert dotted((*path, "path")) in told
    assert "valid: " in told


VALUES = (GONE, None, 0, -1.5, 2, 1e99, 1e308, 10**400, True, "many", [], [1], {}, {"a": 1})


@pytest.mark.parametrize("path", FIELDS, ids=dotted)
def test_what_is_sound_can_be_shown(tmp_path: Path, path: tuple[str | int, ...]) -> None:
    for value in VALUES:
        one = changed(PLAIN, path, value)
        other = changed(one, ("spec", "seed"), 1) if isinstance(one.get("spec"), dict) else PLAIN
        file = written(
            tmp_path / "task.jsonl", *sorted((one, other), key=lambda line: str(line.get("run_id")))
        )
        problems = examine(file).problems
        assert all(problem.isprintable() for problem in problems)
        if not problems:
            board = leaderboard.build(read_records(file), {}, {}, "steppe leaderboard")
            markdown.render(board)
            csv_.render(board)


MEASURED = "sharpness.measures.hessian_trace.origin.fingerprint"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("record_version", GONE, "record_version is missing; valid: 2"),
        ("record_version", 1, "record_version is 1, which is retired; valid: 2"),
        ("record_version", 3, "record_version is 3; valid: 2"),
        ("run_id", "0" * 16, "says it is of run '0000000000000000', but its spec is that of"),
        ("status", "done", "status is 'done'; valid: 'completed' or 'failed'"),
        ("spec.precision", "fp8", "spec.precision is 'fp8'; valid: 'fp32' or 'tf32' or 'bf16' or 'fp64'"),
        ("spec.seed", -1, "spec.seed is -1; valid: int >= 0"),
        ("protocol", "fair-9.9", "protocol is 'fair-9.9', that of its spec is 'fair-0.2'"),
        ("engine", 99, "engine is 99, that of its spec is"),
        ("task.tier", "huge", "task.tier is 'huge'; valid: 'smoke' or 'small' or 'full'"),
        ("task.epochs", 0, "task: epochs is 0; valid: a number above 0"),
        ("task.validation", "a b", "task.validation is 'a b'; valid: lower-case words joined by underscores"),
        ("task.metrics.0.better", "less", "task.metrics[0].better is 'less'; valid: 'higher' or 'lower' or"),
        ("task.metrics.1.floor", -1.0,
         "task.metrics[1]: metric recovery_error: floor is -1.0; valid: a number"),
        ("task.metrics.1.name", "accuracy", "task: metrics: the name 'accuracy' stands twice"),
        ("failure", {"kind": "diverged", "step": 1, "reason": ""},
         "failure does not fit its status, completed"),
        ("results.test", GONE, "results has the splits shifted, validation; its task evaluates test"),
        ("results.test.n", 0, "results.test.n is 0; valid: int >= 1"),
        ("results.test.metrics.accuracy", 97.5, "metrics.accuracy is 97.5; valid: a fraction from 0 to 1"),
        ("results.test.metrics.accuracy", "0.8",
         "results.test.metrics.accuracy is '0.8'; valid: float | null"),
        ("results.test.metrics.accuracy", 0.82, "accuracy is 0.82, but 40 of 50 stored examples are right"),
        ("results.test.metrics.accuracy", None, "accuracy is None, but 40 of 50 stored examples are right"),
        ("results.test.metrics.loss", GONE, "results.test.metrics.loss is missing: its task declares it"),
        ("results.test.metrics.recovery_error", -1.0, "is -1; valid on its log scale: at least 0"),
        ("results.test.as_trained.accuracy", 0.805, "which is no whole number of 50 examples"),
        ("results.validation.metrics.accuracy", 0.755, "is 0.755, which is no whole number of 50 examples"),
        ("results.validation.as_trained", PLAIN["results"]["test"]["metrics"],
         "results.validation.as_trained is not empty, but validation is no test split"),
        ("results.test.right.accuracy", right(0.8, 40), "right.accuracy is damaged: it does not hold 50"),
        ("results.test.right.accuracy", right(0.8, 50)[:-8], "right.accuracy is damaged: "),
        ("results.test.right.accuracy", "/home/me", "right.accuracy is damaged: "),
        ("results.test.right.accuracy", behind(right(0.8, 50), b"more"), "right.accuracy is damaged: it"),
        ("digests.train", "f" * 63, "digests.train is 'fff"),
        ("digests.train", "f" * 64 + "\n", "digests.train is 'fff"),
        ("results.test.right.recall", right(0.8, 50), "right.recall is nothing that its task declares"),
        ("facts.rises", GONE, "facts.rises is missing: its task declares it"),
        ("facts.falls", 1.0, "facts.falls is nothing that its task declares; valid: rises"),
        ("profiles.path.x", [0.0], "profiles.path has 1 places for 2 values"),
        ("perturbation_cosine.last", 1.5, "perturbation_cosine.last is 1.5; valid: from -1 to 1"),
        ("sharpness.metrics.accuracy", 90.0,
         "sharpness.metrics.accuracy is 90; valid: a fraction from 0 to 1"),
        ("sharpness.metrics.loss", GONE, "sharpness.metrics.loss is missing"),
        ("sharpness.metrics.path", 1.0, "sharpness.metrics.path is nothing that its task declares"),
        ("sharpness.measures.flatness", PLAIN["sharpness"]["measures"]["lpf"],
         "flatness is no measure; valid:"),
        ("sharpness.measures.lpf.value", 0.7, "lpf 0.7 less lpf_difference 0.1 is not the loss 0.5"),
        ("sharpness.measures.lpf.value", None, "sharpness.measures.lpf has no value and no reason for none"),
        ("sharpness.measures.lpf.n", 49, "sharpness.measures.lpf.n is 49, the subset has 50 examples"),
        ("sharpness.measures.lpf.se_probes", -0.1, "lpf.se_probes is -0.1; valid: at least 0"),
        ("sharpness.measures.lpf.version", 0, "sharpness.measures.lpf.version is 0; valid: int >= 1"),
        ("cost.gradients", 180_001, "cost.sample_gradients is 180000, its parts add up to 180001"),
        ("cost.losses", 3, "cost.sample_gradients is 180000, its parts add up to 180001"),
        ("cost.declared", 2.0, "but 40 epochs of 4500 examples at 2 each are 360000"),
        ("cost.n_train", 4000, "but 40 epochs of 4000 examples at 1 each are 160000"),
        ("cost.train_s", -0.5, "cost.train_s is -0.5; valid: float >= 0.0"),
        ("cost.steps", 2**60, "cost.steps is 1152921504606846976; valid: int <= 9007199254740992"),
        ("sources.task", "zz", "sources.task is 'zz'; valid: str matching regex"),
        ("provenance.origin.git_commit", "main",
         "git_commit is 'main'; valid: null, or the hash of a commit"),
        ("provenance.bit_exact", True, "provenance.fingerprints says that the run moved; valid: several"),
        ("cost.steps", 0, "cost.steps is 0, but 40 epochs have at least 40"),
        ("cost.steps", 39, "cost.steps is 39, but 40 epochs have at least 40"),
        ("spec.device", "cuda", "provenance.hardware.gpu is None, but spec.device is 'cuda'"),
        ("provenance.hardware.gpu", "H100", "provenance.hardware.gpu is 'H100', but spec.device is 'cpu'"),
        ("spec.precision", "tf32", "spec.precision is 'tf32', which cpu does not have"),
        (MEASURED, "cuda: A", f"{MEASURED} is of device cuda, but spec.device is cpu"),
        (MEASURED, "cpu: 2 x A, 1 of 2 threads, torch 2", f"{MEASURED} is of ranks 2, but spec.ranks is 1"),
        (MEASURED, "cpu: A, 3 of 4 threads, torch 2", f"{MEASURED} is of threads 3, but spec.threads is 1"),
        ("sources.optimizer", "8" * 64,
         "sources.optimizer is not the code of its plugin, spec.optimizer.plugin_source"),
        ("provenance.fingerprints", ["cpu A"],
         "provenance.fingerprints says that the run moved; valid: several"),
    ],
)  # fmt: skip
def test_what_is_false_is_named(tmp_path: Path, path: str, value: Any, says: str) -> None:
    keys = tuple(int(key) if key.isdigit() else key for key in path.split("."))
    assert says in refused(written(tmp_path / "task.jsonl", changed(PLAIN, keys, value)))


def test_a_compiled_run_is_not_bit_exact(tmp_path: Path) -> None:
    for changes in ({"compile": True}, {"device": "cuda", "ranks": 2}):
        made = plain(record(**changes))
        if "device" in changes:
            made["provenance"]["hardware"]["gpu"] = "H100"
        told = refused(written(tmp_path / "task.jsonl", made))
        assert told.startswith("provenance.bit_exact is true; valid: false for compiled runs and for those")


@pytest.mark.parametrize("epochs", [1.0, 0.01])
def test_a_single_step_may_be_any_part_of_an_epoch_and_no_more(tmp_path: Path, epochs: float) -> None:
    one = record(epochs=epochs)
    n_train = one.cost.n_train
    for n_gradients, sound in ((n_train, True), (2 * n_train + 45, False)):
        cost = replace(one.cost, sample_gradients=float(n_gradients), gradients=n_gradients, steps=1)
        path = written(tmp_path / "task.jsonl", plain(replace(one, cost=cost)))
        assert (examine(path).problems == ()) == sound


def test_more_epochs_than_were_paid_for_are_named(tmp_path: Path) -> None:
    told = refused(written(tmp_path / "task.jsonl", changed(PLAIN, ("spec", "epochs"), 80.0)))
    assert "cost.sample_gradients is 180000, but 80 epochs of 4500 examples at 1 each are 360000" in told


@pytest.mark.parametrize("kept", ["results", "facts", "profiles", "sharpness"])
def test_a_failed_run_has_no_results(tmp_path: Path, kept: str) -> None:
    failed = plain(record(failed=True, described=DESCRIBED))
    assert examine(written(tmp_path / "task.jsonl", failed)).problems == ()
    told = refused(written(tmp_path / "task.jsonl", {**failed, kept: PLAIN[kept]}))
    assert told == f"{kept} is not empty, but the run failed"
    del failed["failure"]
    assert refused(written(tmp_path / "task.jsonl", failed)) == "failure does not fit its status, failed"


def test_a_commit_that_this_clone_has_must_have_the_code(tmp_path: Path) -> None:
    answer = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "HEAD"], capture_output=True, text=True, check=False
    )
    commit = commit_of(answer.stdout.strip())
    if commit is None:
        pytest.skip("no clone")
    origin = ("provenance", "origin")
    named = changed(PLAIN, (*origin, "git_commit"), answer.stdout.strip())
    told = refused(written(tmp_path / "task.jsonl", named))
    assert told == f"provenance.origin.source_tree is not that of commit {answer.stdout[:12]}"
    named = changed(named, (*origin, "source_tree"), commit.source_tree)
    assert "source_tree" not in str(examine(written(tmp_path / "task.jsonl", named)).problems)


def test_a_line_is_written_as_publishing_writes_it(tmp_path: Path) -> None:
    line = schema.to_line(whole())
    own = b'"record_version":2'
    ways = [
        line[:-1],
        line[:-1] + b"\r\n",
        b" " + line,
        json.dumps(PLAIN).encode() + b"\n",
        line.replace(own, own + b"," + own),
        line.replace(own, own + b',"failure":null'),
        line.replace(b',"threads":1', b""),
        line.replace(b'"seed":', b'"seed":7,"seed":'),
    ]
    for at, way in enumerate(ways):
        path = tmp_path / f"{at}.jsonl"
        path.write_bytes(way)
        assert refused(path).startswith("it is not written as `steppe publish` writes it: each key once")


def test_a_file_without_a_line_holds_no_record(tmp_path: Path) -> None:
    path = tmp_path / "task.jsonl"
    path.touch()
    told = f"{path} holds no record: delete it, or name a file that `steppe publish` wrote"
    assert examine(path).problems == (told,)
    with pytest.raises(SteppeError, match="holds no record"):
        read_records(path)


BROKEN = [b"", b"{", b"[1]", b"7", b'"text"', b"null", b"\xff", b'{"a": "\xff"}', b"[" * 9999,
          b'{"a":' * 9999, json.dumps(PLAIN)[:-9].encode()]  # fmt: skip


@pytest.mark.parametrize("line", BROKEN)
def test_what_is_no_record_is_one_line(tmp_path: Path, line: bytes) -> None:
    path = tmp_path / "task.jsonl"
    path.write_bytes(line + b"\n")
    assert refused(path)


def test_names_that_break_lines_are_told_on_one(tmp_path: Path) -> None:
    for path in (("results", "a\nb\x1b"), ("facts", "a\nb\x1b"), ("cost", "a\nb\x1b")):
        told = refused(written(tmp_path / "task.jsonl", changed(PLAIN, path, 1.0)))
        assert told.isprintable()


def test_runs_stand_in_order_and_once(tmp_path: Path) -> None:
    one, other = sorted((plain(record(seed=seed)) for seed in range(2)), key=run_id)
    path = written(tmp_path / "task.jsonl", other, one, one)
    told = f"run {one['run_id']} does not come after {other['run_id']}: sort the lines by run, each once"
    assert examine(path).problems == (f"{path}:2: {told}", f"{path}:3: {told}")
    with pytest.raises(SteppeError, match=r":2: .* \(and 1 more: `steppe validate .*` lists them\)"):
        read_records(path)
    assert "stands twice" in examine(written(path, one, one)).problems[0]


def test_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(SteppeError, match=r"cannot read .*: No such file"):
        read_records(tmp_path / "nowhere.jsonl")


# -- publishing ----------------------------------------------------------------------------------------


def noisy(n: int) -> str:
    """Evidence that zlib cannot make much smaller, of half of n examples."""
    import random

    chosen = set(random.Random(0).sample(range(n), n // 2))
    bits = "".join("1" if at in chosen else "0" for at in range(n)).ljust(-(-n // 8) * 8, "0")
    return schema.pack_right(int(bits, 2).to_bytes(-(-n // 8), "big"))


def three_splits(n: int) -> Record:
    described = replace(foreign.PAIRS, metrics=foreign.PAIRS.metrics[:1])
    half: dict[str, float | None] = {"recall_at_1": 0.5}
    found = {
        split: SplitResult(n if split != "unseen" else n // 2, half, {}, {})
        for split in described.evaluated
    }  # fmt: skip
    for split in described.tests:
        found[split] = replace(found[split], right={"recall_at_1": noisy(found[split].n)})
    return foreign.run("pairs", described=described, found=found)


def test_evidence_beyond_10_kb_is_dropped_the_largest_first() -> None:
    small = three_splits(10_000)
    assert publishable(small) == small
    large = three_splits(24_000)
    assert len(schema.to_line(large)) > MAX_BYTES
    kept = publishable(large)
    assert len(schema.to_line(kept)) <= MAX_BYTES
    assert [split for split, result in kept.results.items() if result.right] == ["seen", "unseen"]
    assert recounted([kept]) == (
        {"seen.recall_at_1", "unseen.recall_at_1"},
        {"with_distractors.recall_at_1", "validation.recall_at_1"},
    )


def test_what_some_records_only_claim_is_not_proven() -> None:
    assert recounted([three_splits(10_000), publishable(three_splits(24_000))])[0] == {
        "seen.recall_at_1",
        "unseen.recall_at_1",
    }


def test_a_record_too_large_without_evidence_is_refused() -> None:
    long = tuple(i / 1000 for i in range(2000))
    made = replace(whole(), profiles={"path": CurveResult(long, long)})
    with pytest.raises(SteppeError, match=r"of run .* cannot be published: it has \d+ bytes; 10000 may"):
        publishable(made)


def test_an_unsound_record_cannot_be_published() -> None:
    made = whole()
    with pytest.raises(
        SteppeError, match=r"cannot be published: cost\.sample_gradients is 180000, its parts"
    ):
        publishable(replace(made, cost=replace(made.cost, losses=3)))
