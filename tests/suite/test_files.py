"""Tests that files are written completely, and that a storage error is one line."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from suite.errors import SteppeError
from suite.files import read_json, storage_error, write_whole
from suite.store.lines import LineWriter, finite, read_lines


def test_write_whole_replaces_and_leaves_nothing_beside(tmp_path: Path) -> None:
    path = tmp_path / "x"
    write_whole(path, b"old")
    write_whole(path, b"new", flush=False)
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("failing", ["write", "fsync", "replace"])
def test_a_refused_write_keeps_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    path = tmp_path / "x"
    write_whole(path, b"old")

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, failing, refuse)
    with pytest.raises(SteppeError, match=r"no space left to write .*x: free some") as caught:
        write_whole(path, b"new")
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize(
    ("number", "says"),
    [
        (errno.ENOSPC, "no space left"),
        (errno.EDQUOT, "no space left"),
        (errno.EROFS, "read-only"),
        (errno.EACCES, "read-only"),
        (errno.EIO, os.strerror(errno.EIO)),
    ],
)
def test_every_refusal_is_one_line_that_names_the_file(number: int, says: str) -> None:
    text = str(storage_error(Path("store/file"), OSError(number, os.strerror(number))))
    assert says in text
    assert "store/file" in text
    assert "\n" not in text


def test_a_line_that_does_not_fit_leaves_no_part_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = LineWriter(tmp_path / "m.jsonl")
    writer.append({"step": 1})
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: write(fd, data[:4]))  # the disk has 4 bytes left
    with pytest.raises(SteppeError, match="no space left"):
        writer.append({"step": 2})
    monkeypatch.undo()
    writer.append({"step": 3})
    writer.close()
    assert [row["step"] for row in read_lines(tmp_path / "m.jsonl")] == [1, 3]


def test_the_mark_is_size_and_digest_of_the_file(tmp_path: Path) -> None:
    import hashlib

    writer = LineWriter(tmp_path / "m.jsonl", b'{"step":1}\n')
    writer.append({"step": 2})
    raw = (tmp_path / "m.jsonl").read_bytes()
    assert writer.mark() == (len(raw), hashlib.sha256(raw).hexdigest())
    assert raw == b'{"step":1}\n{"step":2}\n'
    writer.close()
    writer.close()


@pytest.mark.parametrize("cut", range(1, 12))
def test_readers_pass_over_a_torn_last_line(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'{"step":1}\n{"step":2}\n'[:-cut])
    steps = [row["step"] for row in read_lines(path)]
    assert steps == ([1, 2] if cut == 1 else [1])  # a line without its newline is complete


def test_readers_pass_over_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / "m.jsonl"
    path.write_bytes(b'\xff\xfe\n{"step":1}\n[1]\n')
    assert list(read_lines(path)) == [{"step": 1}]
    assert list(read_lines(tmp_path / "missing.jsonl")) == []


@pytest.mark.parametrize("raw", [b"", b'{"a": ', b"\xff\xfe\x00", b"[1]", b"[" * 100_000])
def test_a_damaged_document_names_file_and_hint(tmp_path: Path, raw: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(raw)
    with pytest.raises(SteppeError, match=r"x\.json is .*: do this") as caught:
        read_json(path, "do this")
    assert "\n" not in str(caught.value)


def test_what_is_not_finite_becomes_null() -> None:
    row = {"a": float("nan"), "b": [1.5, float("-inf")], "c": {"d": float("inf"), "e": True, "f": "x"}}
    assert finite(row) == {"a": None, "b": [1.5, None], "c": {"d": None, "e": True, "f": "x"}}
    json.dumps(finite(row), allow_nan=False)
