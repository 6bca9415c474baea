"""An optimizer file edited between two runs is not silently "done": the run's id or a refusal says so."""

from pathlib import Path

import pytest

from suite.cli import main
from suite.entries import registry as registry_module
from suite.entries.registry import Registry, load_file
from suite.entries.selection import Selection
from suite.errors import SteppeError
from suite.spec import RunSpec
from suite.store.folders import Store
from tests.conformance.plugins import fill, swap, write
from tests.suite.fake_records import begin, finish
from tests.suite.runner import PLUGIN as TINY


def specify(registry: Registry) -> RunSpec:
    (spec,) = Selection(["tiny"], ["mine"], [0]).expand(registry)
    return spec


def test_an_edited_plugin_gives_another_run(tmp_path: Path) -> None:
    path = fill(write(tmp_path))
    before = specify(Registry([TINY, path]))
    assert before.optimizer.plugin_source is not None
    path.write_text(path.read_text().replace('"""Make the optimizer;', '# Words.\n    """Make it;'))
    assert specify(Registry([TINY, path])).run_id == before.run_id
    swap(path, "mul_(0.9)", "mul_(0.8)")
    after = specify(Registry([TINY, path]))
    assert after.run_id != before.run_id
    with pytest.raises(SteppeError, match=r"mine.py changed since the run was specified"):
        Registry([TINY, path]).resolve_optimizer(before.optimizer)


@pytest.fixture
def built_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file that the registry takes for one of baselines/."""
    path = fill(write(tmp_path))
    whole = registry_module._package_modules

    def with_mine(package: str) -> list[tuple[object, Path]]:
        return [*whole(package), *([(load_file(path), path)] if package == "baselines" else [])]

    monkeypatch.setattr(registry_module, "_package_modules", with_mine)
    return path


def test_an_edited_built_in_is_refused_until_its_version_is_raised(tmp_path: Path, built_in: Path) -> None:
    store = Store(tmp_path / "store")
    spec = specify(Registry([TINY]))
    assert spec.optimizer.plugin_source is None
    Registry([TINY]).pin(spec, store)
    begin(store, spec)

    built_in.write_text("# A comment is no change.\n" + built_in.read_text())
    Registry([TINY]).pin(spec, store)

    swap(built_in, "mul_(0.9)", "mul_(0.8)")
    assert specify(Registry([TINY])).run_id == spec.run_id  # which is why the store must refuse it
    with pytest.raises(SteppeError, match=r"mine changed under version 1.*raise its version"):
        Registry([TINY]).pin(spec, store)

    swap(built_in, 'version="1"', 'version="2"')
    raised = specify(Registry([TINY]))
    assert raised.run_id != spec.run_id
    Registry([TINY]).pin(raised, store)


def test_the_command_line_refuses_it_also_where_every_run_is_done(
    tmp_path: Path, built_in: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    store = Store(tmp_path / "store")
    spec = specify(Registry([TINY]))
    Registry([TINY]).pin(spec, store)
    finish(store, spec)
    swap(built_in, "mul_(0.9)", "mul_(0.8)")
    code = main(["run", "-t", "tiny", "-o", "mine", "--plugin", str(TINY), "--store", str(store.root)])
    assert code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "mine changed under version 1" in line
    assert store.run_ids() == [spec.run_id]
