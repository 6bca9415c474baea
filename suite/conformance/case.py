"""An optimizer entry with some of its parameters overridden: what the battery is about."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suite.conformance.trial import Trial
from suite.entries.registry import Found
from suite.space import Value
from suite.spec import OptimizerSpec, resolve_params


@dataclass(frozen=True)
class Case:
    """One optimizer entry in one setting."""

    found: Found
    entry: OptimizerSpec
    overrides: Mapping[str, Value | str]

    def hyper(self, **extra: Value) -> dict[str, Value]:
        """Resolve every parameter; `extra` overrides those that the entry has."""
        known = {name: value for name, value in extra.items() if name in self.entry.params}
        return resolve_params(self.entry.params, {**self.overrides, **known}, f"optimizer {self.entry.name}")

    def at_defaults(self) -> Case:
        """Return the entry with nothing overridden."""
        return Case(self.found, self.entry, {})

    def trial(self, hyper: Mapping[str, Value] | None = None, **options: Any) -> Trial:
        """Put the entry to work on a small problem, see `Trial`."""
        return Trial(self.entry, self.hyper() if hyper is None else hyper, **options)
