"""The lock of the engine agrees with the code, and notices every change of it."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from suite import ENGINE
from suite.code_hash import ROOT
from suite.engine_lock import check as engine_lock
from suite.engine_lock.battery import Digests, checkout, compare
from suite.engine_lock.check import (
    NAME,
    UNLOCKED,
    current,
    differences,
    locked,
    parse,
    write_raised,
    write_same,
)
from suite.errors import SteppeError
from suite.sharpness import VERSIONS
from suite.store.folders import Store
from tests.engine.battery import PLUGINS, report, run_suite
from tests.engine.edits import append, file_of, replace

MEASURES = ("hessian_trace", "lambda_max", "lpf")
SHARED = {
    "__init__": MEASURES,
    "evaluation": MEASURES,
    "point": MEASURES,
    "hvp": ("hessian_trace", "lambda_max"),
}
"""Modules of the package that measures share, and those that run through them."""

Edit = Callable[[Path], None]


def raise_engine(root: Path, by: int = 1) -> None:
    replace(root / "suite" / "__init__.py", f"\nENGINE = {ENGINE}\n", f"\nENGINE = {ENGINE + by}\n")


def raise_version(root: Path, measure: str, by: int = 1) -> None:
    old = VERSIONS[measure]
    replace(file_of(root, f"suite.sharpness.{measure}"), f"\nVERSION = {old}\n", f"\nVERSION = {old + by}\n")


# -- the tree ------------------------------------------------------------------------------------------


def test_the_lock_agrees_with_the_code() -> None:
    assert differences() == []
    assert current() == locked()
    assert (locked().engine, locked().measures) == (ENGINE, VERSIONS)


def test_what_is_not_locked_is_sorted_and_has_reasons() -> None:
    assert list(UNLOCKED) == sorted(UNLOCKED)
    assert not UNLOCKED.keys() & locked().modules.keys()
    assert len(locked().modules) > 40
    assert all(len(reason) > 8 for reason in UNLOCKED.values())


def test_the_lock_has_a_line_for_each_module() -> None:
    lines = (ROOT / NAME).read_text().splitlines()
    for module in (*locked().modules, *(f"suite.sharpness.{measure}" for measure in MEASURES)):
        assert len([line for line in lines if line.startswith(f'"{module}" = ')]) == 1
    assert parse((ROOT / NAME).read_bytes()).text() == (ROOT / NAME).read_text()


def test_asking_loads_no_torch() -> None:
    code = "import sys; from suite.engine_lock.check import main; main([]); assert 'torch' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout == f"{NAME} agrees with the code\n"


# -- what is noticed -----------------------------------------------------------------------------------


@pytest.mark.parametrize("half", [0, 1])
def test_a_line_of_code_is_noticed_in_each_module_and_in_no_other(copied: Path, half: int) -> None:
    edited = sorted(locked(copied).modules)[half::2]
    for module in edited:
        append(file_of(copied, module), "\n_EDITED = 1\n")
    lines = differences(copied)
    assert [line.partition(" changed: ")[0] for line in lines] == edited
    for line in lines:
        assert " changed: raise ENGINE in suite/__init__.py and run " in line
        assert "--same-as COMMIT" in line


def test_a_line_of_code_is_noticed_in_each_measure(copied: Path) -> None:
    for measure in MEASURES:
        append(file_of(copied, f"suite.sharpness.{measure}"), "\n_EDITED = 1\n")
    for measure, line in zip(MEASURES, differences(copied), strict=True):
        assert line.startswith(f"suite.sharpness.{measure}, or what it uses of suite.sharpness, changed: ")
        assert f"raise VERSION in suite/sharpness/{measure}.py" in line


@pytest.mark.parametrize(("shared", "measures"), SHARED.items())
def test_shared_code_of_measures_is_noticed(copied: Path, shared: str, measures: tuple[str, ...]) -> None:
    append(copied / "suite" / "sharpness" / f"{shared}.py", "\n_EDITED = 1\n")
    assert [line.partition(",")[0] for line in differences(copied)] == [
        f"suite.sharpness.{m}" for m in measures
    ]


def test_code_that_changes_no_number_is_free(copied: Path) -> None:
    for module in UNLOCKED:
        append(file_of(copied, module), "\n_EDITED = 1\n")
    assert differences(copied) == []


def test_words_are_free(copied: Path) -> None:
    for module in (
        *locked(copied).modules,
        *(f"suite.sharpness.{name}" for name in (*MEASURES, "hvp", "point", "evaluation")),
    ):
        path = file_of(copied, module)
        text = path.read_text()
        assert text.startswith('"""')
        path.write_text(text.replace('"""', '"""Words. ', 1) + '\n# a comment\n"""A text."""\n')
    assert differences(copied) == []


