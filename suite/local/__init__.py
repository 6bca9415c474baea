"""Running a sweep on this machine: worker processes that outlive a run, and the table that shows them."""
