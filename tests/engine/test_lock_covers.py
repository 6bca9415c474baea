"""The lock knows where names come from, and holds all that a number passes through."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from suite.data.choose import choose_data
from suite.engine.precision import configure
from suite.engine.remeasure import remeasure
from suite.engine_lock.check import differences, locked
from suite.entries.registry import Registry
from suite.records.schema import pack_right, to_document
from suite.store import checkpoint
from suite.store.attempt import Attempt
from suite.store.lines import finite, read_lines
from tests.engine.edits import append, file_of, replace


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        # A name from elsewhere.
        ("suite.engine.steps", "from suite.schedule import lr_factor", "from suite.space import lr_factor"),
        ("suite.engine.record", "from suite.store.lines import finite", "from suite.files import finite"),
        ("suite.engine.record", "from suite import sharpness\n", "from suite import space as sharpness\n"),
        ("suite.engine.record", "from suite import sharpness\n", "import suite.space as sharpness\n"),
        ("suite.sharpness.lpf", "from suite.flat_params import", "from suite.space import"),
        # An import for what it does.
        ("suite.objective", "import warnings\n", "import warnings\nimport faulty\n"),
        ("suite.engine.steps", "import copy\n", "import copy\nfrom faulty import patches\n"),
        ("suite.sharpness.lpf", "import torch\n", "import torch\nimport faulty.inner\n"),
    ],
)
def test_what_is_imported_from_where_is_noticed(copied: Path, module: str, old: str, new: str) -> None:
    replace(file_of(copied, module), old, new)
    (line,) = differences(copied)
    assert line.startswith(
        (f"{module} changed: ", f"{module}, or what it uses of suite.sharpness, changed: ")
    )


def test_where_in_a_module_an_import_stands_is_free(copied: Path) -> None:
    path = file_of(copied, "suite.engine.steps")
    replace(path, "import copy\n", "")
    replace(
        path, "    other = copy.deepcopy(model)\n", "    import copy\n\n    other = copy.deepcopy(model)\n"
    )
    append(path, "\nif TYPE_CHECKING:\n    from somewhere import Something\n")
    assert differences(copied) == []


def test_a_package_in_the_place_of_a_module_is_noticed(copied: Path) -> None:
    folder = copied / "suite" / "schedule"
    folder.mkdir()
    (folder / "__init__.py").write_text("lr_factor = None\n")  # Python takes this one
    try:
        (line,) = differences(copied)
    finally:
        shutil.rmtree(folder)
    assert line.startswith("suite.schedule changed: ")


def test_code_of_entries_is_free_until_the_engine_uses_it(copied: Path) -> None:
    (copied / "tasks").mkdir(exist_ok=True)
    (copied / "tasks" / "mine.py").write_text("from suite.models.small import digits_cnn\n")
    append(file_of(copied, "suite.models.small"), "\n_EDITED = 1\n")
    assert differences(copied) == []  # it is part of the hash of that entry
    append(file_of(copied, "suite.engine.steps"), "\nfrom suite.models.small import digits_cnn\n")
    found = [line.partition(" ")[0] for line in differences(copied)]
    assert found == ["suite.engine.steps", "suite.models", "suite.models.small"]


@pytest.mark.parametrize(
    "passed",
    [
        finite,  # results, facts and columns of every record
        read_lines,  # the rows that a task concludes from
        Attempt.rows,
        Attempt.resume,
        checkpoint.load,
        checkpoint.save,
        pack_right,  # which test examples were right
        to_document,
        choose_data,
        Registry.resolve_task,
        Registry.resolve_optimizer,
        configure,
        remeasure,  # what `steppe measure --write` puts into a record
    ],
)
def test_what_numbers_pass_through_is_locked(passed: Callable[..., object]) -> None:
    assert passed.__module__ in locked().modules
