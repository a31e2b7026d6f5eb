"""What a live cluster says of itself, as values: what the checks judge. Sizes are bytes, times are seconds."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping


@dataclasses.dataclass(frozen=True)
class Clock:
    """A node's clock as seen from the client.

    Attributes:
      ahead: Seconds by which the node's clock is ahead of the client's; negative if it is behind.
      error: The reading may be wrong by so many seconds: half of the round trip, and the millisecond of the server.
    """

    ahead: float
    error: float


@dataclasses.dataclass(frozen=True)
class Node:
    """One node of the cluster.

    Attributes:
      name: address:port.
      datacenter: Its data center.
      down: Why it does not answer, or '' if it does.
      release: Its Cassandra release, such as '5.0.8'; None if it was not read.
      schema_version: The version of its schema; None if it was not read.
      clock: Its clock; None if it was not read.
      settings: Settings of cassandra.yaml by name; empty if they were not read.
    """

    name: str
    datacenter: str
    down: str = ''
    release: str | None = None
    schema_version: str | None = None
    clock: Clock | None = None
    settings: Mapping[str, str] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class Keyspace:
    """The keyspace of the tables.

    Attributes:
      name: Its name.
      strategy: 'NetworkTopologyStrategy' or 'SimpleStrategy'.
      copies: Replicas by data center; for SimpleStrategy under ''.
    """

    name: str
    strategy: str
    copies: Mapping[str, int]

    @property
    def total(self) -> int:
        """The replicas of a row, in all data centers."""
        return sum(self.copies.values())


@dataclasses.dataclass(frozen=True)
class Table:
    """The definition of a table or view.

    Attributes:
      name: Name in the keyspace.
      compaction: Its compaction options, with the short name of the class.
      compression: Its compression options; empty if it is off.
      default_ttl: default_time_to_live, 0 for none.
      gc_grace: gc_grace_seconds.
      clustering: CQL types of the clustering columns, in order.
      created_at: When it was created; None if its id does not tell.
      repaired_at: When a repair session of it last succeeded; None if there is none on record.
      repairs_known: Whether the record of repairs could be read.
    """

    name: str
    compaction: Mapping[str, str] = dataclasses.field(default_factory=dict)
    compression: Mapping[str, str] = dataclasses.field(default_factory=dict)
    default_ttl: int = 0
    gc_grace: int = 864000
    clustering: tuple[str, ...] = ()
    created_at: datetime.datetime | None = None
    repaired_at: datetime.datetime | None = None
    repairs_known: bool = False


@dataclasses.dataclass(frozen=True)
class Histogram:
    """A distribution over the reads of a table on one node, of which the last minutes weigh most."""

    count: int
    p50: float
    p99: float
    max: float


@dataclasses.dataclass(frozen=True)
class Reading:
    """What one node counts of one table; None for what was not read.

    Attributes:
      node: address:port.
      table: Name of the table.
      max_partition: Bytes of the largest partition, or part of one, in an SSTable; the memtable does not count.
      mean_partition: Greatest mean of bytes of a partition over the ranges of `size_estimates`.
      partitions: Partitions in them, about.
      tombstones: Tombstones met by a read.
      rows: Rows returned by a read.
      reads: Local reads since the node started.
      writes: Local writes since the node started.
      droppable: Share of the cells on disk, from 0 to 1, that are tombstones which could be dropped; from nodetool.
    """

    node: str
    table: str
    max_partition: int | None = None
    mean_partition: int | None = None
    partitions: int | None = None
    tombstones: Histogram | None = None
    rows: Histogram | None = None
    reads: int | None = None
    writes: int | None = None
    droppable: float | None = None


@dataclasses.dataclass(frozen=True)
class Partition:
    """A partition among the widest that were met when a table was sampled.

    Attributes:
      table: Name of the table.
      key: Its key, as `column=value, ...`.
      rows: Rows that were counted.
      counted: Whether these are all of its rows.
      row_bytes: Mean bytes of its first rows, as the protocol has them.
    """

    table: str
    key: str
    rows: int
    counted: bool
    row_bytes: float

    @property
    def size(self) -> float:
        """Its bytes, about; of the rows that were counted."""
        return self.rows * self.row_bytes


@dataclasses.dataclass(frozen=True)
class Unread:
    """What could not be read.

    Attributes:
      what: A table of the server, and the node that was asked.
      reason: The error, in one line.
      needs: What would allow it, such as a GRANT; '' if nothing would.
    """

    what: str
    reason: str
    needs: str = ''


@dataclasses.dataclass(frozen=True)
class Facts:
    """Everything the checks judge.

    Attributes:
      now: When the facts were read, by the client's clock.
      local_datacenter: The data center of the client.
      keyspace: The keyspace.
      nodes: All nodes of the cluster.
      tables: The tables that are judged.
      readings: One for each table and node that answered.
      driver: Release of cassandra-driver.
      python: Release of Python, as (3, 10).
      unread: What could not be read.
      partitions: The widest partitions of each table's sample, widest first.
    """

    now: datetime.datetime
    local_datacenter: str
    keyspace: Keyspace
    nodes: tuple[Node, ...] = ()
    tables: tuple[Table, ...] = ()
    readings: tuple[Reading, ...] = ()
    driver: str = ''
    python: tuple[int, ...] = ()
    unread: tuple[Unread, ...] = ()
    partitions: tuple[Partition, ...] = ()

    def nodes_of(self, datacenter: str) -> list[Node]:
        """Returns the nodes of one data center; of all for ''."""
        return [node for node in self.nodes if datacenter in ('', node.datacenter)]

    def of(self, table: str) -> list[Reading]:
        """Returns the readings of one table."""
        return [reading for reading in self.readings if reading.table == table]

    def qualified(self, table: str) -> str:
        """Returns KEYSPACE.TABLE, as nodetool takes it."""
        return f'{self.keyspace.name}.{table}'

    def in_cql(self, table: str) -> str:
        """Returns the quoted name of a table."""
        return '.'.join(f'"{name}"' for name in (self.keyspace.name, table))

    def setting(self, name: str) -> dict[str, list[str]]:
        """Returns the values of a setting, each with the nodes that have it."""
        values: dict[str, list[str]] = {}
        for node in self.nodes:
            if name in node.settings:
                values.setdefault(node.settings[name], []).append(node.name)
        return values
