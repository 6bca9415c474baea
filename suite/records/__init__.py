"""Records: the schema of what a finished run leaves, and where its numbers come from."""
