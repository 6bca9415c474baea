"""Whatever becomes of W&B, runs give the same bytes and end when they would have ended."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch

from suite.errors import SteppeError
from suite.store.folders import Store
from suite.track.content import Labels
from suite.track.launch import Mirror
from suite.track.mode import Target, choose
from suite.track.wandb_process import Child, Command, encode
from suite.workers.pool import run_pool
from tests.suite.fake_records import make_run, make_spec
from tests.suite.runner import PLUGIN, tiny_specs
from tests.suite.runner import make_run as make_tiny_run
from tests.suite.track.conftest import (
    OFFLINE,
    end,
    offline_run,
    online,
    supervised,
    turn_until,
    wait_for,
    wandb_cores,
)
from tests.suite.track.fake_run import done
from tests.suite.track.stub import MODES, Stub
from tests.suite.workers.test_sweep import deterministic

LONGEST = Labels(*["🌲" * 30_000] * 3)

FAKE = "tests.suite.track.fake_run:run_one"

BROKEN_WANDB = {
    "missing": "raise ImportError('no wandb here')",
    "crashes": "def __getattr__(name):\n    import os\n    os.abort()",
}
"""What stands in place of the package."""

WEATHERS = ("off", "offline", *MODES, *BROKEN_WANDB, "not writable")


@contextmanager
def weather(name: str, root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Target | None]:
    """W&B in that state, and where to mirror."""
    root.mkdir()
    with monkeypatch.context() as patch, Stub(name if name in MODES else "fine") as stub:
        for variable, value in stub.environment.items():
            patch.setenv(variable, value)
        if name in BROKEN_WANDB:
            package = root.parent / f"broken-{name}"
            (package / "wandb").mkdir(parents=True)
            (package / "wandb" / "__init__.py").write_text(BROKEN_WANDB[name])
            patch.setenv("PYTHONPATH", os.pathsep.join([str(package), os.environ.get("PYTHONPATH", "")]))
        if name == "not writable":  # of a folder root could write what it likes
            (root / "wandb").write_text("")
        yield {"off": None, "offline": OFFLINE}.get(name, online(stub))


@dataclass(frozen=True)
class Sweep:
    said: str
    is_frozen: bool
    """Whether the sidecar was stopped when the last run had ended."""


def sweep(
    root: Path, run_ids: list[str], target: Target | None, *, freeze: bool = False, **options: object
) -> Sweep:
    """What `steppe run` does: a pool, its mirror, and what the mirror says at the end."""
    mirror = Mirror(root, target, {}) if target else None
    sidecar = mirror._process if mirror else None

    ended: list[str] = []

    def on_event(event: dict[str, Any]) -> None:
        if mirror:
            mirror(event)
        if event["event"] == "ended":
            ended.append(event["run_id"])
        if freeze and sidecar and len(ended) >= len(run_ids) / 2:
            stop(sidecar)

    try:
        result = run_pool(root, run_ids, workers=2, on_event=on_event, **options)  # type: ignore[arg-type]
        is_frozen = sidecar is None or _state_of(sidecar.pid) in ("T", "")
        if freeze and sidecar:
            sidecar.send_signal(signal.SIGCONT)
        said = mirror.close() if mirror else ""
    finally:
        if mirror:
            end(mirror)
    assert (sorted(result.done), result.errors) == (sorted(run_ids), {})
    return Sweep(said, is_frozen)


def stop(sidecar: Child) -> None:
    """Have the kernel run nothing of it, until it may go on."""
    sidecar.send_signal(signal.SIGSTOP)
    wait_for(lambda: _state_of(sidecar.pid) in ("T", ""), "the sidecar stops")


def _state_of(pid: int) -> str:
    """The state of a process as the kernel writes it; empty where there is none, or only its remains."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""
    return "" if state == "Z" else state


def test_training_gives_the_same_bytes_whatever_wandb_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = tiny_specs(["sam"], [0])[0]
    found: dict[str, tuple[bytes, bytes]] = {}
    weights = {}
    for name in ("off", "offline", *MODES):
        root = tmp_path / name
        with weather(name, root, monkeypatch) as target:
            make_tiny_run(root, spec)
            sweep(root, [spec.run_id], target, plugins=[PLUGIN])
        folder = Store(root).run(spec.run_id)
        found[name] = deterministic(folder)
        state = folder.last_state()
        assert state is not None
        weights[name] = state["model"]
    assert len(set(found.values())) == 1
    for name, model in weights.items():
        assert all(torch.equal(tensor, weights["off"][key]) for key, tensor in model.items()), name


