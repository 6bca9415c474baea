"""The format of `suite/engine.lock`: the engine's number, its modules, and the estimators of the measures."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass

from suite.errors import SteppeError

NAME = "suite/engine.lock"
"""Path of the lock, relative to the folder that holds the packages."""

_HEAD = "# The engine that ENGINE stands for. Written by `python -m suite.engine_lock`, never by hand.\n"


@dataclass(frozen=True)
class Estimator:
    """A module of measures: its version, the hash of its code, and the measures that it computes."""

    version: int
    code: str
    measures: tuple[str, ...]


@dataclass(frozen=True)
class Lock:
    """The number of an engine and the code that it stands for."""

    engine: int
    modules: Mapping[str, str]
    """Hash by module."""
    estimators: Mapping[str, Estimator]
    """Estimator by module of `suite.sharpness`."""

    @property
    def measures(self) -> dict[str, int]:
        """Version of each measure by name."""
        return {name: one.version for one in self.estimators.values() for name in one.measures}

    def text(self) -> str:
        """Return the content of `engine.lock`."""
        modules = [f'"{name}" = "{code}"' for name, code in sorted(self.modules.items())]
        estimators = [
            f'"{name}" = {{ version = {one.version}, measures = {json.dumps(one.measures)}, '
            f'code = "{one.code}" }}'
            for name, one in sorted(self.estimators.items())
        ]
        parts = [f"engine = {self.engine}", "", "[modules]", *modules, "", "[estimators]", *estimators, ""]
        return _HEAD + "\n".join(parts)


def parse(raw: bytes) -> Lock:
    """Read the content of an `engine.lock`; SteppeError if it is damaged."""
    try:
        found = tomllib.loads(raw.decode())
        estimators = {
            name: Estimator(int(one["version"]), str(one["code"]), tuple(one["measures"]))
            for name, one in found["estimators"].items()
        }
        return Lock(int(found["engine"]), dict(found["modules"]), estimators)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise SteppeError(f"{NAME} is damaged ({error}): restore it with `git checkout {NAME}`") from None
