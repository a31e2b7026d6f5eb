"""Which token ranges a node owned: from the tokens of all nodes and the keyspace's replication.

Before `nodetool cleanup` a node keeps rows of ranges that it has lost, and what was deleted since could return with
them. So each node's files are restricted to what it owned at the moment of the backup.

Authority: org.apache.cassandra.locator.SimpleStrategy and NetworkTopologyStrategy.
"""

from __future__ import annotations

import ast
import bisect
import dataclasses
import itertools
import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from tfx_cassandra.components.errors import CoverageError, ReadError
from tfx_cassandra.components.scan.area import Area, faults
from tfx_cassandra.components.scan.ring import RING, TokenRange, ring_ranges

Ranges = tuple[tuple[int, int], ...]  # (start, end] each, in ring order

_KEYSPACE = re.compile(
    r'CREATE\s+KEYSPACE\s+(?:IF\s+NOT\s+EXISTS\s+)?("(?:[^"]|"")+"|\w+)\s+WITH\s+replication\s*=\s*(\{[^}]*\})', re.I
)


@dataclasses.dataclass(frozen=True)
class Place:
    """A node of the ring: its tokens, its data center and its rack."""

    tokens: tuple[int, ...]
    data_center: str
    rack: str


@dataclasses.dataclass(frozen=True)
class Ring:
    """The ring at the moment of a backup.

    Attributes:
      nodes: The nodes by name. Where the strategy is NetworkTopologyStrategy, those of one data center are enough.
      replication: The keyspace's replication, such as {'class': 'NetworkTopologyStrategy', 'dc1': '3'}.
    """

    nodes: Mapping[str, Place]
    replication: Mapping[str, str]

    def replicas(self) -> Iterator[tuple[TokenRange, list[str]]]:
        """Yields each range between two tokens, with the names of the nodes that own it, the first replica first.

        Raises:
          ReadError: There are no tokens, or the replication is of an unknown kind.
        """
        owners = {token: name for name, place in self.nodes.items() for token in place.tokens}
        tokens = sorted(owners)
        if not tokens:
            raise ReadError('ring: got no tokens, rule: those of the nodes')
        factors = self._factors()
        # To SimpleStrategy all nodes are in one center, each in a rack of its own.
        where = {
            name: (None, name) if None in factors else (place.data_center, place.rack)
            for name, place in self.nodes.items()
        }
        for token_range in ring_ranges(tokens):
            # From the node whose token is the range's end, or the first token behind it, around the ring.
            first = bisect.bisect_left(tokens, token_range.end)
            following = (owners[token] for token in itertools.chain(tokens[first:], tokens[:first]))
            yield token_range, _chosen(following, where, factors)

    def owned(self, names: Collection[str]) -> dict[str, Ranges]:
        """Returns the ranges that nodes own: as few as hold them, none across the ring's ends."""
        found: dict[str, list[TokenRange]] = {name: [] for name in names}
        for token_range, owners in self.replicas():
            for name in set(owners) & set(found):
                found[name].append(token_range)
        return {name: joined(ranges) for name, ranges in found.items()}

    def _factors(self) -> dict[str | None, int]:
        """Returns how many replicas each data center has; None stands for all of them together."""
        kind = self.replication.get('class', '').rpartition('.')[2]
        given = {name: text for name, text in self.replication.items() if name != 'class'}
        if not all(text.isdecimal() for text in given.values()):
            raise ReadError(f'replication: got {dict(self.replication)}, rule: numbers of full replicas')
        if kind == 'SimpleStrategy' and set(given) == {'replication_factor'}:
            return {None: int(given['replication_factor'])}
        if kind == 'NetworkTopologyStrategy' and 'replication_factor' not in given:
            return {name: int(text) for name, text in given.items()}
        rule = 'SimpleStrategy or NetworkTopologyStrategy, with its factors'
        raise ReadError(f'replication: got {dict(self.replication)}, rule: {rule}')


_Where = tuple[str | None, str]  # data center and rack


def _chosen(following: Iterable[str], where: Mapping[str, _Where], factors: Mapping[str | None, int]) -> list[str]:
    """Returns the replicas among the nodes that follow a token."""
    centers = {
        center: _Center(factor, [rack for own, rack in where.values() if own == center])
        for center, factor in factors.items()
    }
    found: list[str] = []
    for name in following:
        if not any(center.lacking for center in centers.values()):
            break
        center, rack = where[name]
        if center in centers and name not in found and centers[center].takes(rack):
            found.append(name)
    return found


