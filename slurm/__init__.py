"""Dispatch to SLURM through submitit. It imports the suite and the suite never imports it."""
