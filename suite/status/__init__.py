"""Status of the runs of a store, and forecasts of the time that they take."""
