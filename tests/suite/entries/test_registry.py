from pathlib import Path

import pytest

import baselines
from suite.code_hash import code_hash
from suite.entries.registry import Registry, load_file, match
from suite.errors import SteppeError
from suite.spec import OptimizerSpec

PLUGIN = '''
"""A plugin: {words}."""
from suite.spec import OptimizerSpec, Param

RATE = {rate}


def build(params, hyper, context):
    """Nothing to build."""
    raise RuntimeError(f"rate {{RATE:.1f}}")  # never called


OPTIMIZERS = [
    OptimizerSpec("{name}", "1", "s", "t", {{"lr": Param(0.1, low=0)}}, cost=lambda hyper: 1, build=build)
]
'''


def plugin(folder: Path, name: str = "mine", rate: str = "0.5", words: str = "first") -> Path:
    path = folder / "my_plugin.py"
    path.write_text(PLUGIN.format(name=name, rate=rate, words=words))
    return path


def test_unknown_names_get_the_nearest_match(tmp_path: Path) -> None:
    registry = Registry([plugin(tmp_path, "zigzag-descent")])
    with pytest.raises(SteppeError, match="unknown optimizer 'zigzag-decent'; did you mean 'zigzag-descent'"):
        registry.optimizer("zigzag-decent")
    with pytest.raises(SteppeError, match="unknown task 'digits-cn'; did you mean 'digits-cnn'"):
        registry.task("digits-cn")
    with pytest.raises(SteppeError, match="steppe list tasks"):
        registry.task("nothing-like-it")


def test_a_plugin_carries_its_source_into_the_reference(tmp_path: Path) -> None:
    registry = Registry([plugin(tmp_path)])
    found = registry.optimizer("mine")
    reference = registry.reference("optimizer", "mine", {"lr": "0.2"})
    assert found.plugin
    assert reference.plugin_source == found.source_hash == code_hash(tmp_path / "my_plugin.py")
    assert reference.params == {"lr": 0.2}
    assert registry.resolve_optimizer(reference) is found.entry


def test_built_in_entries_are_known_by_version() -> None:
    reference = Registry().reference("task", "digits-cnn", {})
    assert reference.plugin_source is None
    assert Registry().resolve_task(reference).name == "digits-cnn"


def test_a_plugin_edited_after_the_run_was_specified_is_refused(tmp_path: Path) -> None:
    reference = Registry([plugin(tmp_path)]).reference("optimizer", "mine", {})
    plugin(tmp_path, rate="0.6")
    with pytest.raises(SteppeError, match=r"optimizer mine: .*my_plugin.py changed since"):
        Registry([tmp_path / "my_plugin.py"]).resolve_optimizer(reference)


def test_another_version_is_refused(tmp_path: Path) -> None:
    registry = Registry([plugin(tmp_path)])
    reference = registry.reference("optimizer", "mine", {})
    old = type(reference)(reference.name, "0", reference.params, reference.plugin_source)
    with pytest.raises(SteppeError, match="mine is at version 1, but the run was specified at version 0"):
        registry.resolve_optimizer(old)


@pytest.mark.parametrize("name", ["../../pwn", "a/b", ".hidden", "-o", "", "Sgd", "sgd\\n", "a b"])
def test_a_name_that_leads_elsewhere_is_refused(tmp_path: Path, name: str) -> None:
    path = plugin(tmp_path, name)
    with pytest.raises(SteppeError, match=r"my_plugin.py: .* is no name of an entry; valid: lower-case"):
        _ = Registry([path]).optimizers


def test_two_entries_of_one_name_are_refused(tmp_path: Path) -> None:
    one = plugin(tmp_path)
    two = tmp_path / "second.py"
    two.write_text(one.read_text())
    with pytest.raises(SteppeError, match=r"second.py: the name 'mine' is taken by .*my_plugin.py"):
        _ = Registry([one, two]).optimizers


def test_a_plugin_cannot_take_a_built_in_name(tmp_path: Path) -> None:
    with pytest.raises(SteppeError, match="the name 'sgd' is taken by"):
        _ = Registry([plugin(tmp_path, "sgd")]).optimizers


