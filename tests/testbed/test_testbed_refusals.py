"""What the testbed refuses, each in one line, and what it leaves alone: no SLURM is needed for these."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from suite.errors import SteppeError
from tests.testbed import configuration, packages, processes
from tests.testbed.__main__ import main
from tests.testbed.settings import MAX_FOLDER, Settings, checked_folder, save, settle


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder whose name is not too long for a testbed, as that of several test processes' may be."""
    with tempfile.TemporaryDirectory(prefix="r") as folder:
        yield Path(folder)


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert main(list(arguments)) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    return error


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with none of the packages, as root."""
    monkeypatch.setattr(packages, "PATH", "/nonexistent")
    monkeypatch.setattr(os, "geteuid", lambda: 0)


@pytest.mark.usefixtures("bare")
def test_missing_packages_are_named_with_the_command_and_nothing_is_written(tmp_path, capsys) -> None:
    error = error_of(capsys, "up", f"--folder={tmp_path}/bed", "--accounting")
    for name in ("munge", "slurmctld", "slurmd", "slurm-client", "slurmdbd", "mariadb-server-core"):
        assert name in error
    assert "apt-get install -y --no-install-recommends munge slurmctld" in error
    assert not (tmp_path / "bed").exists()


APT = """#!/bin/sh
echo "$@ $(test -x {policy} && echo quiet)" >> {folder}/asked
case "$1" in install) for name in {programs}; do cp "$0" {folder}/bin/$name; done;; esac
exit {code}
"""


@pytest.fixture
def apt(tmp_path, monkeypatch):
    """A function that puts another apt-get in the machine's place; it installs the given programs."""

    def place(programs: str, code: int = 0) -> Path:
        monkeypatch.setattr(packages, "PATH", f"{tmp_path}/bin")
        monkeypatch.setattr(packages, "POLICY", tmp_path / "policy-rc.d")
        monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
        (tmp_path / "bin").mkdir()
        text = APT.format(policy=packages.POLICY, folder=tmp_path, programs=programs, code=code)
        (tmp_path / "bin" / "apt-get").write_text(text)
        (tmp_path / "bin" / "apt-get").chmod(0o755)
        return tmp_path / "asked"

    return place


def test_install_asks_apt_for_what_is_missing_and_lets_no_service_start(apt) -> None:
    asked = apt("munged slurmctld slurmd sinfo")
    packages.require(accounting=False, install=True)
    update, install = asked.read_text().splitlines()
    assert update == "update -qq quiet"
    assert install == "install -y -qq --no-install-recommends munge slurmctld slurmd slurm-client quiet"
    assert not packages.POLICY.exists()
    packages.require(accounting=False, install=True)
    assert len(asked.read_text().splitlines()) == 2  # nothing to do any more


def test_install_leaves_the_machine_s_own_policy_alone(apt) -> None:
    apt("munged slurmctld slurmd sinfo")
    packages.POLICY.write_text("#!/bin/sh\nexit 0\n")
    packages.require(accounting=False, install=True)
    assert packages.POLICY.read_text() == "#!/bin/sh\nexit 0\n"


def test_an_apt_that_fails_is_quoted(apt) -> None:
    apt("munged", code=100)
    with pytest.raises(SteppeError, match="`apt-get update -qq` ended with 100"):
        packages.require(accounting=False, install=True)
    assert not packages.POLICY.exists()


def test_programs_that_are_still_missing_after_the_installation_are_named(apt) -> None:
    apt("munged slurmctld slurmd")
    with pytest.raises(SteppeError, match="lack a program: slurm-client"):
        packages.require(accounting=False, install=True)


def test_an_ordinary_user_is_told_to_be_root(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert "root" in error_of(capsys, "up", f"--folder={tmp_path}/bed")


@pytest.mark.parametrize("folder", ["with space", "per%cent", "a,b", "q'uote", "x" * 90])
def test_folders_that_slurm_cannot_use_are_refused(folder: str, tmp_path, capsys) -> None:
    assert "--folder" in error_of(capsys, "up", f"--folder={tmp_path}/{folder}")


def test_the_longest_path_that_is_allowed_holds_a_step_s_socket() -> None:
    folder = checked_folder(Path("/" + "x" * (MAX_FOLDER - 1)))
    with socket.socket(socket.AF_UNIX) as server, pytest.raises(FileNotFoundError):
        server.bind(f"{folder}/spool/n64/n64_67108863.4294967291")  # too long would be another OSError


@pytest.mark.parametrize(
    "option", ["--nodes=0", "--memory=0", "--base-port=80", "--gpus=-1", "--min-job-age=1"]
)
def test_sizes_out_of_range_are_refused(option: str, tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(packages, "missing", lambda accounting: [])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    error = error_of(capsys, "up", f"--folder={tmp_path}/bed", option)
    assert option.partition("=")[0] in error


def test_a_folder_that_is_no_testbed_is_neither_used_nor_removed(tmp_path, capsys, monkeypatch) -> None:
    monkeypatch.setattr(packages, "missing", lambda accounting: [])
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    (tmp_path / "thesis.tex").touch()
    assert "not empty" in error_of(capsys, "up", f"--folder={tmp_path}")
    assert "not removed" in error_of(capsys, "down", "--purge", f"--folder={tmp_path}")
    assert main(["down", f"--folder={tmp_path}"]) == 0
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_a_torn_marker_gives_one_line(tmp_path, capsys) -> None:
    (tmp_path / "testbed.json").write_text('{"base_port": 2')
    assert "half-written" in error_of(capsys, "status", f"--folder={tmp_path}")


def test_down_and_status_where_nothing_is(tmp_path, capsys) -> None:
    assert main(["down", f"--folder={tmp_path}/none"]) == 0
    assert main(["status", f"--folder={tmp_path}/none"]) == 1
    assert "no testbed" in capsys.readouterr().out
    assert not (tmp_path / "none").exists()


def test_settings_are_kept_and_those_chosen_now_replace_them(tmp_path) -> None:
    first = settle(tmp_path, {"nodes": 2, "gpus": 1}, set())
    save(tmp_path, first)
    second = settle(tmp_path, {"nodes": 3}, set())
    assert (second.nodes, second.gpus) == (3, 1)
    assert (second.base_port, second.first_job_id) == (first.base_port, first.first_job_id)


def test_a_new_testbed_keeps_away_from_ports_in_use(tmp_path) -> None:
    first = settle(tmp_path, {}, set())
    second = settle(tmp_path, {}, set(first.ports.values()))
    assert not set(first.ports.values()) & set(second.ports.values())


def test_the_ports_that_are_listened_on_are_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert port in processes.listening()
    assert port not in processes.listening()


def test_no_password_nor_other_machine_is_in_the_configuration(tmp_path) -> None:
    texts = configuration.texts(tmp_path, Settings(base_port=20_000, first_job_id=1, accounting=True))
    assert "NoInAddrAny" in texts["slurm.conf"]
    assert "skip-networking" in texts["mariadb/my.cnf"]
    assert not [
        text for text in texts.values() if "StoragePass=" in text.replace("AccountingStoragePass=", "")
    ]
