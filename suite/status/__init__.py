"""Status: what can be said of the runs of a store while they run, and how long they will take."""
