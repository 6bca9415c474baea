"""What optimizers declare is known without loading them, and never out of date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from suite import declared
from suite.declared import Declared
from suite.registry import Registry
from suite.spec import OptimizerSpec
from tests.suite.runner import PLUGIN


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache" / "declared.json"
    monkeypatch.setattr(declared, "CACHE", path)
    return path


def loads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Note every loading of the optimizers."""
    noted: list[str] = []
    monkeypatch.setattr(
        Registry, "_find", lambda self, package, *rest, old=Registry._find: (
            noted.append(package) or old(self, package, *rest)
        )
    )  # fmt: skip
    return noted


def test_entries_are_the_same_with_and_without_loading(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Registry().optimizers
    noted = loads(monkeypatch)
    assert Declared().optimizers == real
    assert noted == ["baselines"]
    known = Declared().optimizers
    assert noted == ["baselines"]
    assert list(known) == list(real)
    for name, found in known.items():
        entry, other = found.entry, real[name].entry
        assert isinstance(entry, OptimizerSpec)
        assert isinstance(other, OptimizerSpec)
        assert (found.path, found.plugin, found.source_hash) == (
            real[name].path,
            False,
            real[name].source_hash,
        )
        for part in ("name", "version", "summary", "source", "params", "zero", "perturbs"):
            assert getattr(entry, part) == getattr(other, part)
        assert list(entry.params) == list(other.params)
        hyper = {name: param.default for name, param in entry.params.items()}
        assert entry.cost(hyper) == other.cost(hyper)  # loads the entry


def test_a_changed_source_loads_them_again(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Declared().optimizers
    noted = loads(monkeypatch)
    monkeypatch.setattr(declared, "_sources", lambda: "other")
    assert Declared().optimizers
    assert noted == ["baselines"]
    assert json.loads(kept.read_text())["sources"] == "other"


def test_every_source_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "ROOT", tmp_path)
    for package in declared.SOURCES:
        (tmp_path / package / "deep").mkdir(parents=True)
        (tmp_path / package / "deep" / "a.py").write_text("a = 1")
    seen = {declared._sources()}
    for change in (
        lambda: (tmp_path / "baselines" / "deep" / "a.py").write_text("a = 2"),
        lambda: (tmp_path / "suite" / "b.py").write_text(""),
        lambda: (tmp_path / "suite" / "b.py").rename(tmp_path / "suite" / "c.py"),
    ):
        change()
        assert declared._sources() not in seen
        seen.add(declared._sources())


@pytest.mark.parametrize(
    "content", [b"", b"{}", b"[]", b'{"sources": "SAME", "optimizers": [{"name": "x"}]}']
)
def test_a_damaged_file_is_made_anew(kept: Path, content: bytes) -> None:
    kept.parent.mkdir()
    kept.write_bytes(content.replace(b"SAME", declared._sources().encode()))
    assert "sam" in Declared().optimizers
    assert "sam" in kept.read_text()


def test_where_nothing_can_be_kept_they_are_loaded(kept: Path) -> None:
    kept.parent.write_text("a file in the way")
    assert "sam" in Declared().optimizers


def test_plugins_are_loaded(kept: Path) -> None:
    assert Declared([PLUGIN]).optimizers == Registry([PLUGIN]).optimizers
    assert not kept.exists()


def test_what_cannot_be_read_or_kept_only_costs_the_loading(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = Registry().optimizers

    def gone() -> str:
        raise FileNotFoundError

    with monkeypatch.context() as patch:
        patch.setattr(declared, "_sources", gone)
        assert Declared().optimizers == real
    monkeypatch.setattr(declared, "ROOT", declared.ROOT / "suite")  # entries from elsewhere
    assert Declared().optimizers == real
    assert not kept.exists()
