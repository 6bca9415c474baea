"""Tests of the set-up script, without installing anything."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

SCRIPT = Path(__file__).parents[1] / "bootstrap.py"


@pytest.fixture
def bootstrap() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bootstrap_under_test", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installed(bootstrap: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Replace `install` by a list of the requested installations."""
    calls: list[str] = []
    monkeypatch.setattr(bootstrap, "install", lambda venv, what, options: calls.append(what))
    return calls


def test_environment_is_made_once_and_again_when_the_lock_changes(
    bootstrap: ModuleType, installed: list[str], tmp_path: Path
) -> None:
    venv, lock = tmp_path / "venv", tmp_path / "some.lock"
    lock.write_text("a==1")
    bootstrap.make_ready(venv, lock)
    assert installed == ["packages of some.lock", "steppe itself"]
    bootstrap.make_ready(venv, lock)
    assert len(installed) == 2
    lock.write_text("a==2")
    bootstrap.make_ready(venv, lock)
    assert installed[2:] == ["packages of some.lock", "steppe itself"]


def test_interrupted_install_is_started_over(
    bootstrap: ModuleType, installed: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    venv, lock = tmp_path / "venv", tmp_path / "some.lock"
    lock.write_text("a==1")

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(bootstrap, "install", interrupted)
        with pytest.raises(KeyboardInterrupt):
            bootstrap.make_ready(venv, lock)
    (venv / "lib" / "half-unpacked").write_text("")
    bootstrap.make_ready(venv, lock)
    assert installed == ["packages of some.lock", "steppe itself"]
    assert not (venv / "lib" / "half-unpacked").exists()


def test_broken_interpreter_is_noticed(bootstrap: ModuleType, installed: list[str], tmp_path: Path) -> None:
    venv, lock = tmp_path / "venv", tmp_path / "some.lock"
    lock.write_text("a==1")
    bootstrap.make_ready(venv, lock)
    (venv / "bin" / "python").unlink()
    bootstrap.make_ready(venv, lock)
    assert len(installed) == 4


def test_foreign_environment_is_left_alone(bootstrap: ModuleType, tmp_path: Path) -> None:
    venv, lock = tmp_path / "venv", tmp_path / "some.lock"
    lock.write_text("a==1")
    venv.mkdir()
    with pytest.raises(bootstrap.SetUpError, match="not made by this script"):
        bootstrap.make_ready(venv, lock)
    assert venv.is_dir()


def test_environment_without_the_venv_module_isolates(bootstrap: ModuleType, tmp_path: Path) -> None:
    venv = tmp_path / "venv"
    venv.mkdir()
    bootstrap.bare_environment(venv)
    code = "import sys; print(sys.prefix, sys.base_prefix != sys.prefix)"
    python = str(venv / "bin" / "python")
    out = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == [str(venv), "True"]


def test_without_pip_the_package_to_install_is_named(
    bootstrap: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bootstrap.subprocess, "call", lambda *_, **__: 1)
    with pytest.raises(bootstrap.SetUpError, match="sudo apt install python3-pip"):
        bootstrap.pip(tmp_path)


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        ([], "starting"),
        (["Collecting torch==2.15.0\n", "  Downloading ..."], "fetching torch, package 1"),
        (
            ["Collecting a==1\n", "Collecting b==1\n", "Installing collected packages: a, b\n"],
            "unpacking 2 packages",
        ),
    ],
)
def test_progress_says_what_pip_is_at(bootstrap: ModuleType, lines: list[str], says: str) -> None:
    assert bootstrap.stage(lines) == says


@pytest.mark.parametrize(
    ("arguments", "says"),
    [(["--venvv", "x"], "unknown option --venvv"), (["--lock", "no.lock", "steppe"], "no lock file")],
)
def test_wrong_call_is_one_line_and_code_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    answer = subprocess.run(
        [sys.executable, str(SCRIPT), *arguments], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert answer.returncode == 2
    assert answer.stderr.startswith("bootstrap: error: ")
    assert says in answer.stderr
    assert answer.stderr.count("\n") == 1


def test_nothing_beside_the_standard_library_is_imported() -> None:
    # -S leaves site-packages out, so that an import of anything else fails.
    subprocess.run([sys.executable, "-I", "-S", str(SCRIPT), "--help"], capture_output=True, check=True)
