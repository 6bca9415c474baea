"""Steppe's engine. It names no task and no optimizer; importing it loads neither torch nor wandb."""

__version__ = "0.2.0"

PROTOCOL = "fair-0.2"
"""Name and Major.Minor version of the comparison rules; records of different versions share no table."""

ENGINE = 2
"""Identity of the code that trains and scores; it rises where the same spec gives other numbers.

Records of different engines share no table. `suite.engine_lock` tells when it must rise.
"""
