"""The terminal: tables of runs, redrawn in place or as plain lines."""
