"""A real SLURM on one machine, for development and tests: `python -m tests.testbed up|down|status`.

munged, slurmctld and several slurmd (with accounting also MariaDB and slurmdbd) from Debian's packages, on
loopback, with pretended CPUs, memory and GPUs. Everything lives in one folder; SLURM_CONF points to it.
"""
