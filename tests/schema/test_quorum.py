"""When live nodes cannot hold a majority of a keyspace's replicas."""

from __future__ import annotations

import pytest

from tfx_cassandra.components.schema.quorum import lacking

NETWORK = 'org.apache.cassandra.locator.NetworkTopologyStrategy'


@pytest.mark.parametrize(
    ('replication', 'live', 'expected'),
    [
        ({'class': NETWORK, 'dc1': '1'}, {'dc1': 1}, None),
        ({'class': NETWORK, 'dc1': '3'}, {'dc1': 2}, None),
        ({'class': NETWORK, 'dc1': '3'}, {'dc1': 1}, '3 copies on 1 live nodes in dc1, 1 of 2 that are needed'),
        ({'class': NETWORK, 'dc1': '3'}, {'dc1': 1, 'dc2': 5}, '3 copies on 1 live nodes in dc1, 1 of 2'),
        ({'class': NETWORK, 'dc1': '3', 'dc2': '2'}, {'dc1': 3}, None),
        ({'class': NETWORK, 'dc1': '3', 'dc2': '3'}, {'dc1': 3}, '3 copies on 3 live nodes in dc1 and 3 copies on 0'),
        ({'class': NETWORK, 'dc1': '3', 'dc2': '3'}, {'dc1': 3, 'dc2': 1}, None),
        ({'class': NETWORK, 'dc1': '3/1'}, {'dc1': 2}, None),
        ({'class': NETWORK, 'nowhere': '1'}, {'dc1': 1}, '1 copies on 0 live nodes in nowhere, 0 of 1'),
        ({'class': 'SimpleStrategy', 'replication_factor': '3'}, {'dc1': 1, 'dc2': 1}, None),
        ({'class': 'SimpleStrategy', 'replication_factor': '3'}, {'dc1': 1}, '3 copies on 1 live nodes, 1 of 2'),
        ({'class': 'org.apache.cassandra.locator.EverywhereStrategy'}, {'dc1': 1}, None),
    ],
)
def test_lacking(replication: dict[str, str], live: dict[str, int], expected: str | None) -> None:
    found = lacking(replication, live)
    assert found is None if expected is None else str(found).startswith(expected)
