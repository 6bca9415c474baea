"""Steppe as a library. Importing it loads neither torch nor wandb; it names no task and no optimizer.

Records and leaderboards: `load_records`, `leaderboard`, `render`, `write_site`, `write_figures`.
Sweeps: `Registry` finds the entries, `Selection` spans runs, `Store` keeps them, `plan` forecasts them,
`publish` writes their records for others. Each is loaded when it is first used. What tasks and optimizers
import are the modules of this package itself: `suite.spec`, `suite.task`, `suite.objective` and the like.
"""

import importlib
from typing import Any

__version__ = "0.2.0"

PROTOCOL = "fair-0.2"
"""Name and Major.Minor version of the comparison rules; records of different versions share no table."""

ENGINE = 2
"""Identity of the code that trains and scores; it rises where the same spec gives other numbers.

Records of different engines share no table. `suite.engine_lock` tells when it must rise.
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
"""By name, the module of everything that is public next to what entries import."""

__all__ = ["ENGINE", "PROTOCOL", "__version__", *PUBLIC]


def __getattr__(name: str) -> Any:
    """Load a public function or class when it is first asked for."""
    if name not in PUBLIC:
        raise AttributeError(f"module 'suite' has no attribute {name!r}; public are {', '.join(PUBLIC)}")
    return getattr(importlib.import_module(PUBLIC[name]), name)
