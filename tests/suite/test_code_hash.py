from pathlib import Path

import pytest

from suite import code_hash as module
from suite.code_hash import code_hash, source_hash

PLUGIN = '''
"""A plugin: {words}."""
from suite.spec import OptimizerSpec

RATE = {rate}


def build(params, hyper, context):
    """Nothing to build: {words}."""
    return f"rate {{RATE:.1f}}"  # {words}
'''


def plugin(folder: Path, rate: str = "0.5", words: str = "first") -> Path:
    path = folder / "my_plugin.py"
    path.write_text(PLUGIN.format(rate=rate, words=words))
    return path


def test_code_hash_sees_code_and_nothing_else(tmp_path: Path) -> None:
    first = code_hash(plugin(tmp_path))
    assert code_hash(plugin(tmp_path, words="reworded docstring")) == first
    path = tmp_path / "my_plugin.py"
    text = path.read_text()
    path.write_text("# a comment\n\n\n" + text.replace("RATE = 0.5", "RATE   =  (0.5)  # said differently"))
    assert code_hash(path) == first
    assert code_hash(plugin(tmp_path, rate="0.6")) != first
    path.write_text(text.replace('    """Nothing to build: first."""\n', ""))
    assert code_hash(path) == first


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = f'{a}'", "x = f'{b}'"),
        ("x = f'{a:.1f}'", "x = f'{a:.2f}'"),
        ("x = f'{a!r}'", "x = f'{a!s}'"),
        ("x = f'{a:{w}}'", "x = f'{a:{v}}'"),
        ("x = f'a'", "x = 'a'"),
        ("if a:\n    b\nc", "if a:\n    pass\nb\nc"),
        ("x = f'{a}'", "x = (a,)"),
        ("x = 'text'", "x = 'other'"),
        ("def f():\n    'doc'\n    return 1", "def f():\n    'doc'\n    return 2"),
    ],
)
def test_code_hash_tells_code_apart(tmp_path: Path, one: str, other: str) -> None:
    hashes = []
    for number, text in enumerate((one, other)):
        path = tmp_path / f"{number}.py"
        path.write_text(text)
        hashes.append(code_hash(path))
    assert hashes[0] != hashes[1]


def test_a_function_of_nothing_but_a_docstring_hashes(tmp_path: Path) -> None:
    path = tmp_path / "empty.py"
    path.write_text('class A:\n    """Doc."""\n\n\ndef f():\n    """Doc."""\n')
    bare = code_hash(path)
    path.write_text('class A:\n    """Other."""\n\n\ndef f():\n    """Words."""\n')
    assert code_hash(path) == bare
    path.write_text("class A:\n    pass\n\n\ndef f(): pass\n")
    assert code_hash(path) == bare


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    "line",
    [
        "from baselines.shared import f",
        "from baselines import shared",
        "import baselines.shared",
        "def g():\n    from baselines.shared import f",
        "from .shared import f",
        "from . import shared",
    ],
)
def test_a_helper_belongs_to_the_code_of_those_that_import_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.setattr(module, "ROOT", tmp_path)
    entry = write(tmp_path / "baselines" / "mine.py", line)
    write(tmp_path / "baselines" / "shared.py", "from baselines.deeper import f")
    deeper = write(tmp_path / "baselines" / "deeper.py", "f = 1\nimport baselines.mine")
    alone = write(tmp_path / "baselines" / "alone.py", "import torch\nfrom suite.spec import Param")
    before, before_alone = source_hash(entry), source_hash(alone)
    write(deeper, "f = 2\nimport baselines.mine")
    assert source_hash(entry) != before
    write(deeper, "f = 1  # a comment\nimport baselines.mine")
    assert source_hash(entry) == before
    assert source_hash(alone) == before_alone == code_hash(alone)


def test_the_built_in_wrappers_share_their_helpers() -> None:
    sam = module.ROOT / "baselines" / "sam.py"
    assert source_hash(sam) != code_hash(sam)
