"""Writes plugin files from the scaffold: with the maths filled in, and with one thing broken."""

from __future__ import annotations

from pathlib import Path

from suite.registry import Found, Registry
from suite.scaffold import scaffold

UNWRITTEN = 'raise SteppeError("the update rule is still to be written'
UPDATE = """\
        moments = self.state[p]
        if not moments:
            moments["momentum"] = torch.zeros_like(p)
        moments["momentum"].mul_(0.9).add_(grad)
        p.add_(moments["momentum"], alpha=-group["lr"])
"""
"""The maths that a user would fill in: SGD with momentum."""


def write(folder: Path, kind: str = "optimizer", name: str = "mine") -> Path:
    """Write the bare scaffold as a plugin file."""
    return scaffold(kind, name, folder / f"{name.replace('-', '_')}.py", Registry())


def fill(path: Path, update: str = UPDATE) -> Path:
    """Put an update rule in place of the line that raises."""
    lines = path.read_text().splitlines(keepends=True)
    place = next(number for number, line in enumerate(lines) if UNWRITTEN in line)
    lines[place] = update
    path.write_text("".join(lines))
    return path


def swap(path: Path, old: str, new: str) -> Path:
    """Replace one piece of the file, which must be there."""
    text = path.read_text()
    assert old in text, f"{old!r} is not in {path}"
    path.write_text(text.replace(old, new))
    return path


def found(path: Path, name: str = "mine") -> Found:
    """Load the entry of that plugin file."""
    return Registry([path]).optimizer(name)
