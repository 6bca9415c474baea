"""The cluster of tests/slurm, for the tests of the testbed itself."""

from tests.slurm.conftest import calm, cluster

__all__ = ["calm", "cluster"]
