"""`steppe submit`: what it says, what it refuses, and that a run ends as it does at home."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from slurm import dispatch, executor
from slurm.cluster import Cluster
from slurm.executor import ROOT
from slurm.submission import submissions
from suite.files import write_whole
from suite.records.schema import to_line
from suite.store.folders import Store
from tests.slurm.queue import wait_until
from tests.suite.cli.conftest import TINY, Cli, cli
from tests.suite.fake_records import make_record
from tests.suite.runner import PLUGIN, sources_of, tiny_specs
from tests.testbed.cluster import Testbed

__all__ = ["cli"]  # a fixture of another folder

HELD = 'memory = "2G"\n[extra]\nhold = true\n'
RUNS = (*TINY, "-o", "sgd,sam", "-s", "0-2")


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    path = tmp_path / "held.toml"
    path.write_text(HELD)
    return path


@pytest.fixture
def call(cli: Cli, on_cluster: Testbed, profile: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Submit the six tiny runs, held, with further options."""
    monkeypatch.setenv("WANDB_MODE", "disabled")

    def call(*options: str, code: int = 0) -> Any:
        answer = cli("submit", *RUNS, "--store", "store", "--profile", profile, *options)
        assert answer.code == code, answer.err
        return answer

    return call


def names_in_queue(testbed: Testbed) -> list[str]:
    return testbed.ask("squeue", "--array", "--noheader", "--format=%j").split()


def test_it_says_what_it_submitted_and_how_to_go_on(call: Any, on_cluster: Testbed) -> None:
    answer = call("--pack", "2")
    (submission,) = submissions(Path("store").resolve())
    (batch,) = submission.batches
    assert answer.out == ""
    assert answer.err.splitlines() == [
        "6 runs in 3 tasks",
        f"submitted as {submission.name}: job {batch.job}",
        "follow them: steppe status --watch --store store",
        f"stop them:   steppe cancel {submission.name} --store store",
    ]
    assert names_in_queue(on_cluster) == [batch.job_name] * 3


def test_json_says_the_same(call: Any) -> None:
    told = json.loads(call("--pack", "4", "--json").out)
    (submission,) = submissions(Path("store").resolve())
    assert (told["submission"], told["runs"], told["tasks"]) == (submission.name, 6, 2)
    assert told["jobs"] == [batch.job for batch in submission.batches]
    again = json.loads(call("--pack", "4", "--json").out)
    assert (again["submission"], again["jobs"], again["runs"]) == (None, [], 0)
    assert again["left_out"] == {"in the queue": 6}


