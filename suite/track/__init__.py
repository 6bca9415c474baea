"""The mirror of the store on Weights & Biases: no run waits for it, and it may fail in any way.

    launch.py   what a process that runs runs holds of it: lines into a pipe, never blocking
    sidecar.py  the detached process of a sweep: starts and kills the one below, tries again, gives up in time
    mirror.py   the process that imports wandb and writes runs; table.py a leaderboard
    process.py  how these processes start each other, and what they say to each other
    reader.py   reads wandb's offline files back
    mode.py     online, offline or off
    content.py  what W&B gets of a run
    state.py    the folder of a run: wandb's files, and what is mirrored already

Only the process of mirror.py loads wandb.
"""