def test_the_same_plugin_twice_is_one(tmp_path: Path) -> None:
    path = plugin(tmp_path)
    assert "mine" in Registry([path, tmp_path / "." / path.name]).optimizers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(:", "cannot be imported: SyntaxError"),
        ("import no_such_module_at_all", "cannot be imported: ModuleNotFoundError: .*no_such_module_at_all"),
        ("raise ValueError('why')", "cannot be imported: ValueError: why"),
    ],
)
def test_a_broken_plugin_is_one_clear_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "broken.py"
    path.write_text(text)
    with pytest.raises(SteppeError, match=message) as caught:
        load_file(path)
    assert "\n" not in str(caught.value)
    assert "broken.py" in str(caught.value)


def test_missing_and_misnamed_plugins(tmp_path: Path) -> None:
    with pytest.raises(SteppeError, match=r"no plugin file .*absent\.py"):
        load_file(tmp_path / "absent.py")
    (tmp_path / "plugin.txt").write_text("x = 1")
    with pytest.raises(SteppeError, match=r"its name must end in \.py"):
        load_file(tmp_path / "plugin.txt")


def test_a_list_of_something_else_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.py"
    path.write_text("OPTIMIZERS = ['sgd']")
    with pytest.raises(SteppeError, match="OPTIMIZERS holds a str, not a OptimizerSpec"):
        _ = Registry([path]).optimizers
    path.write_text("OPTIMIZERS = 3")
    with pytest.raises(SteppeError, match=r"odd\.py: OPTIMIZERS is a int; valid: a list of entries"):
        _ = Registry([path]).optimizers
    path.write_text("OPTIMIZER = []")
    with pytest.raises(SteppeError, match=r"odd\.py: it has neither TASKS nor OPTIMIZERS, a list of entries"):
        _ = Registry([path]).optimizers


@pytest.mark.parametrize(
    ("search", "message"),
    [
        (
            "LogUniform(1e-3, 2.0)",
            r"my_plugin\.py: mine: lr=2\.0 is out of range; valid: \[0, 1\], but its search",
        ),
        ("'log 1e-3 1'", r"my_plugin\.py: mine: the search space of lr is 'log 1e-3 1'; valid: LogUniform"),
        (
            "LogUniform(1, 1e-3)",
            r"my_plugin\.py cannot be imported: log-uniform \[1, 0\.001\] is not a search space",
        ),
    ],
)
def test_a_bad_search_space_is_refused_with_its_entry(tmp_path: Path, search: str, message: str) -> None:
    path = plugin(tmp_path)
    text = path.read_text().replace("low=0", f"low=0, high=1, search={search}")
    path.write_text(text.replace("from suite.spec", "from suite.space import LogUniform\nfrom suite.spec"))
    with pytest.raises(SteppeError, match=message) as caught:
        _ = Registry([path]).optimizers
    assert "\n" not in str(caught.value)


def test_the_built_in_optimizers_are_six() -> None:
    found = Registry().optimizers
    top = sorted(name for name in found if "/" not in name)
    assert top == ["adabelief", "adam", "lpf-sgd", "nso", "sam", "sgd"]
    assert all(isinstance(one.entry, OptimizerSpec) and not one.plugin for one in found.values())


def test_match_is_a_glob_with_an_error() -> None:
    assert match("s*", ["adam", "sam", "sgd"], "optimizer") == ["sam", "sgd"]
    with pytest.raises(SteppeError, match="unknown optimizer 'z\\*'"):
        match("z*", ["adam", "sam"], "optimizer")


@pytest.mark.parametrize("text", ["def build(:\n", "import no_such_module_anywhere\n"])
def test_a_broken_file_of_baselines_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    (tmp_path / "zz_broken.py").write_text(text)
    monkeypatch.setattr(baselines, "__path__", [str(tmp_path)])
    with pytest.raises(
        SteppeError, match=r"zz_broken\.py cannot be imported: .*Error.*; correct or remove the file"
    ):
        _ = Registry().optimizers
