"""Replication of a keyspace: the number of copies of each row, by data center."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

from tfx_cassandra.components.errors import invalid


@dataclasses.dataclass(frozen=True)
class SimpleReplication:
    """Replication regardless of data centers, for tests and single-node clusters.

    Attributes:
      factor: Number of copies of each row, from 1.

    Raises:
      ValueError: factor is not an integer from 1.
    """

    factor: int

    def __post_init__(self) -> None:
        _check_copies('factor', self.factor)

    def options(self) -> dict[str, str]:
        """Returns the replication map as Cassandra stores it."""
        return {'class': 'SimpleStrategy', 'replication_factor': str(self.factor)}


@dataclasses.dataclass(frozen=True)
class NetworkReplication:
    """Replication to any number of data centers.

    Attributes:
      factors: (data center, copies) pairs, or a mapping from data center to copies; kept as pairs.

    Raises:
      ValueError: No data center is given, one is given twice, or a factor is not an integer from 1.
    """

    factors: Mapping[str, int] | tuple[tuple[str, int], ...]

    def __post_init__(self) -> None:
        pairs: tuple[tuple[str, int], ...] = tuple(
            self.factors.items() if isinstance(self.factors, Mapping) else self.factors
        )
        object.__setattr__(self, 'factors', pairs)
        if not pairs or len(dict(pairs)) < len(pairs):
            raise invalid('factors', pairs, 'one or more data centers, each once')
        for center, copies in pairs:
            if not isinstance(center, str) or center in ('', 'class', 'replication_factor'):
                raise invalid('factors', center, 'the name of a data center')
            _check_copies(f'factors.{center}', copies)

    def options(self) -> dict[str, str]:
        """Returns the replication map as Cassandra stores it."""
        return {'class': 'NetworkTopologyStrategy'} | {dc: str(copies) for dc, copies in dict(self.factors).items()}


Replication = SimpleReplication | NetworkReplication


def parse_replication(text: str) -> Replication:
    """Parses 'simple:1', or data centers with their copies such as 'dc1:3,dc2:2'.

    Raises:
      ValueError: The text has neither form.
    """
    parts = [part.strip().rpartition(':') for part in text.split(',')]
    if not all(center and copies.isdecimal() for center, _, copies in parts):
        raise invalid('replication', text, "'simple:COPIES', or 'DATACENTER:COPIES,...'")
    pairs = tuple((center, int(copies)) for center, _, copies in parts)
    if len(pairs) == 1 and pairs[0][0] == 'simple':
        return SimpleReplication(pairs[0][1])
    return NetworkReplication(pairs)


def _check_copies(field: str, copies: int) -> None:
    if isinstance(copies, bool) or not isinstance(copies, int) or copies < 1:
        raise invalid(field, copies, 'a number of copies, from 1')
