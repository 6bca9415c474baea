"""The store: folders of runs, attempts at them, leases, checkpoints, and the index of the records."""
