"""Workers: a pool of processes on this machine that execute runs."""
