"""Steppe as a library. Importing it loads neither torch nor wandb, and no task or optimizer.

Records and leaderboards: `load_records`, `leaderboard`, `render`, `write_site`, `write_figures`.
Sweeps: `Registry` finds the entries, `Selection` expands selectors into runs, `Store` holds the runs, `plan`
forecasts their cost, `publish` merges their records into a shared file. Each name is imported on first use.
Tasks and optimizers import the modules directly in this package, for instance `suite.spec` and `suite.task`.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

PROTOCOL = "fair-0.2"
"""Name and Major.Minor version of the comparison rules; records of different versions share no table."""

ENGINE = 2
"""Version of the code that trains and evaluates; it rises when the same spec gives different numbers.

Records of different engines share no table. `suite.engine_lock` reports when it must rise.
"""

PUBLIC = {
    "Registry": "suite.entries.registry",
    "Selection": "suite.entries.selection",
    "Store": "suite.store.folders",
    "leaderboard": "suite.report.boards",
    "load_records": "suite.report.boards",
    "plan": "suite.status.plan",
    "publish": "suite.publishing.publish",
    "render": "suite.report.boards",
    "write_figures": "suite.report.boards",
    "write_site": "suite.report.boards",
}
"""Module of each public function and class by name; modules that entries import are not listed."""

__all__ = ["ENGINE", "PROTOCOL", "__version__", *PUBLIC]


def __getattr__(name: str) -> Any:
    """Import a public function or class on first access."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'suite' has no attribute {name!r}; public are {', '.join(PUBLIC)}")
    return getattr(importlib.import_module(PUBLIC[name]), name)
