"""Scaffold of a new optimizer or task: one file, complete except for the maths, which raises an error."""

from __future__ import annotations

import os
import re
from pathlib import Path
from string import Template, capwords

from suite.code_hash import ROOT
from suite.entries.registry import Registry
from suite.errors import SteppeError

FOLDERS = {"optimizer": ROOT / "baselines", "task": ROOT / "tasks"}
"""Folder of the built-in entries by kind, and default folder of a new entry."""

TEMPLATES = Path(__file__).with_name("templates")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def scaffold(kind: str, name: str, file: Path | None, registry: Registry) -> Path:
    """Write the file of a new entry and return its path.

    Args:
        kind: "optimizer" or "task".
        name: name of the entry, lower-case words joined by hyphens.
        file: path of the file; None for a file of that name next to the built-in entries.
        registry: registry of the names that are taken.

    Raises:
        SteppeError: the name is malformed or taken, or the file exists or cannot be written.

    """
    if not _NAME.fullmatch(name):
        raise SteppeError(
            f"not a name of a new {kind}: {name!r}; write lower-case words joined by hyphens, like my-{kind}"
        )
    path = file if file is not None else FOLDERS[kind] / f"{name.replace('-', '_')}.py"
    if path.suffix != ".py":
        raise SteppeError(f"not a Python file: {path}; its name must end in .py")
    if path.exists():
        raise SteppeError(f"{path} exists and is not overwritten: choose another name, or --file PATH")
    taken = (registry.optimizers if kind == "optimizer" else registry.tasks).get(name)
    if taken is not None:
        raise SteppeError(f"the name {name!r} is taken by {taken.path}: choose another")
    try:
        with path.open("x", encoding="utf-8") as out:
            out.write(render(kind, name, path))
    except OSError as error:
        raise SteppeError(f"cannot write {path}: {error.strerror}; name another place with --file") from None
    return path


def render(kind: str, name: str, path: Path) -> str:
    """Fill the entry's names into the template of its kind; return the text of the file."""
    title = capwords(name.replace("-", " "))
    template = Template((TEMPLATES / f"{kind}.py.txt").read_text(encoding="utf-8"))
    return template.substitute(
        name=name,
        title=title,
        class_name=title.replace(" ", ""),
        file=shown(path),
    )


def shown(path: Path) -> str:
    """Return a path as a user types it: relative if it is below the current folder."""
    inside = os.path.relpath(path)
    return str(path) if inside.startswith("..") else inside
