"""Entries: finds tasks and optimizers by name, resolves selectors to runs, writes new files of either."""
