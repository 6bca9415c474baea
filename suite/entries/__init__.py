"""Entries: finds tasks and optimizers by name, resolves selectors to runs, writes scaffolds of new ones."""