@pytest.mark.parametrize("name", WEATHERS[1:])
def test_no_sweep_waits_for_its_sidecar(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """Halfway the sidecar is stopped, so that a sweep that waited for it would never end."""
    root = tmp_path / name.replace(" ", "-")
    with weather(name, root, monkeypatch) as target:
        specs = [make_spec(seed) for seed in range(6)]
        for spec in specs:
            make_run(Store(root), spec)
        swept = sweep(root, [spec.run_id for spec in specs], target, freeze=True, entry=FAKE)
    assert swept.is_frozen
    assert swept.said.startswith("W&B: ")
    assert "\n" not in swept.said
    wait_for(lambda: not wandb_cores(root), "nothing is left of wandb")


@pytest.mark.parametrize("wait_s", [0.0, 0.2])
def test_the_end_waits_for_a_stopped_sidecar_no_longer_than_it_may(tmp_path: Path, wait_s: float) -> None:
    mirror = Mirror(tmp_path, OFFLINE, {})
    assert mirror._process is not None
    try:
        stop(mirror._process)
        mirror.send("0" * 16, ended=True)
        said = mirror.close(wait_s)
        assert _state_of(mirror._process.pid) == "T"  # the end came without it
    finally:
        end(mirror)
    assert said.startswith("W&B: offline files of 1 run go to ")


def settled(root: Path, target: Target, wait_s: float) -> str:
    """What a mirror says of one run when it may take its time."""
    spec = make_spec()
    make_run(Store(root), spec)
    mirror = Mirror(root, target, {}, "steppe wandb sync --store S")
    try:
        run_pool(root, [spec.run_id], workers=1, on_event=mirror, entry=FAKE)
        return mirror.close(wait_s)
    finally:
        end(mirror)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("offline", "W&B: offline files of 1 run in {wandb}; `steppe wandb"),
        ("fine", "W&B: 1 run mirrored to {url}, project steppe"),
        ("refuses", "W&B: key refused by {url}: 1 of 1 run not mirrored; see "
                    "{wandb}/sidecar.log, then `steppe wandb sync --store S`"),
        ("missing", "W&B: wandb cannot be imported (ImportError: no wandb here): 1 of 1 run not mirrored"),
        ("not writable", "W&B: cannot write {wandb}"),
    ],
)  # fmt: skip
def test_the_end_says_what_is_mirrored_or_why_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, says: str
) -> None:
    root = tmp_path / "store"
    with weather(name, root, monkeypatch) as target:
        assert target is not None
        said = settled(root, target, 60.0)
        url = os.environ["WANDB_BASE_URL"]
    assert said.startswith(says.format(wandb=root / "wandb", url=url))


def test_a_sidecar_that_does_not_listen_holds_nobody_up(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, OFFLINE, {})
    assert mirror._process is not None
    try:
        mirror._process.send_signal(signal.SIGSTOP)
        for seed in range(3000):  # far more than a pipe takes
            mirror.send(f"{seed:016}", ended=True)
        assert "does not listen" in mirror.close()
        mirror.send("0" * 16, ended=True)  # too late, and harmless
    finally:
        end(mirror)


def test_a_sidecar_that_ended_leaves_no_zombie(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, OFFLINE, {})
    assert mirror._process is not None
    try:
        mirror.close(60.0)
        assert mirror._process.returncode == 0
    finally:
        end(mirror)


def test_a_mirror_process_that_does_not_read_holds_nobody_up(tmp_path: Path) -> None:
    with supervised(Store(tmp_path), Target("online", "http://127.0.0.1:9")) as supervisor:
        supervisor.take(Command("f" * 16, LONGEST, ended=False))
        supervisor.turn(0.0)
        mirror = supervisor._mirror
        assert mirror is not None
        mirror.send_signal(signal.SIGSTOP)
        rescue = threading.Timer(20.0, mirror.kill)
        rescue.start()
        for seed in range(1000):  # far more than a pipe takes
            supervisor.take(Command(f"{seed:016}", LONGEST, ended=False))
            supervisor.turn(0.0)
        rescue.cancel()
        assert mirror.poll() is None, "a turn waited for the pipe"
        assert supervisor.left == 1001


def test_the_longest_labels_fit_a_pipe_and_arrive(tmp_path: Path) -> None:
    assert len(encode(Command("0" * 16, LONGEST))) < select.PIPE_BUF
    store = Store(tmp_path)
    run_ids = {done(store, make_spec(seed)).run_id for seed in range(3)}
    with supervised(store, OFFLINE) as supervisor:
        for run_id in run_ids:
            supervisor.take(Command(run_id, LONGEST))
        supervisor.close()
        turn_until(supervisor, lambda: not supervisor.left)
        assert (supervisor.done, supervisor.problem) == (run_ids, "")
    for run_id in run_ids:
        assert offline_run(store, run_id).run["group"] == LONGEST.task


def test_a_sidecar_that_was_killed_is_said(tmp_path: Path) -> None:
    mirror = Mirror(tmp_path, OFFLINE, {})
    assert mirror._process is not None
    mirror._process.kill()
    mirror._process.wait()
    mirror.send("0" * 16, ended=True)
    assert "does not listen" in mirror.close()
    end(mirror)