def test_the_nodes_get_whole_paths_and_what_was_chosen(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    monkeypatch.setenv("WANDB_MODE", "offline")
    call("--data", "data", "--workers", "3", "--checkpoint-s", "7")
    (submission,) = submissions(Path("store").resolve())
    config = submission.config
    assert (config.data, config.plugins) == (str(tmp_path / "data"), (str(PLUGIN),))
    assert (config.profile.side_by_side, config.checkpoint_s, config.wandb) == (3, 7, "offline")
    assert config.profile.extra == {"hold": True}
    assert submission.folder.is_absolute()


@pytest.mark.parametrize(("mode", "wandb"), [("disabled", "off"), ("online", "offline"), ("", "offline")])
def test_nodes_mirror_offline_unless_it_is_disabled(
    call: Any, monkeypatch: pytest.MonkeyPatch, mode: str, wandb: str
) -> None:
    monkeypatch.setenv("WANDB_MODE", mode)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    call()
    (submission,) = submissions(Path("store").resolve())
    assert submission.config.wandb == wandb


@pytest.mark.parametrize(("gpus", "device"), [("", "cpu"), ("gpus = 1\n", "cuda")])
def test_the_device_is_what_the_profile_asks_for(call: Any, profile: Path, gpus: str, device: str) -> None:
    profile.write_text(gpus + HELD)
    call()
    store = Store("store")
    assert {store.run(run_id).spec().device for run_id in store.run_ids()} == {device}


def test_a_dry_run_prints_the_script_and_writes_nothing(call: Any, on_cluster: Testbed) -> None:
    answer = call("--dry-run", "--pack", "2")
    assert answer.out.startswith("#!/bin/bash")
    assert "#SBATCH --array=0-2%3" in answer.out.splitlines()
    assert "6 runs in 3 tasks" in answer.err
    scripts = json.loads(call("--dry-run", "--pack", "2", "--json").out)["scripts"]
    assert "".join(scripts).strip() == answer.out.strip()
    assert not Path("store").exists()
    assert names_in_queue(on_cluster) == []


def test_a_spec_that_was_edited_in_the_queue_is_mended(call: Any) -> None:
    call()
    store = Store("store")
    path = store.run(store.run_ids()[0]).path / "spec.json"
    sound = path.read_bytes()
    write_whole(path, sound.replace(b'"epochs": 4.0', b'"epochs": 1.0'))
    assert path.read_bytes() != sound
    assert "nothing to submit from" in call().err
    assert path.read_bytes() == sound


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("memory = ", "is not TOML"),
        ("gpus = 1\ngpu_type = 'h100'", "asks for 1 GPU of type h100 a task; no node of low has that"),
        ("gpus = 3", "GPUs of a node, by partition: low: 2 of any type; high: 2 of any type"),
        ("partition = 'lwo'", "unknown partition 'lwo'; did you mean 'low'"),
        ("cpus = 5", "cpus = 5 is more than any node of partition low has; valid: up to 4"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused_before_anything_is_written(
    call: Any, profile: Path, text: str, words: str
) -> None:
    profile.write_text(text)
    answer = call(code=2)
    assert words in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not Path("store").exists()


def test_an_unknown_profile_gets_the_nearest(cli: Cli) -> None:
    answer = cli("submit", *RUNS, "--profile", "testbet")
    assert answer.code == 2
    assert "unknown profile 'testbet'; did you mean 'testbed'?" in answer.err


def test_without_slurm_the_user_hears_where_to_go_on(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    answer = cli("submit", *RUNS, "--profile", "testbed")
    assert answer.code == 2
    assert "no `sbatch` on PATH" in answer.err
    assert "run it here with `steppe run`" in answer.err
    assert "python -m tests.testbed up" in answer.err


def test_what_is_published_is_not_submitted(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "survey", lambda _: Cluster("fake", 1001, 10_000, None, 0, 0, {}))
    monkeypatch.setattr(executor, "ask", lambda *_: "Submitted batch job 100")
    done, other, *_ = tiny_specs(["sgd", "sam"], [0, 1, 2])
    records = tmp_path / "published.jsonl"
    made = [
        make_record(spec, status, sources=sources_of(spec))
        for spec, status in ((done, "completed"), (other, "failed"))
    ]
    made.sort(key=lambda record: record.run_id)
    records.write_bytes(b"".join(map(to_line, made)))
    submit = ("submit", *RUNS, "--store", "store", "--profile", "testbed", "--records", records)
    dry = cli(*submit, "--dry-run")
    assert dry.code == 0, dry.err
    answer = cli(*submit, "--pack", "2")
    assert answer.err.splitlines()[0] == "4 runs in 2 tasks; left out: 1 done in records, 1 failed in records"
    store = Store("store")
    assert not {done.run_id, other.run_id} & {*store.run_ids()}
    (submission,) = submissions(Path("store").resolve())
    seeds = [[store.run(run_id).spec().seed for run_id in pack] for pack in submission.batches[0].packs]
    assert seeds == [[1, 1], [2, 2]]


CACHED = """
from suite.cli import main
assert main(["plan", "-t", "digits-cnn", "-o", "*", "-o", "nso[k=2]", "--store", "store"]) == 0
"""

ALONE = """
import sys
from slurm import dispatch, executor
from slurm.cluster import Cluster
from suite.cli import main
dispatch.survey = lambda profile: Cluster("fake", 1001, 10_000, None, 0, 0, {})
executor.ask = lambda *command: "Submitted batch job 100"
runs = ["-t", "digits-cnn", "-o", "*", "-o", "nso[k=2]", "-s", "0-1", "--store", "store"]
assert main(["submit", *runs, "--profile", "testbed", "--dry-run"]) == 0
assert main(["submit", *runs, "--profile", "testbed"]) == 0
sys.exit("torch" in sys.modules)
"""


def test_it_leaves_torch_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for code in (CACHED, ALONE):
        done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    assert len(Store(tmp_path / "store").run_ids()) == 14
    (submission,) = submissions(tmp_path / "store")
    assert [batch.job for batch in submission.batches] == ["100"]


def test_a_silent_controller_is_an_error_and_nothing_is_written(
    call: Any, on_cluster: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = tmp_path / "scontrol"
    silent.write_text("#!/bin/sh\necho 'scontrol: error: Unable to contact slurm controller' >&2\nexit 1\n")
    silent.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert "SLURM does not answer" in call(code=2).err
    assert not Path("store").exists()


def test_a_run_that_was_submitted_becomes_a_record(
    cli: Cli, on_cluster: Testbed, profile: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "disabled")
    profile.write_text('memory = "2G"\n')
    options = (*TINY, "-o", "sgd", "-s", "0-1", "--store", "store")
    assert cli("submit", *options, "--profile", profile, "--pack", "2").code == 0
    store = Store("store")
    wait_until(lambda: {store.run(r).status() for r in store.run_ids()} == {"done"}, "two records")
    assert "nothing to submit" in cli("submit", *options, "--profile", profile).err
