"""Ranges that nodes own, against the driver's own map of replicas, which is written another way."""

from __future__ import annotations

import json
import random

import pytest
from cassandra.metadata import Murmur3Token, ReplicationStrategy, TokenMap
from cassandra.policies import SimpleConvictionPolicy
from cassandra.pool import Host

from tfx_cassandra.components.backup.ownership import (
    Place,
    Ring,
    check_tiled,
    places_of,
    replication_of,
    shared_out,
)
from tfx_cassandra.components.errors import CoverageError, ReadError
from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN, RING, TokenRange

SIMPLE = 'SimpleStrategy'
TOPOLOGY = 'NetworkTopologyStrategy'


def made_ring(seed: int) -> Ring:
    rng = random.Random(seed)
    centers = {f'dc{i}': rng.randint(1, 4) for i in range(rng.randint(1, 3))}  # name -> racks
    vnodes = rng.choice([1, 1, 3, 8])
    nodes = {}
    for i in range(rng.randint(1, 9)):
        center = rng.choice(list(centers))
        tokens = tuple(rng.randrange(MIN_TOKEN + 1, MAX_TOKEN) for _ in range(vnodes))
        nodes[f'10.0.0.{i}'] = Place(tokens, center, f'rack{rng.randrange(centers[center])}')
    if rng.random() < 0.3:
        return Ring(
            nodes, {'class': f'org.apache.cassandra.locator.{SIMPLE}', 'replication_factor': f'{rng.randint(1, 5)}'}
        )
    return Ring(nodes, {'class': TOPOLOGY, **{name: str(rng.randint(0, 5)) for name in centers}})


def by_driver(ring: Ring, tokens: list[int]) -> list[list[str]]:
    """Returns the addresses that the driver gives for tokens."""
    hosts = {}
    for name, place in ring.nodes.items():
        host = Host(name, SimpleConvictionPolicy)
        host.set_location_info(place.data_center, place.rack)
        for token in place.tokens:
            hosts[Murmur3Token(token)] = host
    factors = {name: text for name, text in ring.replication.items() if name != 'class'}
    strategy = ReplicationStrategy.create(ring.replication['class'].rpartition('.')[2], factors)
    ordered = sorted(hosts)
    replicas = strategy.make_token_replica_map(hosts, ordered)
    known = TokenMap(Murmur3Token, hosts, ordered, None)
    known.tokens_to_hosts_by_ks = {'k': replicas}
    return [[host.address for host in known.get_replicas('k', Murmur3Token(token))] for token in tokens]


def test_owned_ranges_are_those_of_the_driver() -> None:
    for seed in range(300):
        ring = made_ring(seed)
        cuts = [token for place in ring.nodes.values() for token in place.tokens]
        tokens = sorted(
            {MIN_TOKEN + 1, MAX_TOKEN, *cuts, *(token + 1 for token in cuts), *(token - 1 for token in cuts)}
        )
        owned = ring.owned(ring.nodes)
        ours = [{name for name, ranges in owned.items() if owns(ranges, token)} for token in tokens]
        for own, theirs in zip(ours, by_driver(ring, tokens), strict=True):
            # The driver counts a node twice that it has met twice in a rack that it had to pass over.
            assert set(theirs) == own or (len(set(theirs)) < len(theirs) == len(own) and set(theirs) < own), seed


def test_a_tokenmap_of_one_data_center_is_enough() -> None:
    for seed in range(100):
        ring = made_ring(seed)
        if ring.replication['class'] == TOPOLOGY:
            whole = ring.owned(ring.nodes)
            for center in {place.data_center for place in ring.nodes.values()}:
                own = {name: place for name, place in ring.nodes.items() if place.data_center == center}
                assert Ring(own, ring.replication).owned(own) == {name: whole[name] for name in own}


