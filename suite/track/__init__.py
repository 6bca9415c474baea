"""The mirror of the store on Weights & Biases: a sidecar that no run waits for and that may fail in any way.

    launch.py      what a process that runs runs holds of it: lines into a pipe, never blocking
    sidecar.py     the detached process of a sweep
    supervisor.py  starts and kills the process below, tries again, gives up in time
    mirror.py      the process that imports wandb and writes runs; table.py a leaderboard
    reader.py      reads wandb's offline files back
    mode.py        online, offline or off
    content.py     what W&B is told of a run
    state.py       what is mirrored already

Only mirror.py, reader.py and table.py load wandb, and only in that process.
"""
