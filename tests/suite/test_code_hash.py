"""Tests that code hashes change with the code of a file and its helpers, and with nothing else."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from suite.code_hash import ROOT, code_hash, source_hash
from suite.entries.registry import Registry
from suite.errors import SteppeError

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


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


@pytest.fixture
def on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder on `sys.path`, at the position of PYTHONPATH."""
    folder = tmp_path / "lib"
    folder.mkdir()
    monkeypatch.syspath_prepend(str(folder))
    return folder


def hashes(tmp_path: Path, *texts: str) -> list[str]:
    return [code_hash(write(tmp_path / f"{number}.py", text)) for number, text in enumerate(texts)]


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
        ("x = 1", "x = 1.0"),
        ("x = 1", "x = True"),
        ("x = None", "x = ..."),
        ("x = [None, a]", "x = [a]"),
        ("f(*a, b)", "f(a, *b)"),
        ("def f():\n    'doc'\n    return 1", "def f():\n    'doc'\n    return 2"),
        ("if TYPE_CHECKING:\n    x = 1\nelse:\n    x = 2", "if TYPE_CHECKING:\n    x = 1\nelse:\n    x = 3"),
    ],
)
def test_code_hash_tells_code_apart(tmp_path: Path, one: str, other: str) -> None:
    first, second = hashes(tmp_path, one, other)
    assert first != second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x = 1", "import os, sys\nx = 1"),
        ("x = 1", "from __future__ import annotations\nx = 1"),
        ("from torch import nn\nnn.ReLU()", "import torch.nn as nn\nnn.ReLU()"),
        ("import torch\ndef f():\n    torch.ones(1)", "def f():\n    import torch\n    torch.ones(1)"),
        ("import torch.nn\ntorch.ones(1)", "import torch\ntorch.ones(1)"),
        ("from torch import Tensor\ndef f(x: Tensor): g(x)",
         "if TYPE_CHECKING:\n    from torch import Tensor\ndef f(x: Tensor): g(x)"),
        ("x = 1", "if TYPE_CHECKING:\n    from torch import Tensor\n    Kind = Tensor\nx = 1"),
        ("x = 1", "import typing\nif typing.TYPE_CHECKING:\n    import torch\nx = 1"),
        ("from suite.flat_params import NOISE\nx = NOISE", "from suite.vectors import NOISE\nx = NOISE"),
        ("from suite import flat_params as p\np.f()", "from suite.data import splits as p\np.f()"),
        ("x = 'a' f'{b}' 'c'", 'x = f"a{b}c"'),
    ],
)  # fmt: skip
def test_imports_are_no_code(tmp_path: Path, one: str, other: str) -> None:
    first, second = hashes(tmp_path, one, other)
    assert first == second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("from torch.optim import SGD as Base\nBase(p)", "from torch.optim import Adam as Base\nBase(p)"),
        ("import numpy as np\nnp.dot(a, b)", "import cupy as np\nnp.dot(a, b)"),
        ("from math import floor\nfloor(x)", "from numpy import floor\nfloor(x)"),
        ("from suite.seeds import TASK_SEED as s\nf(s)", "from suite.seeds import stream_seed as s\nf(s)"),
        ("from numpy import *", "from torch import *"),
    ],
)
def test_what_a_name_was_imported_as_counts(tmp_path: Path, one: str, other: str) -> None:
    first, second = hashes(tmp_path, one, other)
    assert first != second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("from suite.flat_params import NOISE\nx = NOISE", "from suite.vectors import NOISE\nx = NOISE"),
        ("from suite import flat_params as p\np.f()", "from suite.data import splits as p\np.f()"),
        ("import suite.flat_params\nsuite.f()", "import suite.vectors\nsuite.f()"),
        ("from .params import NOISE\nx = NOISE", "from ..params import NOISE\nx = NOISE"),
        ("x = 1", "import os\nx = 1"),
        ("x = 1", "from suite import params\nx = 1"),
        ("import os\nx = 1", "if TYPE_CHECKING:\n    import os\nx = 1"),
    ],
)
def test_places_count_where_they_are_asked_for(tmp_path: Path, one: str, other: str) -> None:
    files = [write(tmp_path / f"{number}.py", text) for number, text in enumerate((one, other))]
    first, second = (code_hash(file, places=True) for file in files)
    assert first != second


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("import torch\nimport os\nos.f(torch)", "import os, torch\nos.f(torch)"),
        ("import torch\ndef f():\n    torch.ones(1)", "def f():\n    import torch\n    torch.ones(1)"),
        ("x = 1", "from __future__ import annotations\nif TYPE_CHECKING:\n    import os\nx = 1"),
    ],
)
def test_layout_counts_nowhere(tmp_path: Path, one: str, other: str) -> None:
    files = [write(tmp_path / f"{number}.py", text) for number, text in enumerate((one, other))]
    first, second = (code_hash(file, places=True) for file in files)
    assert first == second


