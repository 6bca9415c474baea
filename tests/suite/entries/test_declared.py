"""What optimizers declare is known without loading them here, and never out of date."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from suite.entries import declared, declaring
from suite.entries.declared import Answer, Declared, Pair
from suite.entries.registry import Registry
from suite.entries.select import select
from suite.entries.selection import declared_cost
from suite.errors import SteppeError
from suite.space import LogUniform
from suite.spec import OptimizerSpec
from tests.suite.runner import PLUGIN

GRID = ("nso[k=1|2|3,two_point=true|false,lambda=0|0.25]", "nso[clean_pass=true,sigma=0.02]",
        "sam[rho=0.1|0.2]", "lpf-sgd,sgd[lr=0.3],adabelief,adam")  # fmt: skip


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "cache" / "declared.json"
    monkeypatch.setattr(declared, "CACHE", path)
    return path


@pytest.fixture
def asked(kept: Path, monkeypatch: pytest.MonkeyPatch) -> list[list[Pair]]:
    """The questions; what is to answer them is called here, and not in a process of its own."""
    questions: list[list[Pair]] = []

    def ask(pairs: Sequence[Pair]) -> Answer:
        questions.append(list(pairs))
        answer: Answer = json.loads(json.dumps(declaring.tell(json.loads(json.dumps(pairs)))))
        return answer

    monkeypatch.setattr(declared, "_ask", ask)
    monkeypatch.setattr(declared, "_loaded", no_loading)
    return questions


def no_loading() -> Registry:
    raise AssertionError("the entries were loaded here")


def entry(registry: Registry, name: str) -> OptimizerSpec:
    found = registry.optimizer(name).entry
    assert isinstance(found, OptimizerSpec)
    return found


def costs(registry: Registry) -> dict[str, float]:
    return {
        f"{one.name} {sorted(one.params.items())}": declared_cost(registry, one)
        for one in select(registry, "optimizer", GRID)
    }


def test_entries_are_those_that_loading_gives(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Registry()
    known = Declared()
    assert list(known.optimizers) == list(real.optimizers)  # told by a process of its own
    monkeypatch.setattr(declared, "_ask", None)
    for registry in (known, Declared()):  # the second reads the file
        for name, found in registry.optimizers.items():
            other = real.optimizers[name]
            assert (found.path, found.plugin, found.source_hash) == (other.path, False, other.source_hash)
            one, two = entry(registry, name), entry(real, name)
            for part in ("name", "version", "summary", "source", "params", "zero", "perturbs"):
                assert getattr(one, part) == getattr(two, part)
            assert list(one.params) == list(two.params)
            assert one.params["lr"].search == LogUniform(
                1e-4, 1.0
            )  # kept as a space, and not as text or data
            hyper = {name: param.default for name, param in one.params.items()}
            assert one.cost(hyper) == two.cost(hyper)
            assert set(one.needs(hyper)) == set(two.needs(hyper))


def test_costs_are_those_of_the_entries_and_asked_for_together(asked: list[list[Pair]]) -> None:
    real = costs(Registry())
    assert len(real) == 19
    assert len(set(real.values())) > 4
    assert costs(Declared()) == real
    assert [len(pairs) > 1 for pairs in asked] == [False, True]
    assert {name for name, _ in asked[1]} == {"nso"}
    assert costs(Declared()) == real
    assert len(asked) == 2


def test_hyperparameters_that_do_not_count_are_no_question(asked: list[list[Pair]]) -> None:
    registry = Declared()
    (one,) = select(registry, "optimizer", ["nso[sigma=0.123,lr=0.3]"])
    assert declared_cost(registry, one) == 2
    (one,) = select(registry, "optimizer", ["sam[rho=0.123]"])
    assert declared_cost(registry, one) == 2
    assert asked == [[]]


def test_a_changed_source_makes_them_anew(
    asked: list[list[Pair]], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert costs(Declared())
    for module in (declared, declaring):
        monkeypatch.setattr(module, "sources", lambda: "other")
    assert list(Declared().optimizers)
    assert asked[2:] == [[]]
    content = json.loads(kept.read_text())
    assert content["sources"] == "other"
    assert len(content["figures"]["nso"]) == 1  # those of the old sources are gone


def test_costs_of_sources_edited_meanwhile_are_not_kept_with_the_old(
    asked: list[list[Pair]], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Declared()
    assert registry.optimizers
    before = kept.read_bytes()
    monkeypatch.setattr(declaring, "sources", lambda: "other")
    (one,) = select(registry, "optimizer", ["nso[k=5]"])
    assert declared_cost(registry, one) == 10
    assert kept.read_bytes() == before


def test_every_source_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(declared, "ROOT", tmp_path)
    for package in declared.SOURCES:
        (tmp_path / package / "deep").mkdir(parents=True)
        (tmp_path / package / "deep" / "a.py").write_text("a = 1")
    seen = {declared.sources()}
    for change in (
        lambda: (tmp_path / "baselines" / "deep" / "a.py").write_text("a = 2"),
        lambda: (tmp_path / "suite" / "b.py").write_text(""),
        lambda: (tmp_path / "suite" / "b.py").rename(tmp_path / "suite" / "c.py"),
    ):
        change()
        assert declared.sources() not in seen
        seen.add(declared.sources())


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{}",
        "[]",
        '{"sources": "SAME", "optimizers": [{"name": "x"}], "figures": {}}',
        '{"sources": "SAME", "optimizers": [{"name": "x", "params": {"lr": {"choices": [], "implies": [], '
        '"search": {"kind": "uniform", "low": 1, "high": 0}}}}], "figures": {}}',
        '{"sources": "SAME", "optimizers": []}',
        '{"sources": "SAME", "optimizers": [], "figures": {"sgd": [[["lr"], [0.1], "1", []]]}}',
        '{"sources": "SAME", "optimizers": [], "figures": {"sgd": [[["lr"], [[]], 1, []]]}}',
    ],
)
def test_a_damaged_file_is_made_anew(asked: list[list[Pair]], kept: Path, content: str) -> None:
    kept.parent.mkdir()
    kept.write_text(content.replace("SAME", declared.sources()))
    assert "sam" in Declared().optimizers
    assert "sam" in Declared().optimizers
    assert asked == [[]]


def test_where_nothing_can_be_kept_it_is_asked_for_every_time(asked: list[list[Pair]], kept: Path) -> None:
    kept.parent.write_text("a file in the way")
    assert costs(Declared()) == costs(Declared())
    assert len(asked) == 4


def test_plugins_are_loaded(kept: Path) -> None:
    assert Declared([PLUGIN]).optimizers == Registry([PLUGIN]).optimizers
    assert not kept.exists()


@pytest.mark.parametrize("program", ["/nowhere/python", "/bin/false", "/bin/ls"])
def test_without_an_answer_they_are_loaded_here(
    kept: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    assert Declared().optimizers == Registry().optimizers
    assert not kept.exists()


def test_a_cost_that_nobody_tells_is_asked_of_the_entry(
    asked: list[list[Pair]], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = Declared()
    (one,) = select(registry, "optimizer", ["nso[k=5]"])
    assert registry.optimizers
    monkeypatch.setattr(declaring, "_figures", lambda *_: iter(()))
    monkeypatch.setattr(declared, "_loaded", Registry)
    assert [declared_cost(registry, one) for _ in range(3)] == [10, 10, 10]
    assert [len(pairs) for pairs in asked] == [0, 1]  # once was enough


class Clone:
    """A copy of the sources, whose `steppe list` is called as a user does."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for package in ("suite", "tasks", "baselines"):
            shutil.copytree(
                declared.ROOT / package, root / package, ignore=shutil.ignore_patterns("__pycache__")
            )

    def costs(self) -> subprocess.CompletedProcess[str]:
        code = "import sys; from suite.cli import main; sys.exit(main(['list', 'optimizers']))"
        environment = {**os.environ, "PYTHONPATH": str(self.root)}
        return subprocess.run(
            [sys.executable, "-P", "-c", code], env=environment, cwd=self.root, capture_output=True, text=True
        )


def test_an_edited_entry_is_seen_and_a_broken_one_is_one_line(tmp_path: Path) -> None:
    clone = Clone(tmp_path)
    path = tmp_path / "baselines" / "sgd.py"
    sound = path.read_text()
    path.write_text(sound.replace("cost=lambda hyper: 1,", "cost=lambda hyper: print('7') or 7,"))
    answer = clone.costs()
    assert (answer.returncode, answer.stderr) == (0, "")
    assert answer.stdout.splitlines()[-1].split()[:3] == ["sgd", "2", "7"]
    path = path.with_name("adabelief.py")  # the first
    path.write_text("import no_such_module_anywhere\n")
    answer = clone.costs()
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == (
        f"steppe: error: {path} cannot be imported: ModuleNotFoundError: No module named "
        f"'no_such_module_anywhere'; mend or remove the file\n"
    )


def test_what_went_wrong_can_be_traced(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(*_: object, **__: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess([], 0, '{"error": "a.py cannot be imported"}', "Traceback: line 7")

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(SteppeError, match=r"^a\.py cannot be imported") as caught:
        _ = Declared().optimizers
    assert caught.value.__notes__ == ["Traceback: line 7"]
