"""The token ranges of a sample; tests/integration/test_doctor.py reads them."""

from __future__ import annotations

import itertools

import pytest

from tfx_cassandra.components.doctor.sampling import tiles


@pytest.mark.parametrize('count', [1, 2, 3, 32, 1000])
def test_ranges_tile_the_ring(count: int) -> None:
    found = list(tiles(count))
    assert len(found) == count
    assert (found[0][0], found[-1][1]) == (-(2**63), 2**63 - 1)
    assert all(last + 1 == first for (_, last), (first, _) in itertools.pairwise(found))
    widths = [last - first for first, last in found]
    assert max(widths) - min(widths) <= 1