NEW = "suite.brand_new can be reached by a run and is not locked (if it can change no number, add it"


@pytest.mark.parametrize(
    "importer", ["suite.engine.steps", "suite.store.folders", "suite.sharpness.lpf", "suite.data.sources"]
)
def test_a_new_module_is_noticed(copied: Path, importer: str) -> None:
    (copied / "suite" / "brand_new.py").write_text("x = 1\n")
    assert differences(copied) == []  # nobody imports it
    append(file_of(copied, importer), "\nfrom suite import brand_new\n")
    first, *others = differences(copied)
    assert first.startswith(f"{NEW} to UNLOCKED): raise ENGINE in suite/__init__.py")
    assert [line.partition(" ")[0].strip(",") for line in others] == (
        [] if importer in UNLOCKED else [importer]
    )
    with pytest.raises(SteppeError, match=r"^not written: suite\.brand_new can be reached by a run"):
        write_raised(copied)


def test_a_new_module_that_is_imported_late_or_through_another_is_noticed(copied: Path) -> None:
    (copied / "suite" / "brand_new.py").write_text("x = 1\n")
    (copied / "suite" / "between.py").write_text("def f():\n    import suite.brand_new\n")
    append(file_of(copied, "suite.engine.steps"), "\nif TYPE_CHECKING:\n    from suite import between\n")
    assert differences(copied) == []  # it is not run
    append(file_of(copied, "suite.engine.steps"), "\nfrom suite.between import f\n")
    found = [line.partition(" ")[0] for line in differences(copied)]
    assert found == ["suite.between", "suite.brand_new", "suite.engine.steps"]


def test_a_module_that_went_away_is_noticed(copied: Path) -> None:
    file_of(copied, "suite.seeds").unlink()
    file_of(copied, "suite.records.source_tree").unlink()
    lines = differences(copied)
    assert [line.partition(":")[0] for line in lines] == [
        "suite.records.source_tree does not exist",
        "suite.seeds is no longer in the lock",
    ]


def test_a_new_measure_is_noticed_and_needs_no_other_number(copied: Path) -> None:
    new = copied / "suite" / "sharpness" / "flatness.py"
    new.write_text('MEASURES = {"flatness": "how flat"}\n')
    with pytest.raises(SteppeError, match=r"flatness\.py: VERSION is None; assign a whole number"):
        differences(copied)
    append(new, "VERSION = 2 - 1\n")
    with pytest.raises(SteppeError, match=r"flatness\.py: VERSION is not a literal"):
        differences(copied)
    replace(new, "2 - 1", "1")
    (line,) = differences(copied)
    assert line.startswith("suite.sharpness.flatness is a new measure: run ")
    assert write_raised(copied).measures["flatness"] == 1
    assert differences(copied) == []
    new.unlink()
    (line,) = differences(copied)
    assert line.startswith("suite.sharpness.flatness is no measure any more: run ")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "engine = 2\n",
        "engine = [",
        'engine = "two"\n[modules]\n[estimators]\n',
        "engine = 2\n[modules]\n[estimators]\nx = 1\n",
        "\xff",
    ],
)
def test_a_damaged_lock_is_one_clear_line(copied: Path, text: str) -> None:
    (copied / NAME).write_text(text, encoding="latin-1")
    with pytest.raises(
        SteppeError, match=r"^suite/engine\.lock is damaged \(.*\): restore it with `git"
    ) as caught:
        differences(copied)
    assert "\n" not in str(caught.value)
    (copied / NAME).unlink()
    with pytest.raises(SteppeError, match=r"^no .*engine\.lock: restore it"):
        differences(copied)


# -- raising -------------------------------------------------------------------------------------------


