"""`steppe new` and `steppe check`: a scaffold says what is to be written, and keeps its promises then."""

import io
import json
import sys
from pathlib import Path

import pytest

from suite.cli import main
from suite.entries import scaffold as scaffold_module
from suite.entries.registry import Registry
from suite.entries.scaffold import scaffold
from suite.errors import SteppeError
from tests.conformance.plugins import fill, swap


@pytest.fixture(autouse=True)
def _folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("STEPPE_DATA", raising=False)


def check(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str]:
    capsys.readouterr()
    code = main(["check", *arguments])
    return code, capsys.readouterr().out


def test_new_check_fill_check(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "optimizer", "my-method", "--file", "my_method.py"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "wrote my_method.py"
    assert "fill in `update`, then run `steppe check optimizer my-method --plugin my_method.py`" in out

    command = ("optimizer", "my-method", "--plugin", "my_method.py")
    code, out = check(capsys, *command)
    assert code == 1
    assert "✗ takes a step" in out
    assert "the update rule is still to be written: fill in `update` in my_method.py" in out

    path = fill(tmp_path / "my_method.py")
    code, out = check(capsys, *command)
    assert code == 0, out
    assert out.splitlines()[-1] == "optimizer my-method: all promises kept"
    assert "✗" not in out

    swap(path, 'alpha=-group["lr"])\n', 'alpha=group["lr"])\n')
    code, out = check(capsys, *command)
    assert code == 1
    (cross,) = (line for line in out.splitlines() if line.startswith("✗"))
    assert "goes downhill" in cross
    assert "its sign is likely wrong" in cross
    assert out.splitlines()[-1] == "optimizer my-method: 16 of 17 promises kept"

    code, out = check(capsys, *command, "--json")
    answer = json.loads(out)
    assert code == 1
    assert [c["promise"] for c in answer["checks"] if not c["ok"]] == ["goes downhill"]


def test_new_check_fill_check_of_a_task(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["new", "task", "my-images", "--file", "my_images.py"]) == 0
    assert "fill in `model`, then run `steppe check task my-images" in capsys.readouterr().out
    command = ("task", "my-images", "--plugin", "my_images.py")
    code, out = check(capsys, *command)
    assert code == 1
    assert "✗ initialises from the init stream only  the model is still to be written" in out

    path, unwritten = tmp_path / "my_images.py", "    raise SteppeError("
    line = next(line for line in path.read_text().splitlines() if line.startswith(unwritten))
    model = "    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))"
    swap(path, line, model)
    code, out = check(capsys, *command)
    assert code == 0, out
    assert out.splitlines()[-1] == "task my-images: all promises kept"


def test_without_a_file_it_goes_beside_the_built_in_entries(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(scaffold_module, "FOLDERS", {"optimizer": tmp_path, "task": tmp_path})
    assert main(["new", "optimizer", "my-method"]) == 0
    assert (tmp_path / "my_method.py").is_file()
    assert "`steppe check optimizer my-method`" in capsys.readouterr().out
    assert scaffold_module.FOLDERS["task"] == tmp_path


def test_the_folders_of_entries_are_those_of_the_packages() -> None:
    import baselines
    import tasks

    assert {
        "optimizer": Path(baselines.__file__).parent,
        "task": Path(tasks.__file__).parent,
    } == scaffold_module.FOLDERS


@pytest.mark.parametrize(
    "name", ["Mine", "my_method", "my--method", "-mine", "mine-", "2nd", "", "a/b", "mein\u00fc"]
)
def test_names_have_rules(tmp_path: Path, name: str) -> None:
    with pytest.raises(
        SteppeError, match=r"not a name of a new optimizer: .* lower-case words joined by hyphens"
    ):
        scaffold("optimizer", name, tmp_path / "x.py", Registry())
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text("precious")
    with pytest.raises(SteppeError, match=r"mine.py exists and is not overwritten"):
        scaffold("optimizer", "mine", path, Registry())
    assert path.read_text() == "precious"


def test_taken_names_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SteppeError, match=r"the name 'sgd' is taken by .*sgd.py"):
        scaffold("optimizer", "sgd", tmp_path / "mine.py", Registry())
    assert main(["new", "task", "digits-cnn", "--file", "mine.py"]) == 2
    assert "the name 'digits-cnn' is taken" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_places_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(SteppeError, match=r"not a Python file: .*mine.txt"):
        scaffold("optimizer", "mine", tmp_path / "mine.txt", Registry())
    with pytest.raises(SteppeError, match=r"cannot write .*mine.py: No such file or directory"):
        scaffold("optimizer", "mine", tmp_path / "absent" / "mine.py", Registry())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["check", "optimizer", "sgdd"], "unknown optimizer 'sgdd'; did you mean 'sgd'"),
        (["check", "optimizer", "sgd[lr=-1]"], "lr=-1 is out of range"),
        (["check", "optimizer", "sgd[rate=1]"], "unknown parameter of optimizer sgd 'rate'"),
        (["check", "optimizer", "sgd[lr=0.1|0.2]"], "stands for 2 entries: check them one at a time"),
        (["check", "task", "digits-cnn[size=1]"], "unknown parameter of task digits-cnn 'size'"),
        (["check", "measure", "lambda_max"], "invalid choice: 'measure'"),
        (["check", "optimizer", "mine", "--plugin", "absent.py"], "no plugin file"),
        (["new", "optimizer", "Mine"], "not a name of a new optimizer"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


@pytest.mark.parametrize("kind", ["optimizer", "task"])
def test_scaffolds_are_whole_files_of_the_house_style(tmp_path: Path, kind: str) -> None:
    path = scaffold(kind, "my-new-thing", tmp_path / "my_new_thing.py", Registry())
    text = path.read_text()
    assert "$" not in text
    assert all(len(line) <= 110 and line == line.rstrip() for line in text.splitlines())
    compile(text, str(path), "exec")
    registry = Registry([path])
    assert "my-new-thing" in (registry.optimizers if kind == "optimizer" else registry.tasks)


def test_check_of_a_task_reads_the_data_set_that_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    code, out = check(capsys, "task", "digits-cnn", "--data-set", "mnist")
    assert code == 1
    assert "✗ finds its data whole" in out
    assert "unknown data set of task digits-cnn 'mnist'" in out


def test_check_writes_plain_signs_where_the_output_has_no_others(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="ascii"))
    assert main(["check", "optimizer", "sgd"]) == 0
    assert b"ok  goes downhill" in raw.getvalue()
