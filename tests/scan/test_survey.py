"""How the cluster's answers are interpreted, from literal ones; tests/integration asks a real cluster."""

from __future__ import annotations

import contextlib
import dataclasses
import types

import pytest
from cassandra import InvalidRequest, ReadTimeout, cqltypes

from tfx_cassandra.components.cql.table import Table
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan import options, source, survey
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.page import token_of
from tfx_cassandra.components.scan.query import plan_scan
from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN, TokenRange
from tfx_cassandra.components.window import TimeWindow


@pytest.mark.parametrize('partitioner', ['RandomPartitioner', 'ByteOrderedPartitioner'])
def test_another_partitioner_is_refused(partitioner: str) -> None:
    metadata = types.SimpleNamespace(partitioner=f'org.apache.cassandra.dht.{partitioner}')
    session = types.SimpleNamespace(cluster=types.SimpleNamespace(metadata=metadata))
    with pytest.raises(SchemaError, match=f'partitioner: got .*{partitioner}, rule: Murmur3Partitioner'):
        survey.owned_ranges(session, 'ks', 'dc1')


@pytest.mark.parametrize(
    ('bounds', 'expected'),
    [
        ((3, 9), (3, 9)),
        ((MIN_TOKEN, MAX_TOKEN), (MIN_TOKEN, MAX_TOKEN)),
        ((0, -(2**60)), (0, MAX_TOKEN)),
        ((2**62, 0), (MIN_TOKEN, 0)),
    ],
)
def test_of_a_range_that_wraps_around_the_wider_part_counts(bounds: tuple[int, int], expected: tuple[int, int]) -> None:
    assert survey._unwrapped(*bounds) == [TokenRange(*expected)]


@pytest.mark.parametrize(
    ('key', 'token'),
    [
        # SELECT token(...) of Cassandra 5.0.8 for ('a'), ('a', 'b') and (1, '').
        ([b'a'], -8839064797231613815),
        ([b'a', b'b'], 7470152180878494447),
        ([(1).to_bytes(4, 'big'), b''], -6115126023624040605),
    ],
)
def test_tokens_are_the_server_s(key: list[bytes], token: int) -> None:
    assert token_of(key) == token


def _cluster(centers: dict[str, str], replicas: tuple[str, ...]) -> types.SimpleNamespace:
    """A session to nodes (address -> data center) of which some hold the one range there is."""
    hosts = [types.SimpleNamespace(endpoint=node, datacenter=center) for node, center in centers.items()]
    held = [host for host in hosts if host.endpoint in replicas]
    tokens = types.SimpleNamespace(ring=[], get_replicas=lambda keyspace, token: held)
    metadata = types.SimpleNamespace(partitioner='Murmur3Partitioner', token_map=tokens)
    return types.SimpleNamespace(cluster=types.SimpleNamespace(metadata=metadata))


@pytest.mark.parametrize(('replicas', 'named'), [(('b', 'c'), 'dc2, dc3'), ((), 'none')])
def test_a_data_center_without_replicas_is_an_error(replicas: tuple[str, ...], named: str) -> None:
    session = _cluster({'a': 'dc1', 'b': 'dc2', 'c': 'dc3'}, replicas)
    owned = survey.owned_ranges(session, 'ks', 'dc1')
    rule = rf"^local_datacenter: got 'dc1', rule: a data center that keyspace ks is replicated to \({named}\)$"
    with pytest.raises(SchemaError, match=rule):
        survey.check_replicated(session, 'ks', owned, 'dc1')


def test_a_data_center_with_replicas_is_accepted() -> None:
    session = _cluster({'a': 'dc1', 'b': 'dc2'}, ('a',))
    survey.check_replicated(session, 'ks', survey.owned_ranges(session, 'ks', 'dc1'), 'dc1')


@pytest.mark.parametrize('consistency', ['LOCAL_ONE', 'LOCAL_QUORUM'])
def test_no_scan_is_planned_where_nothing_is_replicated_to(consistency: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session, table = _cluster({'a': 'dc1', 'b': 'dc2'}, ('b',)), Table('ks', 't', ('k',), (), (('k', 'int'),))
    monkeypatch.setattr(source.connections, 'session', lambda *_, **__: contextlib.nullcontext(session))
    monkeypatch.setattr(options.ReadRequest, 'scan', lambda *_: plan_scan(table))
    request = options.ReadRequest(CassandraConnection(), 't', options=ReadOptions(consistency))
    # The fake session can do nothing else, so the error is raised before anything is asked.
    with pytest.raises(SchemaError, match=r"^local_datacenter: got 'dc1', rule: .* ks is replicated to \(dc2\)$"):
        source.plan_splits(request)


@pytest.mark.parametrize(
    ('error', 'allowed'),
    [
        (None, True),
        (InvalidRequest('Guardrail allow_filtering violated: Querying with ALLOW FILTERING is not allowed'), False),
        (ReadTimeout('slow', consistency=1), True),  # the scan has patience
    ],
)
@pytest.mark.parametrize('step', ['prepare', 'execute'])
def test_whether_slices_are_allowed_is_tried(error: Exception | None, allowed: bool, step: str) -> None:
    table = Table('ks', 't', ('k',), ('at',), (('k', 'int'), ('at', 'timestamp')))

    def answer(*_: object) -> types.SimpleNamespace:
        return types.SimpleNamespace()

    def fail(*_: object) -> types.SimpleNamespace:
        if error is not None:
            raise error
        return answer()

    session = types.SimpleNamespace(**{'prepare': answer, 'execute': answer, step: fail})
    assert survey.takes_slices(session, plan_scan(table)) is allowed


def test_where_filtering_is_forbidden_no_statement_asks_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def prepare(cql: str) -> types.SimpleNamespace:
        if 'FILTERING' in cql:
            raise InvalidRequest('Guardrail allow_filtering violated: Querying with ALLOW FILTERING is not allowed')
        metadata = [('ks', 't', 'k', cqltypes.Int32Type), ('ks', 't', 'at', cqltypes.DateType)]
        return types.SimpleNamespace(result_metadata=metadata)

    monkeypatch.setattr(source.identity, 'identity', lambda *_: None)
    session = types.SimpleNamespace(prepare=prepare)
    table = Table('ks', 't', ('k',), ('at',), (('k', 'int'), ('at', 'timestamp')))
    scan = plan_scan(table, ['k'], TimeWindow.parse('2013-01-01T00:00Z/2013-01-02T00:00Z'))
    assert survey.arrow_schema(session, scan).names == ['k']
    allowed = source._as_allowed(session, session, scan)
    assert 'FILTERING' not in allowed.cql(allowed.times)
    assert (allowed.window, allowed.columns) == (scan.window, scan.columns)


def test_without_slices_a_window_is_filtered_by_the_workers() -> None:
    table = Table('ks', 't', ('k',), ('at',), (('k', 'int'), ('at', 'timestamp')))
    window = TimeWindow.parse('2013-01-01T00:00Z/2013-01-02T00:00Z')
    scan = dataclasses.replace(plan_scan(table, ['k'], window), slices=False)
    assert 'FILTERING' not in scan.cql(scan.times)
    assert (scan.pushed_down, scan.sliced_column, scan.selected) == (False, None, ('at',))