def test_raising_is_refused_where_nothing_rose(copied: Path) -> None:
    before = (copied / NAME).read_bytes()
    append(file_of(copied, "suite.objective"), "\n_EDITED = 1\n")
    append(file_of(copied, "suite.engine.steps"), "\n_EDITED = 1\n")
    with pytest.raises(
        SteppeError, match=r"^not written: suite\.engine\.steps changed: .* \(1 more like this\)$"
    ):
        write_raised(copied)
    raise_version(copied, "lpf")  # of something else
    with pytest.raises(SteppeError, match=r"^not written: suite\.engine\.steps changed"):
        write_raised(copied)
    assert (copied / NAME).read_bytes() == before


def test_raising_the_engine(copied: Path) -> None:
    append(file_of(copied, "suite.objective"), "\n_EDITED = 1\n")
    raise_engine(copied)
    assert [line.partition(":")[0] for line in differences(copied)] == [
        f"ENGINE rose from {ENGINE} to {ENGINE + 1}",
        "suite.objective changed",
    ]
    append(file_of(copied, "suite.sharpness.lpf"), "\n_EDITED = 1\n")
    with pytest.raises(SteppeError, match=r"^not written: suite\.sharpness\.lpf, or what it uses"):
        write_raised(copied)  # it has a version of its own
    raise_version(copied, "lpf")
    assert write_raised(copied).engine == ENGINE + 1
    assert differences(copied) == []
    assert locked(copied).measures == {**VERSIONS, "lpf": VERSIONS["lpf"] + 1,
                                       "lpf_difference": VERSIONS["lpf"] + 1}  # fmt: skip


def test_raising_a_measure(copied: Path) -> None:
    append(file_of(copied, "suite.sharpness.hvp"), "\n_EDITED = 1\n")
    raise_version(copied, "lambda_max")
    with pytest.raises(SteppeError, match=r"^not written: suite\.sharpness\.hessian_trace, or what it uses"):
        write_raised(copied)
    raise_version(copied, "hessian_trace")
    write_raised(copied)
    assert differences(copied) == []


def test_numbers_never_fall(copied: Path) -> None:
    raise_engine(copied, by=-1)
    raise_version(copied, "lpf", by=-1)
    engine, measure = differences(copied)
    assert engine.startswith(f"ENGINE is {ENGINE - 1}, locked is {ENGINE}: it never falls")
    assert measure.startswith("suite.sharpness.lpf: VERSION is 0, locked is 1: it never falls")
    with pytest.raises(SteppeError, match="never falls"):
        write_raised(copied)


# -- the same as a commit ------------------------------------------------------------------------------

RUNS = {"sgd": {"weights": "a", "lpf": "b"}, "sam": {"weights": "c", "lpf": "d"}}


def test_reports_are_compared_run_by_run() -> None:
    found = compare(RUNS, {"sgd": {"weights": "a", "lpf": "x"}, "nso": {"weights": "e"}})
    assert found.table == (
        "run  weights     lpf",
        "sgd  same        DIFFERS",
        "nso  only here   -",
        "sam  only there  only there",
    )
    assert (found.n_same, found.differing, found.one_sided) == (1, ("sgd",), ("nso", "sam"))
    same = compare(RUNS, RUNS)
    assert (same.n_same, same.differing, same.one_sided) == (4, (), ())


@pytest.fixture
def against(
    unedited: Path, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Digests, Digests, Path], None]:
    """Let `write_same` find these reports, those of the commit and those of the code here."""

    def prepare(there: Digests, here: Digests, commit: Path = unedited) -> None:
        @contextmanager
        def no_checkout(name: str, root: Path) -> Iterator[Path]:
            assert (name, root) == ("abc", copied)
            yield commit

        monkeypatch.setattr(engine_lock, "checkout", no_checkout)
        monkeypatch.setattr(engine_lock, "battery", lambda place, name: there if place == commit else here)

    return prepare


Against = Callable[..., None]


def test_the_lock_is_written_where_all_bits_agree(
    copied: Path, against: Against, capsys: pytest.CaptureFixture[str]
) -> None:
    append(file_of(copied, "suite.objective"), "\n_EDITED = 1\n")
    append(file_of(copied, "suite.sharpness.lpf"), "\n_EDITED = 1\n")
    against(RUNS, RUNS)
    assert write_same("abc", copied).engine == ENGINE
    assert differences(copied) == []
    assert capsys.readouterr().out.splitlines() == [
        "run  weights  lpf",
        "sgd  same     same",
        "sam  same     same",
    ]


