"""Numerics of the objective: counter-based dropout, twice-differentiable passes, operation counts."""
