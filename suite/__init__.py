"""Steppe's engine. It names no task and no optimizer; importing it loads neither torch nor wandb."""

__version__ = "0.1.0"

PROTOCOL = "fair-0.1"
"""Name and Major.Minor version of the comparison rules; records of different versions share no table."""
