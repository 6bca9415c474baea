"""Records of finished runs: their schema, and the provenance of their numbers."""