@pytest.mark.parametrize(
    ("here", "message", "with_new"),
    [
        ({**RUNS, "sam": {"weights": "c", "lpf": "x"}}, "other bits in sam", "other bits in sam"),
        ({**RUNS, "new": {"weights": "e"}}, "one side alone has some or all of new; --allow-new", None),
        ({"sgd": RUNS["sgd"]}, "one side alone has some or all of sam; --allow-new", None),
        ({"sgd": {"weights": "a"}, "sam": RUNS["sam"]}, "one side alone has some or all of sgd", None),
        ({"new": {"weights": "e"}}, "other bits in every run", "other bits in every run"),
        ({}, "other bits in every run", "other bits in every run"),
    ],
)
def test_the_lock_is_not_written_where_they_do_not(
    copied: Path, against: Against, here: Digests, message: str, with_new: str | None
) -> None:
    before = (copied / NAME).read_bytes()
    append(file_of(copied, "suite.objective"), "\n_EDITED = 1\n")
    against(RUNS, here)
    with pytest.raises(SteppeError, match=f"^not written: {message}"):
        write_same("abc", copied)
    assert (copied / NAME).read_bytes() == before
    if with_new is None:
        write_same("abc", copied, allow_new=True)
        assert differences(copied) == []
    else:
        with pytest.raises(SteppeError, match=f"^not written: {with_new}"):
            write_same("abc", copied, allow_new=True)


def test_a_commit_of_other_code_proves_nothing(copied: Path, against: Against, tmp_path: Path) -> None:
    append(file_of(copied, "suite.objective"), "\n_EDITED = 1\n")
    shutil.copytree(copied / "suite", tmp_path / "suite")  # it has the edit, and a lock that does not
    against(RUNS, RUNS, commit=tmp_path)
    with pytest.raises(
        SteppeError, match=r"^abc is not the code that suite/engine\.lock was written for: name"
    ):
        write_same("abc", copied)
    raise_engine(tmp_path)
    write_raised(tmp_path)  # now its own lock agrees, but it is another
    with pytest.raises(SteppeError, match=r"^abc is not the code"):
        write_same("abc", copied)


@pytest.mark.parametrize(
    "edit", [raise_engine, lambda root: raise_version(root, "lpf")], ids=["engine", "measure"]
)
def test_a_raised_number_is_not_the_same(copied: Path, against: Against, edit: Edit) -> None:
    edit(copied)
    against(RUNS, RUNS)
    with pytest.raises(
        SteppeError, match=r"^not written: .* rose from . to .: run `python -m suite\.engine_lock"
    ):
        write_same("abc", copied)


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_a_commit_is_checked_out_and_goes_away(tmp_path: Path) -> None:
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.invalid"]
    (tmp_path / "file").write_text("old")
    for command in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *command], check=True)
    (tmp_path / "file").write_text("new")
    with checkout("HEAD", tmp_path) as place:
        assert (place / "file").read_text() == "old"
    assert not place.exists()
    listed = subprocess.run([*git, "worktree", "list"], capture_output=True, text=True, check=True).stdout
    assert len(listed.splitlines()) == 1
    with (
        pytest.raises(SteppeError, match=r"^git worktree add failed: .*no-such.*"),
        checkout("no-such", tmp_path),
    ):
        pass


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_the_command_refuses_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert engine_lock.main(["--same-as", "no-such-commit"]) == 1
    error = capsys.readouterr().err
    assert error.startswith("engine_lock: error: git worktree add failed: ")
    assert error.count("\n") == 1
    with pytest.raises(SystemExit):
        engine_lock.main(["--allow-new"])


def test_the_battery_reports_digests_of_a_run(tmp_path: Path) -> None:
    where = ("--plugin", str(PLUGINS[0]), "--store", str(tmp_path), "--wandb", "off")
    run_suite("-t", "battery-plain", "-o", "sgd", "--budget", "0.4", "--device", "cpu", *where)
    store = Store(tmp_path)
    (run_id,) = store.run_ids()
    name, digests = report(store.run(run_id))
    assert name == "sgd on battery-plain, fp32"
    assert digests.keys() == {"weights", "metrics", "results", "cost", "train_loss", *VERSIONS}
    assert len(set(digests.values())) == len(digests)
    assert all(len(digest) == 64 for digest in digests.values())
