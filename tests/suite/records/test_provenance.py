"""Provenance names what numbers depend on, and nothing of where they were made."""

from __future__ import annotations

import getpass
import json
import os
import platform
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from msgspec.structs import replace

from suite.records import cpu, provenance
from suite.records.cpu import Cpu
from suite.records.provenance import (
    attempt_provenance,
    driver_version,
    fingerprint,
    hardware,
    record_provenance,
    source_tree,
)
from tests.suite.fake_records import TASK, make_spec


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A git clone with one file in each package, as the place of the code."""
    root = tmp_path.resolve() / "clone"
    for package in provenance.SOURCE:
        (root / package).mkdir(parents=True)
        (root / package / "code.py").write_text("x = 1\n")
    monkeypatch.setattr(provenance, "ROOT", root)
    caches = (provenance.source_tree, provenance.git_commit)
    for function in caches:
        function.cache_clear()
    yield root
    for function in caches:
        function.cache_clear()


def git(root: Path, *arguments: str) -> None:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    subprocess.run(["git", "-C", str(root), *who, *arguments], check=True, capture_output=True)


def test_a_record_names_versions_and_hardware_but_no_place() -> None:
    content = record_provenance(make_spec(), attempts=2, fingerprints=["one"])
    assert content.attempts == 2
    assert content.versions["python"] == platform.python_version()
    assert content.versions["torch"].split("+")[0] == torch.__version__.split("+")[0]
    cores = content.hardware["cores"]
    assert isinstance(cores, int)
    assert cores >= 1
    assert len(content.origin.source_tree) == 64
    assert content.fingerprints == ()  # all of one machine: that of the origin
    text = msgspec.json.encode(content).decode()
    for private in (socket.gethostname(), os.getcwd(), str(provenance.ROOT), str(Path.home())):
        assert len(private) < 3 or private not in text
    assert "/" not in text.replace(str(content.hardware["cpu"]), "")
    assert getpass.getuser() not in content.origin.fingerprint or len(getpass.getuser()) < 5
    assert len(text) < 2000  # of the 10 kB that a record may take


def test_the_fingerprint_tells_threads_and_torch_apart() -> None:
    spec = make_spec()
    assert fingerprint(spec) != fingerprint(replace(spec, threads=2))
    assert fingerprint(spec) == fingerprint(replace(spec, seed=9))
    assert torch.__version__ in fingerprint(spec)
    assert "\n" not in fingerprint(spec)


def test_the_fingerprint_tells_processors_instruction_sets_and_settings_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in cpu.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    spec = make_spec()
    mkldnn = torch.backends.mkldnn
    found = {"as it is": fingerprint(spec)}
    assert fingerprint(spec) == found["as it is"]
    for name in cpu.VARIABLES:
        value = "glibc.cpu.hwcaps=-FMA" if name == "GLIBC_TUNABLES" else "AVX2"
        monkeypatch.setenv(name, value)
        found[name] = fingerprint(spec)
        assert f", {name}={value}, " in found[name]
        monkeypatch.delenv(name)
    with mkldnn.flags(enabled=False, deterministic=False, allow_tf32=None):
        found["mkldnn"] = fingerprint(spec)
        assert ", mkldnn.enabled=False, " in found["mkldnn"]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "DEFAULT")
    found["ATen"] = fingerprint(spec)
    for processor in (Cpu("AMD EPYC (family 25)", "avx2"), Cpu("AMD EPYC (family 26)", "avx2")):
        monkeypatch.setattr(cpu, "this_cpu", lambda processor=processor: processor)
        found[processor.model] = fingerprint(spec)
        assert found[processor.model].startswith(f"cpu: {processor.model}, ATen DEFAULT, oneDNN avx2, ")
    assert len(set(found.values())) == len(found)
    assert not any("\n" in line for line in found.values())


def test_a_limit_on_onednn_is_another_fingerprint_in_a_process_of_its_own() -> None:
    imports = (
        "from suite.records.provenance import fingerprint; from tests.suite.fake_records import make_spec"
    )
    code = f"{imports}; print(fingerprint(make_spec()))"
    bare = {key: value for key, value in os.environ.items() if key not in cpu.VARIABLES}
    lines = [
        subprocess.run(
            [sys.executable, "-c", code],
            env={**bare, **limit},
            capture_output=True,
            text=True,
            check=True,
            cwd=provenance.ROOT,
        ).stdout.splitlines()
        for limit in ({}, {"ONEDNN_MAX_CPU_ISA": "AVX2"}, {"ATEN_CPU_CAPABILITY": "default"})
    ]
    assert all(len(some) == 1 for some in lines)
    (free,), (limited,), (plain,) = lines
    level = f"oneDNN {hardware('cpu')['onednn']}, "
    assert limited == free.replace(level, f"{level}ONEDNN_MAX_CPU_ISA=AVX2, ") != free
    assert "ATen DEFAULT" in plain
    assert plain != free


def test_the_version_of_a_gpus_driver() -> None:
    new = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (root@host)\n"
    old = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  470.82  Wed Oct 27 2021\nGCC version: 9.3.0\n"
    assert [driver_version(text) for text in (new, old, "")] == ["580.65.06", "470.82", "unknown"]


def test_the_fingerprint_names_the_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "NVIDIA H100 80GB HBM3")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(torch.backends.cudnn, "version", lambda: 92600)
    monkeypatch.setattr(provenance, "_driver", lambda: "580.65.06")
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    provenance._gpu.cache_clear()
    try:
        line = fingerprint(replace(make_spec(), device="cuda"))
    finally:
        provenance._gpu.cache_clear()
    assert line.startswith("cuda: NVIDIA H100 80GB HBM3 (sm_90 driver 580.65.06 CUDA ")
    assert " with " in line
    assert ", NVIDIA_TF32_OVERRIDE=0, " in line


def test_bit_exact_is_promised_for_deterministic_uncompiled_runs_only() -> None:
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for deterministic in (True, False):
            torch.use_deterministic_algorithms(deterministic)
            assert record_provenance(make_spec(), 1, ["one"]).bit_exact is deterministic
            assert record_provenance(make_spec(), 2, ["one", "other"]).bit_exact is False
            assert record_provenance(replace(make_spec(), compile=True), 1, ["one"]).bit_exact is False
    finally:
        torch.use_deterministic_algorithms(before)


def test_the_source_tree_hash_sees_code_names_and_nothing_else(clone: Path) -> None:
    def tree() -> str:
        source_tree.cache_clear()
        return source_tree()

    first = tree()
    (clone / "suite" / "notes.txt").write_text("not code")
    (clone / "suite" / "code.py").write_bytes(b"x = 1\r\n")
    assert tree() == first
    (clone / "suite" / "code.py").write_text("x = 2\n")
    assert tree() != first
    (clone / "suite" / "code.py").write_text("x = 1\n")
    assert tree() == first
    (clone / "suite" / "code.py").rename(clone / "suite" / "core.py")
    assert tree() != first


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_commit_and_diff(clone: Path) -> None:
    def commit() -> dict[str, str] | None:
        provenance.git_commit.cache_clear()
        return provenance.git_commit()

    assert commit() is None
    git(clone, "init", "-q")
    assert commit() is None  # no commit yet
    git(clone, "add", ".")
    git(clone, "commit", "-q", "-m", "first")
    clean = commit()
    assert clean is not None
    assert (len(clean["commit"]), clean["diff"]) == (40, "")
    assert record_provenance(make_spec(), 1, []).origin.git_commit == clean["commit"]
    (clone / "README").write_text("not code")
    assert commit() == clean
    (clone / "tasks" / "code.py").write_text("x = 2\n")
    (clone / "tasks" / "mine.py").write_text("")
    changed = commit()
    assert changed is not None
    assert "-x = 1\n+x = 2\n" in changed["diff"]
    assert "new file, not in git: tasks/mine.py" in changed["diff"]
    record = record_provenance(make_spec(), 1, [])
    assert record.origin.git_commit == clean["commit"] + "-dirty"
    assert b"x = 2" not in msgspec.json.encode(record)
    assert attempt_provenance(make_spec(), TASK)["git"] == changed


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_clone_of_somebody_else_around_an_installation_is_not_ours(
    clone: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "theirs")
    assert provenance.git_commit() is None
    monkeypatch.setenv("GIT_DIR", str(tmp_path / ".git"))  # as inside a git hook
    provenance.git_commit.cache_clear()
    assert provenance.git_commit() is None


def test_the_attempt_names_protocol_data_and_flags() -> None:
    content = attempt_provenance(make_spec(), TASK)
    assert content["task"] == msgspec.to_builtins(TASK)
    assert content["data"] == {"name": "digits", "checksum": "c" * 64}
    assert content["torch"]["threads"] == torch.get_num_threads()
    json.dumps(content, allow_nan=False)
