"""Commands that need a cluster, found by name like those of suite/cli."""
