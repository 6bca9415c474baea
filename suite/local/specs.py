"""The specs of thousands of runs, read quickly: most differ by their seed only.

What they share is parsed and held once. Each is still checked against its run's id.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, NamedTuple

from suite.spec import canonical_json, sha256_text
from suite.store import RunFolder

_SEED = re.compile(rb'"seed": ?(\d+)')


class _Shape(NamedTuple):
    """A spec whose seed is left open, and its canonical text before and after the seed."""

    spec: dict[str, Any]
    before: str
    after: str


class Specs:
    """Reads specs of the runs in the folder `runs`, and keeps what they share."""

    def __init__(self, runs: Path) -> None:
        self._runs = str(runs)
        self._shapes: dict[tuple[bytes, bytes], _Shape] = {}

    def read(self, run_id: str) -> dict[str, Any]:
        """Return a run's spec as plain data; SteppeError where `RunFolder.spec` raises it."""
        spec = self._quickly(run_id)
        return RunFolder(Path(self._runs, run_id)).spec().to_dict() if spec is None else spec

    def _quickly(self, run_id: str) -> dict[str, Any] | None:
        try:
            with open(f"{self._runs}/{run_id}/spec.json", "rb") as file:
                parts = _SEED.split(file.read())
            before, seed, after = parts  # more parts: a parameter of that name
            shape = self._shapes.get((before, after))
            if shape is None:
                shape = self._shapes[before, after] = _shape(json.loads(b'"seed":0'.join((before, after))))
            number = int(seed)
        except (OSError, ValueError, TypeError):
            return None
        if sha256_text(f"{shape.before}{number}{shape.after}")[:16] != run_id:
            return None
        return {**shape.spec, "seed": number}


def _shape(spec: Any) -> _Shape:
    before, after = canonical_json(spec).split('"seed":0')
    return _Shape(dict(spec), f'{before}"seed":', after)
