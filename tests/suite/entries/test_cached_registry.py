"""What optimizers declare is known without loading them, and never out of date."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from suite.code_hash import ROOT
from suite.entries.cached_registry import AccessRecorder, CachedRegistry
from suite.entries.registry import Registry
from tests.suite.runner import PLUGIN

ENTRY = """
from suite.spec import OptimizerSpec, Param

print("loaded")
OPTIMIZERS = [
    OptimizerSpec(
        "mine", "1", "", "", params={"k": Param(1), "lr": Param(0.1), "a": Param(True)},
        cost=lambda hyper: 2 * hyper["k"], build=None, needs=lambda hyper: ["parts"] if hyper["a"] else [],
    ),
    OptimizerSpec(
        "odd", "1", "", "", params={"k": Param(0), "lr": Param(0.1)},
        cost=lambda hyper: hyper.copy()["lr"] / hyper["k"], build=None,
    ),
]
"""

PROBE = """
import json, sys
from pathlib import Path
from suite.entries.cached_registry import CachedRegistry
from suite.entries.registry import Registry
from suite.entries.select import select
from suite.errors import SteppeError
from suite.spec import cost_of, needs_of
{before}
registry = CachedRegistry()
answer = []
for text in {selectors!r}:
    try:
        for one in select(registry, "optimizer", [text]):
            entry = registry.resolve_optimizer(one)
            {between}
            answer.append([cost_of(entry, one.params), needs_of(entry, one.params)])
    except SteppeError as error:
        answer.append(str(error))
print(json.dumps([answer, "baselines.mine" in sys.modules]))
"""

SAME = """
from dataclasses import asdict
from suite.entries.selection import declared_cost
GRID = ["nso[k=1|2|3,two_point=true|false,lambda=0|0.25]", "nso[clean_pass=true,sigma=0.02]",
        "sam[rho=0.1|0.2]", "lpf-sgd[M=1|2],sgd[lr=0.3],adabelief,adam"]
def told(registry):
    return {found.entry.name: (list(found.entry.params), asdict(found.entry) | dict.fromkeys(
                ("cost", "needs", "build")), found.path, found.plugin, found.source_hash)
            for found in registry.optimizers.values()}
def figures(registry):
    chosen = select(registry, "optimizer", GRID)
    entries = [registry.resolve_optimizer(one) for one in chosen]
    return [(one, cost_of(entry, one.params), needs_of(entry, one.params))
            for one, entry in zip(chosen, entries, strict=True)]
