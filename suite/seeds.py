"""Named random streams: every draw is a pure function of (seed, stream name, counters).

Streams of a run (from its seed): `init`, `order`, `augment`, `perturb`, `dropout`, `measure`.
Streams of a task (the same for every run): `split`, `label-noise`.

Therefore the same seed gives every optimizer the same initial weights, batch order and augmentation, extra
noise drawn by one optimizer shifts no other stream, and resuming needs no saved RNG state.
"""

from __future__ import annotations

import hashlib
import struct

import torch

TASK_SEED = 0
"""Seed of the streams that belong to a task and not to a run."""


def stream_seed(seed: int, name: str, *counters: int) -> int:
    """Return a 63-bit seed for draw `counters` of stream `name`: the head of a BLAKE2b hash of all of them.

    torch's CPU generator (mt19937) uses only the low 32 bits.

    >>> stream_seed(0, "order", 3) == stream_seed(0, "order", 3) != stream_seed(0, "order", 4)
    True
    """
    packed = struct.pack(f"<q{len(counters)}q", seed, *counters)
    digest = hashlib.blake2b(packed, digest_size=8, key=name.encode()[:64]).digest()
    return int.from_bytes(digest, "little") >> 1


class Streams:
    """The streams of one seed. The generator is re-seeded in place, which is cheaper than `manual_seed`."""

    def __init__(self, seed: int, device: torch.device | str = "cpu") -> None:
        self.seed = seed
        self._generator = torch.Generator(device=device)

    def generator(self, name: str, *counters: int) -> torch.Generator:
        """Return the generator at the start of the named stream; valid until the next call."""
        self._generator.manual_seed(stream_seed(self.seed, name, *counters))
        return self._generator

    def seed_global(self, name: str, *counters: int) -> None:
        """Set torch's global generators, which library code uses, to the start of the named stream."""
        seed = stream_seed(self.seed, name, *counters)
        torch.default_generator.manual_seed(seed)
        if self._generator.device.type == "cuda":
            torch.cuda.manual_seed(seed)


class NormalStream:
    """Standard normals for weight perturbations, by default from the run's `perturb` stream."""

    def __init__(self, seed: int, name: str = "perturb") -> None:
        self.seed = seed
        self.name = name
        self._generators: dict[torch.device, torch.Generator] = {}

    def fill_(self, out: torch.Tensor, *counters: int) -> torch.Tensor:
        """Fill `out` in place with N(0, 1): a pure function of (seed, name, counters, shape, device).

        >>> noise, out = NormalStream(seed=1), torch.empty(4)
        >>> first = noise.fill_(out, 0).clone()
        >>> torch.equal(first, noise.fill_(out, 1)), torch.equal(first, noise.fill_(out, 0))
        (False, True)
        """
        generator = self._generators.get(out.device)
        if generator is None:
            generator = self._generators.setdefault(out.device, torch.Generator(device=out.device))
        generator.manual_seed(stream_seed(self.seed, self.name, *counters))
        return out.normal_(generator=generator)
