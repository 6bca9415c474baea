"""One-file scaffolds for a new optimizer or task: complete but for the maths, which raises until written."""

from __future__ import annotations

import os
import re
from pathlib import Path
from string import Template, capwords

from suite.code_hash import ROOT
from suite.entries.registry import Registry
from suite.errors import SteppeError

FOLDERS = {"optimizer": ROOT / "baselines", "task": ROOT / "tasks"}
"""Where the built-in entries of each kind live, and new ones go unless a file is named."""

TEMPLATES = Path(__file__).with_name("templates")

_NAME = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")


def scaffold(kind: str, name: str, file: Path | None, registry: Registry) -> Path:
    """Write the file of a new entry and return its path.

    Args:
        kind: "optimizer" or "task".
        name: of the entry: lower-case words joined by hyphens.
        file: where to write; None is a file of that name next to the built-in entries.
        registry: whose names are taken.

    Raises:
        SteppeError: a name that is malformed or taken, a file that exists or cannot be written.

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
    """Return the text of the file: the kind's template with the entry's names filled in."""
    title = capwords(name.replace("-", " "))
    template = Template((TEMPLATES / f"{kind}.py.txt").read_text(encoding="utf-8"))
    return template.substitute(
        name=name,
        title=title,
        class_name=title.replace(" ", ""),
        file=shown(path),
    )


def shown(path: Path) -> str:
    """Return a path as a user would type it: relative to the present folder where it lies below it."""
    inside = os.path.relpath(path)
    return str(path) if inside.startswith("..") else inside
