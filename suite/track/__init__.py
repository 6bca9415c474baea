"""The mirror of the store on Weights & Biases. No run waits for it or fails because of it.

    launch.py             handle to the sidecar, with a non-blocking pipe
    sidecar.py            detached process of a sweep; supervises the mirror process, with retries
    mirror.py             process that imports wandb and writes runs
    leaderboard_table.py  writes a leaderboard
    wandb_process.py      start of these processes, and their messages
    mirror_folder.py      folder of a run: wandb's files, markers of what is mirrored, a lock
    reader.py             reads wandb's offline files
    mode.py               online, offline or off
    content.py            content of a run on W&B

Only the process of mirror.py loads wandb.
"""
