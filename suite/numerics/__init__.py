"""Numerics of the objective: dropout by counters, passes to differentiate twice, counted operations."""
