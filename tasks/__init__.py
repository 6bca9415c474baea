"""Task entries, one file a task or a family: each module lists its `TaskSpec`s in `TASKS`."""
