"""What is made of the cluster's answers, from literal ones; tests/integration asks a real cluster."""

from __future__ import annotations

import types

import pytest

from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.scan import survey
from tfx_cassandra.components.scan.page import token_of
from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN, TokenRange


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
