"""Shares: over all readers every unit exactly once, whatever the numbers, with nobody asked."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

pytest.importorskip('torch', reason='needs the extra torch (tools/torch)')

from tfx_cassandra.components.torch import shares
from tfx_cassandra.components.torch.shares import Reader


@pytest.mark.parametrize(('ranks', 'workers'), itertools.product(range(1, 5), range(1, 5)))
@pytest.mark.parametrize('units', [0, 1, 3, 16, 97])
def test_each_unit_is_in_one_share(units: int, ranks: int, workers: int) -> None:
    readers = [Reader(rank, ranks, worker, workers) for rank in range(ranks) for worker in range(workers)]
    order = shares.order(units, seed=3, epoch=1)
    found = [unit for reader in readers for unit in shares.share(order, reader)]
    assert sorted(found) == list(range(units))
    sizes = [sum(len(shares.share(order, r)) for r in readers if r.rank == rank) for rank in range(ranks)]
    assert max(sizes) - min(sizes) <= workers


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert shares.order(6, seed=0, epoch=0).tolist() == [2, 0, 3, 1, 5, 4]  # in every version of numpy
    orders = {tuple(shares.order(50, seed, epoch)) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert shares.order(5, 1, 2, shuffle=False).tolist() == [0, 1, 2, 3, 4]


def test_an_order_is_as_random_as_a_permutation() -> None:
    """The mean place of each unit, over many epochs, against that of a uniform permutation (five standard errors)."""
    places = np.array([np.argsort(shares.order(20, 0, epoch)) for epoch in range(2000)])  # (epochs, units)
    error = np.sqrt((20**2 - 1) / 12 / 2000)
    assert np.abs(places.mean(axis=0) - 9.5).max() < 5 * error


@pytest.mark.parametrize('wrong', [(1, 1, 0, 1), (-1, 2, 0, 1), (0, 1, 2, 2)])
def test_a_reader_that_cannot_be(wrong: tuple[int, int, int, int]) -> None:
    with pytest.raises(ValueError, match=r'rule: from 0 to'):
        Reader(*wrong)


def test_the_rank_of_torchrun() -> None:
    assert shares.distributed({'RANK': '2', 'WORLD_SIZE': '4'}) == (2, 4)
    assert shares.distributed({'RANK': '2'}) == (0, 1)
    assert shares.distributed({}) == (0, 1)
