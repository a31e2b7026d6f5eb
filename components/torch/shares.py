"""Which reader reads which units: the shares of all workers of all ranks are every unit exactly once, by arithmetic.

    units 0 .. n-1  -- permuted by seed and epoch -->  order  -- place i of it to reader i modulo readers -->  shares

A unit is what one reader reads from beginning to end, such as a range of tokens. Every reader computes the same order
by itself, so that readers need not talk to each other, and any number of them may be killed and started again.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tfx_cassandra.components.errors import invalid


@dataclasses.dataclass(frozen=True)
class Reader:
    """One of the processes that read an epoch together.

    Attributes:
      rank, ranks: Which of the distributed processes, from 0, and how many there are.
      worker, workers: Which worker of the rank's DataLoader, from 0, and how many there are; one without workers.
    """

    rank: int = 0
    ranks: int = 1
    worker: int = 0
    workers: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.rank < self.ranks:
            raise invalid('rank', self.rank, f'from 0 to world_size - 1, which is {self.ranks - 1}')
        if not 0 <= self.worker < self.workers:
            raise invalid('worker', self.worker, f'from 0 to {self.workers - 1}')

    @property
    def index(self) -> int:
        """Its number among all readers. Neighbours are of different ranks, which so get equal numbers of units."""
        return self.worker * self.ranks + self.rank

    @property
    def count(self) -> int:
        """Number of all readers."""
        return self.ranks * self.workers

    def __str__(self) -> str:
        return f'worker {self.worker} of {self.workers} of rank {self.rank} of {self.ranks}'


def current(rank: int | None = None, ranks: int | None = None) -> Reader:
    """Returns the reader that this process is.

    Args:
      rank, ranks: The distributed process; None for those of torch.distributed where it is initialized, else for those
        of the environment variables RANK and WORLD_SIZE, as torchrun sets them, else for a single process.
    """
    from torch.utils.data import get_worker_info

    if rank is None or ranks is None:
        rank, ranks = distributed()
    worker = get_worker_info()
    return Reader(rank, ranks) if worker is None else Reader(rank, ranks, worker.id, worker.num_workers)


def distributed(environ: Mapping[str, str] = os.environ) -> tuple[int, int]:
    """Returns (rank, number of ranks) of this process."""
    from torch import distributed as dist

    if dist.is_available() and dist.is_initialized():
        return dist.get_rank(), dist.get_world_size()
    texts = environ.get('RANK', ''), environ.get('WORLD_SIZE', '')
    return (int(texts[0]), int(texts[1])) if all(text.isdigit() for text in texts) else (0, 1)


def order(units: int, seed: int, epoch: int, shuffle: bool = True) -> NDArray[np.int64]:  # (units)
    """Returns the order of all units in an epoch."""
    return generator(seed, epoch).permutation(units).astype(np.int64) if shuffle else np.arange(units)


def share(order_of_units: NDArray[np.int64], reader: Reader) -> list[int]:
    """Returns a reader's units, in order."""
    units: list[int] = order_of_units[reader.index :: reader.count].tolist()
    return units


def generator(*parts: Any) -> np.random.RandomState:
    """Returns a generator that depends on the parts only, in every version of numpy: its stream is frozen."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return np.random.RandomState(np.frombuffer(digest, np.uint32))
