"""The promises of a task entry."""
