"""Optimizer entries, one file each: the maths, the class, and `OPTIMIZERS` with its `OptimizerSpec`s."""
