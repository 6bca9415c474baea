"""One thread in every test: sums differ between thread counts, and small tensors are faster on one."""

import torch

torch.set_num_threads(1)