MAIN = """
import sys
from pathlib import Path
from suite.workers.pool import run_pool
from suite.track.launch import Mirror
from suite.track.mode import choose
root, entry, run_id = Path(sys.argv[1]), *sys.argv[2:]
mirror = Mirror(root, choose("offline"), {})
def on_event(event):
    mirror(event)
    print(event["event"], mirror._process.pid, flush=True)
run_pool(root, [run_id], workers=1, on_event=on_event, entry=entry)
"""


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_the_sidecar_survives_what_ends_the_sweep(tmp_path: Path, stop: signal.Signals) -> None:
    store, spec = Store(tmp_path), make_spec(0, "waits")
    make_run(store, spec)
    command = [sys.executable, "-c", MAIN, str(tmp_path), FAKE, spec.run_id]
    pool = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    assert pool.stdout is not None
    sidecar = int(next(line.split()[1] for line in pool.stdout if line.startswith("progress")))
    if stop == signal.SIGINT:
        os.killpg(pool.pid, stop)  # as a terminal does
    else:
        pool.kill()
    pool.communicate()
    wait_for(lambda: not _state_of(sidecar), "the sidecar ends by itself")
    assert store.run(spec.run_id).status() == "interrupted"
    assert [row["step"] for row in offline_run(store, spec.run_id).rows] == [10, 20, 30]


@pytest.mark.parametrize(
    "modules",
    [
        "suite.workers.serve, suite.engine.train, suite.engine.record",
        "suite.workers.pool",
        "suite.track.launch",
    ],
)
def test_neither_worker_nor_pool_loads_wandb(modules: str) -> None:
    code = f"import sys, json\nimport {modules}\nprint(json.dumps(sorted(sys.modules)))"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = json.loads(answer.stdout)
    assert "wandb" not in loaded
    if "launch" not in modules:
        assert not [name for name in loaded if name.startswith("suite.track")]


@pytest.mark.parametrize(
    ("requested", "environment", "mode"),
    [
        (None, {}, "offline"),
        (None, {"WANDB_API_KEY": "k"}, "online"),
        (None, {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "offline"),
        (None, {"WANDB_MODE": "online"}, "offline"),  # without a key
        (None, {"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, None),
        *(
            (None, {"WANDB_API_KEY": "k", "WANDB_MODE": x}, None)
            for x in ("off", "None", "disable", "False ")
        ),
        *((None, {"WANDB_API_KEY": "k", "WANDB_DISABLED": x}, None) for x in ("true", "on", "Y", "t", "1")),
        *((None, {"WANDB_API_KEY": "k", "WANDB_DISABLED": x}, "online") for x in ("", "0", "false", "no")),
        ("off", {"WANDB_MODE": "garbage"}, None),
        ("offline", {"WANDB_API_KEY": "k", "WANDB_MODE": "disabled"}, "offline"),
        ("online", {"WANDB_API_KEY": "k", "WANDB_MODE": "offline"}, "online"),
        (None, {"WANDB_BASE_URL": "http://[no address"}, "offline"),
        ("off", {"WANDB_API_KEY": "k", "WANDB_MODE": "online"}, None),
    ],
)
def test_who_decides_where(
    monkeypatch: pytest.MonkeyPatch, requested: str | None, environment: dict[str, str], mode: str | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    Path(os.environ["NETRC"]).write_text("machine example.org login user password k\n")
    chosen = choose(requested)
    assert (chosen.mode if chosen else None) == mode


@pytest.mark.parametrize("said", ["shared", "onlin", "garbage"])
def test_an_unknown_mode_is_a_mistake(monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    monkeypatch.setenv("WANDB_API_KEY", "k")
    monkeypatch.setenv("WANDB_MODE", said)
    with pytest.raises(SteppeError, match=f"WANDB_MODE='{said}' .*online, offline or disabled"):
        choose(None)


def test_nobody_needs_a_home_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_user(_: int) -> None:
        raise KeyError("uid not found")

    for name in ("HOME", "NETRC", "WANDB_CONFIG_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("pwd.getpwuid", no_such_user)
    with pytest.raises(RuntimeError):
        Path.home()
    assert choose("off") is None
    assert choose(None) == Target("offline", "https://api.wandb.ai")


def test_a_key_is_found_in_the_netrc_file_of_its_host(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def mode() -> str:
        chosen = choose(None)
        assert chosen is not None
        return f"{chosen.mode} {chosen.server}"

    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password k\n")
    assert mode() == "online https://api.wandb.ai"
    (tmp_path / "wandb-config").mkdir()
    (tmp_path / "wandb-config" / "settings").write_text("[default]\nbase_url = https://wandb.example.org/\n")
    assert mode() == "offline https://wandb.example.org"
    monkeypatch.setenv("WANDB_BASE_URL", "https://api.wandb.ai")
    assert mode() == "online https://api.wandb.ai"


def test_what_wandb_is_told_of_other_runs_is_kept_from_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_MODE", "WANDB_API_KEY", "WANDB_ENTITY"):
        monkeypatch.setenv(name, "x")
    kept = OFFLINE.environment()
    assert not {"WANDB_RUN_ID", "WANDB_SWEEP_ID", "WANDB_MODE"} & kept.keys()
    assert {"WANDB_API_KEY", "WANDB_ENTITY"} <= kept.keys()