class _Center:
    """What a data center still lacks of a range's replicas: one in each rack, and repeated racks only beyond that."""

    def __init__(self, factor: int, racks: Collection[str]) -> None:
        self.lacking = min(factor, len(racks))  # one for each node
        self._repeats = factor - len(set(racks))
        self._met: set[str] = set()

    def takes(self, rack: str) -> bool:
        """Whether the next node on the ring becomes a replica."""
        if not self.lacking or (rack in self._met and self._repeats <= 0):
            return False
        self._repeats -= rack in self._met
        self._met.add(rack)
        self.lacking -= 1
        return True


def joined(ranges: Iterable[TokenRange]) -> Ranges:
    """Returns ranges in ring order, those that touch as one."""
    found: list[tuple[int, int]] = []
    for one in sorted(ranges):
        if found and found[-1][1] == one.start:
            found[-1] = (found[-1][0], one.end)
        else:
            found.append((one.start, one.end))
    return tuple(found)


def shared_out(rings: Mapping[str, Ring]) -> dict[str, Ranges]:
    """Returns a range for each token once: of the nodes that own it, the first replica that there is.

    Args:
      rings: For each node whose files there are, the ring as it knew it.

    Raises:
      CoverageError: No node of `rings` owns a range.
    """
    found: dict[str, list[TokenRange]] = {name: [] for name in rings}
    views: list[tuple[Ring, list[TokenRange], list[list[str]]]] = []
    for ring in rings.values():
        if all(ring != seen for seen, _, _ in views):  # as a rule they all know the same ring
            ranges, owners = zip(*ring.replicas(), strict=True)
            views.append((ring, list(ranges), list(owners)))
    for token_range in ring_ranges(one.start for _, ranges, _ in views for one in ranges):
        ranked = [
            (rank, name)
            for ring, ranges, owners in views
            for rank, name in enumerate(owners[bisect.bisect_right(ranges, token_range.start, key=_start) - 1])
            if name in rings and rings[name] == ring
        ]
        if ranked:
            found[min(ranked)[1]].append(token_range)
    check_tiled([token_range for ranges in found.values() for token_range in ranges])
    return {name: joined(ranges) for name, ranges in found.items()}


def _start(token_range: TokenRange) -> int:
    return token_range.start


def check_tiled(ranges: Iterable[TokenRange]) -> None:
    """Checks that ranges cover the ring exactly once; raises CoverageError naming those that do not."""
    found = faults([Area(one) for one in ranges], [Area(RING)])
    _refuse('of which there are no files', found.missing)
    _refuse('of which there are several copies', found.doubled)


def _refuse(what: str, areas: Sequence[Area]) -> None:
    if areas:
        raise CoverageError(f'backup: got token ranges {what}: {", ".join(map(str, areas))}, rule: each once')


def replication_of(schema: str, keyspace: str, name: str) -> dict[str, str]:
    """Returns the replication that the text of a schema.cql gives a keyspace.

    Args:
      schema: The text.
      keyspace: The keyspace.
      name: How messages call the file.

    Raises:
      ReadError: It has none.
    """
    for word, options in _KEYSPACE.findall(schema):
        plain = word[1:-1].replace('""', '"') if word.startswith('"') else word.lower()
        if plain == keyspace:
            return {str(key): str(value) for key, value in ast.literal_eval(options).items()}
    raise ReadError(f'{name}: got no CREATE KEYSPACE {keyspace}, rule: the schema of the cluster')


def places_of(tokenmap: bytes, name: str) -> dict[str, Place]:
    """Returns the nodes of a tokenmap.json as Cassandra Medusa writes it.

    Args:
      tokenmap: Its bytes: {"node": {"tokens": [-9.., ...], "dc": "dc1", "rack": "rack1", ...}, ...}.
      name: How messages call the file.

    Raises:
      ReadError: It has another form.
    """
    try:
        nodes = json.loads(tokenmap)
        return {
            str(node): Place(tuple(map(int, values['tokens'])), str(values['dc']), str(values['rack']))
            for node, values in nodes.items()
        }
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        rule = 'nodes with their tokens, dc and rack'
        raise ReadError(f'{name}: got {type(error).__name__} {error}, rule: {rule}') from error
