"""Task entries, one file per task or family: each module lists its `TaskSpec`s in `TASKS`."""
