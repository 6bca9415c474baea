"""An ordinary PyTorch loop on the images and network of cifar10-resnet8-5k, to compare the suite's SGD with.

`python -m tests.plain_loop DATA_FOLDER [SEED]`: 65.0 % on cifar10-jpeg with seed 0, 6 minutes of one core.
"""

import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms as tf

PLAIN = [tf.ToTensor(), tf.Normalize((0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))]
AUGMENTED = [tf.RandomCrop(32, padding=4), tf.RandomHorizontalFlip(), *PLAIN]


class Images(Dataset):
    def __init__(self, x: Tensor, y: Tensor, steps: list) -> None:
        self.x, self.y, self.transform = x, y, tf.Compose([tf.ToPILImage(), *steps])

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        return self.transform(self.x[i]), int(self.y[i])


def train(model: nn.Module, loader: DataLoader, epochs: int = 40, lr: float = 0.1) -> None:
    total, warmup = epochs * len(loader), 0.05 * epochs * len(loader)
    cosine = lambda t: 0.5 + 0.5 * math.cos(math.pi * (t - warmup) / (total - warmup))  # noqa: E731
    sgd = torch.optim.SGD(model.parameters(), lr, momentum=0.9, weight_decay=5e-4)
    schedule = torch.optim.lr_scheduler.LambdaLR(sgd, lambda t: (t + 1) / warmup if t < warmup else cosine(t))
    model.train()
    for _ in range(epochs):
        for x, y in loader:
            sgd.zero_grad()
            nn.functional.cross_entropy(model(x), y).backward()
            sgd.step()
            schedule.step()


def accuracy(model: nn.Module, data: Images) -> float:
    model.eval()
    with torch.no_grad():
        return sum((model(x).argmax(1) == y).sum().item() for x, y in DataLoader(data, 500)) / len(data)


if __name__ == "__main__":
    from suite.data import choose, splits
    from tasks.cifar10 import small

    torch.manual_seed(int((sys.argv[2:] or ["0"])[0]))
    root, task = Path(sys.argv[1]), small()
    where, net = (task, choose.choose_dataset(task, root), root, None), task.model()
    drawn = splits.training_data(*where)
    train(net, DataLoader(Images(drawn.x, drawn.y, AUGMENTED), 128, shuffle=True))
    print(f"test accuracy {accuracy(net, Images(*splits.test_data(*where), PLAIN)):.4f}")