registry = CachedRegistry()
cached = told(registry), figures(registry)
torch = "torch" in sys.modules
assert cached == (told(Registry()), figures(Registry()))
assert len(cached[1]) == 20 and len({cost for _, cost, _ in cached[1]}) > 4
params = registry.optimizers["sam"].entry.params, Registry().optimizers["sam"].entry.params
assert params[0] == params[1]  # search spaces, and not text or data
print("torch" if torch else "no torch")
"""


class Clone:
    """A copy of the suite with an entry of its own, called in processes as commands do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.entry = root / "baselines" / "mine.py"
        self.folder = self.entry.parent / "__pycache__"
        shutil.copytree(ROOT / "suite", root / "suite", ignore=shutil.ignore_patterns("__pycache__"))

    def reset(self) -> None:
        shutil.rmtree(self.entry.parent, ignore_errors=True)
        self.entry.parent.mkdir()
        (self.entry.parent / "__init__.py").touch()
        self.entry.write_text(ENTRY)

    @property
    def cache(self) -> Path:
        (path,) = self.folder.glob("declared.*")
        return path

    def start(self, code: str, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-P", "-c", code, *arguments],
            env={**os.environ, "PYTHONPATH": str(self.root)},
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def ask(self, *selectors: str, before: str = "", between: str = "") -> tuple[list[Any], bool]:
        """Costs and needs of what is selected, or errors; and whether the entries were loaded for it."""
        process = self.start(PROBE.format(selectors=selectors, before=before, between=between))
        out, error = process.communicate()
        assert process.returncode == 0, error
        answer, loaded = json.loads(out)  # what the entries print is not there
        return answer, loaded


@pytest.fixture(scope="module")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    return Clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture
def clone(copied: Clone) -> Clone:
    copied.reset()
    return copied


def test_entries_and_figures_are_those_that_loading_gives(clone: Clone) -> None:
    shutil.rmtree(clone.entry.parent)
    shutil.copytree(ROOT / "baselines", clone.entry.parent, ignore=shutil.ignore_patterns("__pycache__"))
    for said in ("torch", "no torch"):
        process = clone.start(PROBE.format(selectors=(), before=SAME, between=""))
        out, error = process.communicate()
        assert out.splitlines()[:1] == [said], error


def test_the_first_command_loads_and_the_next_does_not(clone: Clone) -> None:
    for loaded in (True, False):
        assert clone.ask("mine") == ([[2, ["parts"]]], loaded)


def test_only_hyperparameters_that_a_figure_follows_from_count(clone: Clone) -> None:
    assert clone.ask("mine[lr=0.3]") == ([[2, ["parts"]]], True)
    assert clone.ask("mine[lr=0.7]") == ([[2, ["parts"]]], False)
    for loaded in (True, False):
        assert clone.ask("mine[k=3|4,a=false]") == ([[6, []], [8, []]], loaded)
    assert clone.ask("mine[k=4,lr=0.2]", "mine") == ([[8, ["parts"]], [2, ["parts"]]], False)


@pytest.mark.parametrize("place", ["baselines/mine.py", "suite/spec.py", "suite/report/runs.py"])
def test_an_edited_source_makes_the_cache_old(clone: Clone, place: str) -> None:
    clone.ask("mine")
    path = clone.root / place
    sound = path.read_text()
    path.write_text(sound.replace("2 * hyper", "33 * hyper") + "# edited\n")
    cost = 33 if path == clone.entry else 2
    try:
        for loaded in (True, False):
            assert clone.ask("mine") == ([[cost, ["parts"]]], loaded)
    finally:
        path.write_text(sound)


def test_a_new_and_a_renamed_source_make_the_cache_old(clone: Clone) -> None:
    clone.ask("mine")
    clone.entry.with_name("other.py").write_text("OPTIMIZERS = []\n")
    assert clone.ask("mine") == ([[2, ["parts"]]], True)
    clone.entry.with_name("other.py").rename(clone.entry.with_name("others.py"))
    assert clone.ask("mine") == ([[2, ["parts"]]], True)
    clone.entry.with_name(".#others.py").symlink_to("nobody@nowhere")  # the lock of an editor
    assert clone.ask("mine") == ([[2, ["parts"]]], False)


EDIT = "Path('baselines/mine.py').write_text(Path('baselines/mine.py').read_text().replace('2 * ', '33 * '))"


def test_figures_of_sources_edited_meanwhile_are_not_kept(clone: Clone) -> None:
    clone.ask("mine")
    assert clone.ask("mine[k=5]", between=EDIT) == ([[165, ["parts"]]], True)
    clone.entry.write_text(ENTRY)
    assert clone.ask("mine[k=5]") == ([[10, ["parts"]]], True)


def test_figures_of_entries_loaded_before_are_not_kept(clone: Clone) -> None:
    load = "sys.stdout = sys.stderr; Registry().optimizers; sys.stdout = sys.__stdout__"
    assert clone.ask("mine", before=f"{load}; {EDIT}") == ([[2, ["parts"]]], True)
    assert clone.ask("mine") == ([[33, ["parts"]]], True)


def test_a_damaged_cache_is_written_again(clone: Clone) -> None:
    clone.ask("mine")
    whole = clone.cache.read_bytes()
    changed = whole.replace(b"parts", b"heads")
    assert changed != whole
    for damaged in (b"", b"{}", whole[:-1], whole[:40], whole + b"\0", changed, whole[:32] + b"\xc1" * 100):
        clone.cache.write_bytes(damaged)
        assert clone.ask("mine") == ([[2, ["parts"]]], True)
        assert clone.cache.read_bytes() == whole
    clone.cache.unlink()
    assert clone.ask("mine") == ([[2, ["parts"]]], True)
    assert clone.ask("mine") == ([[2, ["parts"]]], False)


def test_where_nothing_can_be_written_the_entries_are_loaded_every_time(clone: Clone) -> None:
    clone.folder.write_text("a file in the way")
    for _ in range(2):
        assert clone.ask("mine[k=1|3]") == ([[2, ["parts"]], [6, ["parts"]]], True)


def test_what_is_no_plain_data_is_loaded_every_time(clone: Clone) -> None:
    clone.entry.write_text(ENTRY.replace('{"k": Param(0)', '{"k": Param(0, help=object())'))
    for _ in range(2):
        assert clone.ask("mine") == ([[2, ["parts"]]], True)


def test_commands_at_once_do_not_disturb_each_other(clone: Clone) -> None:
    some = [clone.start(PROBE.format(selectors=[f"mine[k={k}]"], before="", between="")) for k in range(2, 6)]
    for k, process in enumerate(some, 2):
        assert json.loads(process.communicate()[0])[0] == [[2 * k, ["parts"]]]
    assert clone.ask("mine") == ([[2, ["parts"]]], False)
    assert [path.name for path in clone.folder.glob("*declared*")] == [clone.cache.name]


def test_a_figure_that_fails_says_why_and_leaves_the_others_in_the_cache(clone: Clone) -> None:
    why = (
        "optimizer odd cannot tell its cost: ZeroDivisionError: float division by zero; correct the `cost` of"
    )
    for _ in range(2):
        (failed,), loaded = clone.ask("odd")
        assert failed.startswith(why)
        assert loaded
    assert clone.ask("odd[k=1]", "mine") == ([[0.1, []], [2, ["parts"]]], True)  # its cost takes a dict alone
    assert clone.ask("mine") == ([[2, ["parts"]]], False)


def test_a_broken_entry_is_one_line(clone: Clone) -> None:
    clone.entry.write_text("import no_such_module_anywhere\n")
    process = clone.start(
        "import sys; from suite.cli import main; sys.exit(main(sys.argv[1:]))", "list", "optimizers"
    )
    assert process.communicate() == (
        "",
        f"steppe: error: {clone.entry} cannot be imported: ModuleNotFoundError: No module named "
        f"'no_such_module_anywhere'; correct or remove the file\n",
    )
    assert process.returncode == 2


def test_a_moved_clone_keeps_its_cache(clone: Clone, tmp_path: Path) -> None:
    clone.ask("mine")
    moved = tmp_path / "moved"
    shutil.copytree(clone.root, moved)
    code = "from suite.entries.cached_registry import *; print(CachedRegistry().optimizers['mine'].path)"
    process = clone.start(f"import sys; sys.path.insert(0, {str(moved)!r}); {code}")
    assert process.communicate()[0] == f"{moved / 'baselines' / 'mine.py'}\n"


def test_plugins_are_loaded() -> None:
    assert CachedRegistry([PLUGIN]).optimizers == Registry([PLUGIN]).optimizers


def spread(a: int, b: float, c: bool) -> float:
    return a + b + c


HYPER = {"a": 1, "b": 2.5, "c": True}
ALL = ["a", "b", "c"]


@pytest.mark.parametrize(
    ("cost", "read"),
    [
        (lambda h: 1, []),
        (lambda h: h["a"], ["a"]),
        (lambda h: h["a"] if h["c"] else h["b"], ["c", "a"]),
        (lambda h: 2 if "b" in h else 1, ["b"]),
        (lambda h: h.get("z", 3), ["z"]),
        (lambda h: spread(**h), ALL),
        (lambda h: sum(dict(h).values()), ALL),
        (lambda h: sum(h.values()), ALL),
        (lambda h: max(v for _, v in h.items()), ALL),
        (lambda h: len(h), []),
    ],
)
def test_what_is_read_is_recorded(cost: Callable[[Mapping[str, Any]], float], read: list[str]) -> None:
    recorder = AccessRecorder(HYPER)
    assert cost(recorder) == cost(HYPER)
    assert list(recorder.read) == read
    assert recorder.read == {key: HYPER.get(key) for key in read}