def test_shared_out_covers_the_ring_once_with_owners() -> None:
    refused = 0
    for seed in range(200):
        ring = made_ring(seed)
        whole = ring.owned(ring.nodes)
        lost = random.Random(seed).sample(sorted(ring.nodes), len(ring.nodes) // 3)
        left = {name: ring for name in ring.nodes if name not in lost}
        tokens = [MAX_TOKEN, *(token for place in ring.nodes.values() for token in place.tokens)]
        if not all(any(name in left and owns(whole[name], token) for name in ring.nodes) for token in tokens):
            refused += 1
            with pytest.raises(CoverageError, match='of which there are no files'):
                shared_out(left)
            continue
        found = shared_out(left)
        check_tiled([TokenRange(*one) for ranges in found.values() for one in ranges])
        for name, ranges in found.items():
            for start, end in ranges:
                assert any(a <= start and end <= b for a, b in whole[name]), seed
    assert 20 < refused < 180


def owns(ranges: tuple[tuple[int, int], ...], token: int) -> bool:
    return any(start < token <= end for start, end in ranges)


def test_rows_are_taken_from_the_first_replica() -> None:
    nodes = {name: Place((token,), 'dc1', name) for name, token in (('a', -100), ('b', 0), ('c', 100))}
    ring = Ring(nodes, {'class': TOPOLOGY, 'dc1': '2'})
    assert shared_out({'a': ring, 'b': ring, 'c': ring}) == {
        'a': ((MIN_TOKEN, -100), (100, MAX_TOKEN)), 'b': ((-100, 0),), 'c': ((0, 100),)
    }  # fmt: skip
    assert shared_out({'a': ring, 'b': ring})['a'] == ((MIN_TOKEN, -100), (0, MAX_TOKEN))
    with pytest.raises(CoverageError, match=r'no files: \(-100, 0\], rule: each once'):
        shared_out({'a': ring})


def test_a_node_that_joins_between_two_backups_leaves_no_gap() -> None:
    before = {name: Place((token,), 'dc1', 'r') for name, token in (('a', -100), ('b', 100))}
    after = {**before, 'c': Place((0,), 'dc1', 'r')}
    replication = {'class': SIMPLE, 'replication_factor': '1'}
    old, new = Ring(before, replication), Ring(after, replication)
    found = shared_out({'a': old, 'b': old, 'c': new})  # b and c both own (-100, 0], each in its own eyes
    assert found == {'a': ((MIN_TOKEN, -100), (100, MAX_TOKEN)), 'b': ((-100, 100),), 'c': ()}


@pytest.mark.parametrize(
    ('ranges', 'message'),
    [
        ([], rf'of which there are no files: \({MIN_TOKEN}, {MAX_TOKEN}\]'),
        ([TokenRange(MIN_TOKEN, 0)], rf'of which there are no files: \(0, {MAX_TOKEN}\]'),
        ([RING, TokenRange(3, 7)], r'of which there are several copies: \(3, 7\]'),
    ],
)
def test_what_does_not_tile_the_ring_is_named(ranges: list[TokenRange], message: str) -> None:
    with pytest.raises(CoverageError, match=message):
        check_tiled(ranges)


def test_a_large_ring_takes_no_time() -> None:
    rng = random.Random(1)
    nodes = {
        f'n{i}': Place(tuple(rng.randrange(MIN_TOKEN + 1, MAX_TOKEN) for _ in range(16)), f'dc{i % 3}', f'r{i % 4}')
        for i in range(300)
    }
    ring = Ring(nodes, {'class': TOPOLOGY, 'dc0': '3', 'dc1': '3', 'dc2': '3'})
    found = shared_out(dict.fromkeys(nodes, ring))
    check_tiled([TokenRange(*one) for ranges in found.values() for one in ranges])


@pytest.mark.parametrize(
    'replication',
    [
        {'class': 'LocalStrategy'},
        {'class': TOPOLOGY, 'dc1': '3/1'},
        {'class': TOPOLOGY, 'replication_factor': '3'},
        {'class': SIMPLE},
        {'class': 'EverywhereStrategy'},
        {},
    ],
)
def test_other_replications_are_refused(replication: dict[str, str]) -> None:
    with pytest.raises(ReadError, match=r'^replication: got '):
        Ring({'a': Place((1,), 'dc1', 'r')}, replication).owned(['a'])


def test_the_replication_is_read_from_the_schema() -> None:
    schema = (
        "CREATE KEYSPACE a WITH replication = {'class': 'SimpleStrategy', 'replication_factor': '1'}"
        '  AND durable_writes = true;\n\nCREATE KEYSPACE "B""c" WITH replication = {\'class\': '
        "'NetworkTopologyStrategy', 'dc1': '3', 'dc-2': '1'} AND durable_writes = true;"
    )
    assert replication_of(schema, 'B"c', 'f') == {'class': TOPOLOGY, 'dc1': '3', 'dc-2': '1'}
    assert replication_of(schema, 'a', 'f') == {'class': SIMPLE, 'replication_factor': '1'}
    with pytest.raises(ReadError, match=r'^f: got no CREATE KEYSPACE b, rule'):
        replication_of(schema, 'b', 'f')


@pytest.mark.parametrize('tokenmap', [b'', b'[]', b'{"a": 1}', b'{"a": {"tokens": [1], "dc": "d"}}', b'\xff'])
def test_a_damaged_tokenmap_is_refused(tokenmap: bytes) -> None:
    with pytest.raises(ReadError, match=r'^f: got .*, rule: nodes with their tokens, dc and rack'):
        places_of(tokenmap, 'f')


def test_a_tokenmap_of_medusa() -> None:
    found = places_of(json.dumps({'n': {'tokens': [-5, 7], 'is_up': True, 'rack': 'r', 'dc': 'd'}}).encode(), 'f')
    assert found == {'n': Place((-5, 7), 'd', 'r')}