def test_a_function_of_nothing_but_a_docstring_hashes(tmp_path: Path) -> None:
    bare, reworded, passing = hashes(
        tmp_path,
        'class A:\n    """Doc."""\n\n\ndef f():\n    """Doc."""\n',
        'class A:\n    """Other."""\n\n\ndef f():\n    """Words."""\n',
        "class A:\n    pass\n\n\ndef f(): pass\n",
    )
    assert bare == reworded == passing


@pytest.mark.parametrize("text", ["def f(:", "x = 1\0", "# coding: no-such-code\nx = 1"])
def test_a_file_that_is_not_python_is_one_clear_line(tmp_path: Path, text: str) -> None:
    with pytest.raises(SteppeError, match=r"broken\.py is not Python \(.*\): correct it") as caught:
        code_hash(write(tmp_path / "broken.py", text))
    assert "\n" not in str(caught.value)


# -- built-in entries ----------------------------------------------------------------------------------


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
def test_a_helper_belongs_to_the_code_of_those_that_import_it(tmp_path: Path, line: str) -> None:
    entry = write(tmp_path / "baselines" / "mine.py", line)
    write(tmp_path / "baselines" / "shared.py", "from baselines.deeper import f")
    deeper = write(tmp_path / "baselines" / "deeper.py", "f = 1\nimport baselines.mine")
    alone = write(tmp_path / "baselines" / "alone.py", "import torch\nfrom suite.spec import Param\nx = 1")
    before, before_alone = source_hash(entry, tmp_path), source_hash(alone, tmp_path)
    write(deeper, "f = 2\nimport baselines.mine")
    assert source_hash(entry, tmp_path) != before
    write(deeper, "f = 1  # a comment\nimport baselines.mine")
    assert source_hash(entry, tmp_path) == before
    assert source_hash(alone, tmp_path) == before_alone == code_hash(alone)


@pytest.mark.parametrize(
    ("line", "file", "belongs"),
    [
        ("from suite.models.small import net", "suite/models/small.py", True),
        ("from suite.models import small", "suite/models/small.py", True),
        ("from suite.data.catalog import DIGITS", "suite/data/catalog.py", True),
        ("from suite.data import catalog", "suite/data/catalog.py", True),
        ("from suite.data.splits import split", "suite/data/splits.py", False),
        ("from suite.flat_params import FlatParams", "suite/flat_params.py", False),
        ("from suite.schedule import SHARED", "suite/schedule.py", False),
        ("from suite.schedule import SHARED", "suite/__init__.py", False),
        ("from slurm.state import x", "slurm/state.py", False),
        ("if TYPE_CHECKING:\n    from suite.models.small import net", "suite/models/small.py", False),
    ],
)
def test_which_modules_of_the_suite_belong_to_an_entry(
    tmp_path: Path, line: str, file: str, belongs: bool
) -> None:
    write(tmp_path / "suite" / "__init__.py", "")
    write(tmp_path / file, "x = 1")
    entries = [write(tmp_path / place, line) for place in ("tasks/mine.py", "elsewhere/mine.py")]
    before = [source_hash(entry, tmp_path) for entry in entries]
    write(tmp_path / file, "x = 2")
    assert [source_hash(e, tmp_path) != b for e, b in zip(entries, before, strict=True)] == [belongs] * 2


def test_the_built_in_wrappers_share_their_helpers() -> None:
    sam = ROOT / "baselines" / "sam.py"
    assert source_hash(sam) != code_hash(sam)


# -- plugins -------------------------------------------------------------------------------------------

IMPORTS = [
    "import helper",
    "from helper import x",
    "import helper as h",
    "def f():\n    import helper",
    "import pkg.sub",
    "from pkg.sub import x",
    "from pkg import sub",
    "from pkg import x",
    "import spread.sub",
    "from . import helper",
    "from .pkg import sub",
    "from .pkg.sub import x",
]


@pytest.mark.parametrize("place", ["in its folder", "on the path"])
@pytest.mark.parametrize("line", IMPORTS)
def test_an_edit_of_a_helper_of_a_helper_changes_a_plugin(
    tmp_path: Path, on_path: Path, line: str, place: str
) -> None:
    folder = tmp_path / "mine" if place == "in its folder" or "from ." in line else on_path
    entry = write(tmp_path / "mine" / "mine.py", line)
    write(folder / "helper.py", "from deeper import x")
    write(folder / "pkg" / "__init__.py", "import helper\nfrom deeper import x")
    write(folder / "pkg" / "sub.py", "import deeper\nx = deeper.x")
    write(folder / "spread" / "sub.py", "import deeper\nx = deeper.x")  # a package without __init__
    deeper = write(folder / "deeper.py", "import mine, helper\nx = 1")
    before = source_hash(entry)
    assert before != code_hash(entry)
    write(deeper, "import mine, helper\nx = 2")
    assert source_hash(entry) != before
    write(deeper, '"""Words."""\nimport mine, helper\n\nx = 1  # a comment')
    assert source_hash(entry) == before


def test_an_edit_is_seen_although_the_helper_was_imported_before(tmp_path: Path, on_path: Path) -> None:
    helper = write(on_path / "steppe_test_helper.py", "x = 1")
    entry = write(tmp_path / "mine.py", "from steppe_test_helper import x")
    try:
        importlib.import_module("steppe_test_helper")
        before = source_hash(entry)
        write(helper, "x = 2")
        assert source_hash(entry) != before
    finally:
        sys.modules.pop("steppe_test_helper", None)


