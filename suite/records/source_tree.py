"""Digest of the source code of the suite as a whole. Loads no torch."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import PurePosixPath

SOURCE = ("baselines", "suite", "tasks")
"""Packages whose files are part of the digest."""

DIRTY = "-dirty"
"""Suffix of a commit's name if files differ from the commit."""


def tree_digest(files: Mapping[str, bytes]) -> str:
    """Return the SHA-256 of the Python files among those given by path from the root: names and lines."""
    digest = hashlib.sha256()
    for package in SOURCE:
        inside = (name for name in files if name.startswith(f"{package}/") and name.endswith(".py"))
        for name in sorted(name for name in inside if not PurePosixPath(name).name.startswith(".")):
            text = files[name].replace(b"\r\n", b"\n")
            digest.update(b"%d %s\n%d\n" % (len(name.encode()), name.encode(), len(text)))
            digest.update(text)
    return digest.hexdigest()
