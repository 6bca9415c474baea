"""Dispatch of runs to SLURM through submitit. This package imports the suite; the suite never imports it."""