def test_the_names_and_places_of_helpers_do_not_matter(tmp_path: Path, on_path: Path) -> None:
    code = "{}\nbuild = lambda: f(2)"
    one = write(tmp_path / "one.py", code.format("from helper import f"))
    write(on_path / "helper.py", "f = abs")
    other = write(tmp_path / "elsewhere" / "other.py", code.format("from packed.deep.renamed import f"))
    write(on_path / "packed" / "__init__.py", '"""A package."""')
    write(on_path / "packed" / "deep" / "renamed.py", "f = abs  # the same")
    twice = write(tmp_path / "twice.py", code.format("from helper import f\nfrom copied import f as g"))
    write(on_path / "copied.py", "f = abs")
    assert source_hash(one) == source_hash(other) == source_hash(twice) != code_hash(one)


def test_which_of_two_helpers_a_name_comes_from_counts(tmp_path: Path, on_path: Path) -> None:
    write(on_path / "first.py", "f = abs")
    write(on_path / "second.py", "f = max")
    both = "import first, second\nfrom {} import f\nbuild = lambda: f(2)"
    one = write(tmp_path / "one.py", both.format("first"))
    other = write(tmp_path / "other.py", both.format("second"))
    assert source_hash(one) != source_hash(other)


@pytest.mark.parametrize("line", ["from backend import Base\nBase(p)", "import backend\nbackend.Base(p)",
                                  "from backend import *\nBase(p)"])  # fmt: skip
def test_what_a_helper_passes_on_counts(tmp_path: Path, on_path: Path, line: str) -> None:
    entry = write(tmp_path / "mine.py", line)
    backend = write(on_path / "backend.py", "from torch.optim import SGD as Base")
    before = source_hash(entry)
    write(backend, "from torch.optim import Adam as Base")
    assert source_hash(entry) != before


@pytest.mark.parametrize(
    ("line", "file"),
    [
        ("import random", "random.py"),  # the standard module is already loaded
        ("import installed", "site-packages/installed.py"),
        ("import installed.sub", "site-packages/installed/sub.py"),
        ("import installed", "dist-packages/installed/__init__.py"),
        ("import compiled", "compiled.so"),
        ("import not_there", "other.py"),
        ("if TYPE_CHECKING:\n    import helper", "helper.py"),
        ("from .......... import helper", "helper.py"),
    ],
)
def test_what_does_not_belong_to_a_plugin(
    tmp_path: Path, on_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, file: str
) -> None:
    for name in ("site-packages", "dist-packages"):
        monkeypatch.syspath_prepend(str(on_path / name))
    entry = write(tmp_path / "mine" / "mine.py", line)
    write(on_path / file, "x = 1")
    assert source_hash(entry) == code_hash(entry)


def test_an_installed_entry_owns_its_top_level_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    site = tmp_path / "lib" / "site-packages"
    monkeypatch.syspath_prepend(str(site))
    lines = ["from ..maths import f", "from shop.maths import f", "from other import f", "import single"]
    write(site / "shop" / "__init__.py", "")
    entries = [
        write(site / "shop" / "optim" / f"mine{n}.py", f"{line}\nx = 1") for n, line in enumerate(lines)
    ]
    files = [write(site / name, "f = 1") for name in ("shop/maths.py", "other/__init__.py", "single.py")]
    before = [source_hash(entry) for entry in entries]
    for file in files:
        write(file, "f = 2")
    changed = [source_hash(entry) != old for entry, old in zip(entries, before, strict=True)]
    assert changed == [True, True, False, False]


def test_a_plugin_that_imports_helpers_gets_another_id_with_them(tmp_path: Path, on_path: Path) -> None:
    helper = write(on_path / "steppe_test_width.py", "WIDTH = 8")
    text = "import steppe_test_width\n" + PLUGIN.format(rate="steppe_test_width.WIDTH", words="w")
    listed = "OPTIMIZERS = [OptimizerSpec('mine', '1', 's', 't', {}, cost=lambda hyper: 1, build=build)]"
    entry = write(tmp_path / "my_plugin.py", f"{text}\n{listed}")
    try:
        ids = []
        for width in ("8", "64"):
            write(helper, f"WIDTH = {width}")
            ids.append(Registry([entry]).reference("optimizer", "mine", {}).plugin_source)
        assert ids[0] != ids[1]
    finally:
        sys.modules.pop("steppe_test_width", None)


def test_hashing_executes_nothing(tmp_path: Path) -> None:
    write(tmp_path / "loud" / "__init__.py", "raise SystemExit('executed')")
    write(tmp_path / "loud" / "sub.py", "raise SystemExit('executed')")
    entry = write(tmp_path / "mine.py", "import loud.sub\nraise SystemExit('executed')")
    code = f"from suite.code_hash import *; print(source_hash(Path({str(entry)!r})))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT
    )
    assert answer.stdout.strip() == source_hash(entry) != code_hash(entry)
