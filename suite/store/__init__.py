"""The store: run folders, attempts, leases, checkpoints, and the index of the records."""
