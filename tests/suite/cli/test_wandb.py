"""`steppe wandb sync` mirrors the store once or says why it cannot; `steppe run` tells what is mirrored."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.store.folders import Store
from suite.track import reader
from suite.track.mirror_folder import MirrorFolder
from tests.suite.cli.conftest import TINY, Cli
from tests.suite.runner import PLUGIN, tiny_specs
from tests.suite.track import offline
from tests.suite.track.stub import Stub, forget_keys, serving


@pytest.fixture(autouse=True)
def keyless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    forget_keys(tmp_path, monkeypatch)


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stub]:
    with serving(monkeypatch) as made:
        yield made


def test_sync_uploads_once(cli: Cli, store: Store, stub: Stub) -> None:
    sync = ("wandb", "sync", "--store", store.root, "--plugin", PLUGIN)
    first = cli(*sync, "--json")
    assert (first.code, first.json["mirrored"], first.json["unchanged"]) == (0, 7, 0), first.err
    runs = {spec.run_id: spec for spec in tiny_specs(["sgd", "sam"], [0, 1, 2])}
    assert runs.keys() < stub.runs.keys()
    for run_id, spec in runs.items():
        run = stub.runs[run_id]
        assert (run.fields["groupName"], run.fields["jobType"]) == ("tiny", spec.optimizer.name)
        assert [row["step"] for row in run.rows] == [6]
        assert run.summary["test/accuracy"] >= 0.8
    (board,) = stub.runs.keys() - runs.keys()
    assert stub.runs[board].fields["jobType"] == "leaderboard"
    table = json.loads(stub.uploads["artifact/leaderboard.table.json"])
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    by_epochs = [row for row in rows if row["view"] == "epochs"]
    assert [[row["optimizer"], row["test_accuracy_mean"], row["n"]] for row in by_epochs] == [
        ["sam", pytest.approx(0.86), 3],
        ["sgd", pytest.approx(0.84), 3],
    ]
    assert stub.uploads["artifact/leaderboard.csv"].startswith(b"protocol,")
    assert len(stub.committed) == len(stub.artifacts) == 2  # the table's and ours
    assert not stub.unknown

    asked = len(stub.operations)
    second = cli(*sync, "--json")
    assert (second.code, second.json["mirrored"], second.json["unchanged"]) == (0, 0, 7)
    assert len(stub.operations) == asked
    assert "0 mirrored, 7 unchanged" in second.err


def test_the_leaderboard_tells_nothing_of_the_machine(cli: Cli, store: Store, stub: Stub) -> None:
    assert cli("wandb", "sync", "--store", store.root, "--plugin", PLUGIN).code == 0
    (board,) = (run for name, run in stub.runs.items() if name.startswith("leaderboard-"))
    told = [*stub.uploads.values(), repr([board, stub.artifacts]).encode()]
    assert any(b"local_path" in content for content in told)  # wandb does tell where the files were
    for secret in (store.root, Path.home(), Path.cwd(), Path(reader.__file__).parents[2], PLUGIN.parent):
        assert not [content for content in told if f"{secret}/".encode() in content]
    assert not board.fields.get("host")


def test_an_odd_record_costs_its_run_only(cli: Cli, store: Store, stub: Stub) -> None:
    odd, *sound = store.run_ids()
    path = store.run(odd).path / "result.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "sharpness": {"measures": {"lpf": 3}}}))
    answer = cli("wandb", "sync", "--store", store.root, "--plugin", PLUGIN)
    assert answer.code == 1
    assert "6 mirrored, 1 damaged" in answer.err  # five runs and the leaderboard
    assert f"{odd}/result.json: sharpness" in answer.err
    assert set(sound) < stub.runs.keys()


def test_the_leaderboard_needs_no_plugin(cli: Cli, store: Store, stub: Stub) -> None:
    answer = cli("wandb", "sync", "--store", store.root)
    assert (answer.code, "7 mirrored" in answer.err) == (0, True), answer.err
    assert set(store.run_ids()) < stub.runs.keys()


@pytest.mark.parametrize("order", [("RUN", "--store", "S"), ("--store", "S", "RUN")])
def test_options_may_stand_before_the_runs(cli: Cli, store: Store, order: tuple[str, ...]) -> None:
    run_id, *others = store.run_ids()
    words: dict[str, str | Path] = {"RUN": run_id, "S": store.root}
    answer = cli("wandb", "sync", *(words.get(word, word) for word in order), "--wandb", "offline")
    assert answer.code == 0, answer.err
    assert "1 mirrored" in answer.err
    assert not (store.root / "wandb" / others[0]).exists()


def test_sync_does_again_what_changed_or_was_not_finished(cli: Cli, store: Store, stub: Stub) -> None:
    changed, unfinished, *_ = (spec.run_id for spec in tiny_specs(["sgd"], [0, 1]))
    sync = ("wandb", "sync", changed, unfinished, "--store", store.root, "--plugin", PLUGIN)
    cli(*sync)
    asked = {run_id: run.starts for run_id, run in stub.runs.items()}
    assert asked.keys() == {changed, unfinished}  # the runs that were named, and no leaderboard
    (MirrorFolder(store.root, unfinished).path / "mirror.json").write_text("{")
    record = store.run(changed).path / "result.json"
    record.write_text(record.read_text().replace('"value": 2.5', '"value": 3.5'))
    answer = cli(*sync)
    assert "2 mirrored" in answer.err
    assert all(stub.runs[run_id].starts > asked[run_id] for run_id in asked)
    assert stub.runs[changed].summary["sharpness/lambda_max"] == 3.5
    assert [row["step"] for row in stub.runs[changed].rows] == [6]


def test_sync_without_a_key_says_how_to_get_one(cli: Cli, store: Store) -> None:
    answer = cli("wandb", "sync", "--store", store.root)
    assert answer.code == 2
    assert "no W&B key for https://api.wandb.ai: `wandb login` stores one" in answer.err
    assert "--wandb offline" in answer.err
    assert not (store.root / "wandb").exists()
    assert cli("run", *TINY, "-o", "sgd", "--store", store.root, "--wandb", "online").code == 2


def test_sync_offline_writes_files_and_the_leaderboard(cli: Cli, store: Store) -> None:
    sync = ("wandb", "sync", "--store", store.root, "--plugin", PLUGIN, "--wandb", "offline")
    answer = cli(*sync)
    assert answer.code == 0
    assert f"offline files in {store.root / 'wandb'}): 7 mirrored" in answer.err
    (board,) = (store.root / "wandb").glob("leaderboard-*/wandb/*/*.wandb")
    found = offline.read(board)
    assert found.run["job_type"] == "leaderboard"
    assert found.rows[0]["leaderboard._type"] == "table-file"
    (shown,) = (board.parent / "files" / "media" / "table").iterdir()
    assert len(json.loads(shown.read_text())["data"]) == 6  # two optimizers in three views
    # What is not in its folder `wandb sync` could not upload, and it tells the server where artifacts lay.
    assert not found.artifacts
    assert str(store.root).encode() not in board.read_bytes()
    assert "0 mirrored, 7 unchanged" in cli(*sync).err


def test_sync_refused_says_so_and_fails(cli: Cli, store: Store, stub: Stub) -> None:
    stub.mode = "refuses"
    answer = cli("wandb", "sync", "--store", store.root, "--plugin", PLUGIN)
    assert answer.code == 1
    assert "0 mirrored, 7 lost" in answer.err
    assert f"key refused by {stub.url}; output of wandb: {store.root}/wandb/sidecar.log" in answer.err


def test_sync_passes_over_a_damaged_record_and_a_running_run(cli: Cli, store: Store, stub: Stub) -> None:
    damaged, *_ = store.run_ids()
    (store.run(damaged).path / "result.json").write_text("{")
    spec = tiny_specs(["nso"], [0])[0]
    store.run(spec.run_id).write_spec(spec)
    with store.run(spec.run_id).start() as attempt:
        attempt.metrics({"epoch": 1, "step": 6, "train_loss": 1.0})
        answer = cli("wandb", "sync", "--store", store.root, "--plugin", PLUGIN)
    assert answer.code == 1
    assert "half-written or corrupt" in answer.err
    assert "6 mirrored, 1 running, 1 damaged" in answer.err  # five runs and the leaderboard


def test_run_tells_what_is_mirrored(cli: Cli, tmp_path: Path) -> None:
    root = tmp_path / "store"
    try:
        answer = cli("run", *TINY, "-o", "sgd", "--device", "cpu", "--store", root, "--wandb", "offline")
        assert answer.code == 0
        (line,) = [line for line in answer.err.splitlines() if line.startswith("W&B")]
        assert "W&B: offline files of 1 run" in line
        assert line.endswith(f"steppe wandb sync --store {root} --plugin {PLUGIN}` uploads them")
        again = cli("run", *TINY, "-o", "sgd", "--device", "cpu", "--store", root, "--wandb", "offline")
        assert "W&B" not in again.err  # nothing ran
    finally:
        end_sidecars(root)


def test_a_run_that_is_mirrored_nowhere_leaves_nothing(cli: Cli, store: Store) -> None:
    answer = cli(
        "run", *TINY, "-o", "sgd", "-s", "0-2", "--device", "cpu", "--store", store.root, "--wandb", "off"
    )
    assert (answer.code, "W&B" in answer.err) == (0, False)
    assert not (store.root / "wandb").exists()


def end_sidecars(root: Path) -> None:
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if str(root).encode() in (entry / "cmdline").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)


def test_doctor_says_where_runs_are_mirrored(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    def finding() -> dict[str, object]:
        (found,) = (row for row in cli("doctor", "--quick", "--json").json if row["what"] == "wandb")
        return found  # type: ignore[no-any-return]

    assert finding()["hint"] == "wandb login"
    monkeypatch.setenv("WANDB_BASE_URL", "https://wandb.example.org")
    assert finding()["hint"] == "wandb login --host https://wandb.example.org"
    monkeypatch.setenv("WANDB_API_KEY", "k")
    assert finding()["ok"]
    monkeypatch.setenv("WANDB_MODE", "disabled")
    assert "switched off" in str(finding()["found"])
    monkeypatch.setenv("WANDB_MODE", "garbage")
    assert finding()["ok"] is False
    monkeypatch.setattr("suite.cli.doctor.find_spec", lambda _: None)  # its metadata were left behind
    assert str(finding()["found"]).startswith("not installed")
