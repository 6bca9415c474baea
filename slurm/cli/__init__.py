"""Commands that speak to a cluster, found by name as those of suite/cli are."""
