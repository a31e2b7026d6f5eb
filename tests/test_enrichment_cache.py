"""The key by which Beam's Enrichment caches: equal for rows with one answer, different for all others."""

from __future__ import annotations

import apache_beam as beam

from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.lookup.retrieve import CassandraEnrichmentHandler

VIEW = FeatureView('visits', 'visits', ('user', 'shop'), 'at', ('n',), join_columns=('who', 'where'))


def key(as_of: str = 'latest', view: FeatureView = VIEW, **fields: object) -> str:
    row = beam.Row(**{'who': 'ann', 'where': 1, 'asked': 5, 'other': 0, **fields})
    return CassandraEnrichmentHandler(CassandraConnection(), view, as_of).get_cache_key(row)


def test_rows_of_one_entity_have_one_key() -> None:
    assert key(other=1) == key(other=2)
    assert len({key(), key(who='bob'), key(where=2), key(where='1'), key(who='1', where='ann')}) == 5
    assert key(who="a', 'b", where='c') != key(who='a', where="b', 'c")


def test_a_moment_is_part_of_the_key_where_it_counts() -> None:
    assert key(asked=5) == key(asked=6)
    assert key('asked', asked=5) != key('asked', asked=6)
    assert key('asked', other=1) == key('asked', other=2)


def test_views_do_not_share_keys() -> None:
    view = FeatureView('others', 'visits', ('user', 'shop'), 'at', ('n',), join_columns=('who', 'where'))
    assert key() != key(view=view)
