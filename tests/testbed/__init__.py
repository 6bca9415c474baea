"""A real SLURM on one machine, for development and tests: `python -m tests.testbed up|down|status`.

It runs munged, slurmctld and several slurmd (with accounting also MariaDB and slurmdbd) of Debian's packages
on loopback, with simulated CPUs, memory and GPUs. All files are in one folder; SLURM_CONF points to it.
"""
