"""One thread in every test: sums differ between thread counts, and small tensors are faster on one.

And no mirror on Weights & Biases but where a test asks for one, whatever the caller's environment says.
"""

import os

import torch

torch.set_num_threads(1)

for name in [name for name in os.environ if name.startswith("WANDB_")]:
    del os.environ[name]
os.environ["WANDB_MODE"] = "disabled"
