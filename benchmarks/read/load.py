"""Makes the tables that are read: the layout of feature_store, and a wide table of 20 features.

A table carries its number of rows in its name, so tables of several sizes stand side by side and one that is whole is
not loaded again. Rows of a partition are sent together, so a batch is one mutation on the server.
"""

from __future__ import annotations

import dataclasses
import datetime
import itertools
from collections.abc import Callable, Iterator

from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent
from cassandra.query import UNSET_VALUE, BatchStatement, BatchType

from tfx_cassandra.components.progress import step

START = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
IN_FLIGHT = 8  # batches
_MINUTE = datetime.timedelta(minutes=1)

FEATURES = [f'f{i:02d}' for i in range(20)]
_WIDE_TYPES = ['double'] * 15 + ['bigint'] * 3 + ['text'] * 2


@dataclasses.dataclass(frozen=True)
class Layout:
    """A table's shape and content.

    Attributes:
      name: The first part of the table's name.
      ddl: What stands in the parentheses of CREATE TABLE, and the options.
      columns: The columns, in the order of `row`'s values.
      entity, timestamp, features: The columns a FeatureView of it names; maps are not among them.
      partition_rows: Rows of a partition.
      batch_rows: Rows sent together; about 30 kB.
      row: (partition, row in it) -> values.
    """

    name: str
    ddl: str
    columns: tuple[str, ...]
    entity: tuple[str, ...]
    timestamp: str
    features: tuple[str, ...]
    partition_rows: int
    batch_rows: int
    row: Callable[[int, int], tuple]

    @property
    def example_columns(self) -> tuple[str, ...]:
        """The columns that an example of a row is made of."""
        return (*self.entity, self.timestamp, *self.features)


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a layout with so many rows."""

    layout: Layout
    rows: int

    @property
    def name(self) -> str:
        return f'{self.layout.name}_{self.rows}'


def _noise(*numbers: int) -> int:
    """Returns a number below 2^32 that looks random: what is stored should not compress to nothing."""
    value = 0
    for number in numbers:
        value = (value ^ number) * 2654435761 % 2**32
        value ^= value >> 15
    return value


def _feature_store_row(partition: int, i: int) -> tuple:
    # Every other row has a user and a map of two entries; the others have nothing there, which leaves no tombstone.
    user = f'u{_noise(i) % 1000:03d}' if i % 2 else UNSET_VALUE
    metadata = {'user_id': user, 'unit': 'C'} if i % 2 else UNSET_VALUE
    value = _noise(partition, i) / 1000
    return f'm{partition // 20:03d}', f'feature_{partition % 20:02d}', START + i * _MINUTE, value, metadata, user


def _wide_row(partition: int, i: int) -> tuple:
    numbers = [_noise(partition, i, j) for j in range(len(FEATURES))]
    doubles, integers, texts = numbers[:15], numbers[15:18], numbers[18:]
    features = [*(n / 1000 for n in doubles), *integers, *(f'category_{n % 100:02d}' for n in texts)]
    return f'e{partition:06d}', START + i * _MINUTE, *features


FEATURE_STORE = Layout(
    'feature_store',
    'model_id text, feature_name text, timestamp timestamp, value double, metadata map<text, text>, user_id text, '
    'PRIMARY KEY ((model_id, feature_name), timestamp)) WITH CLUSTERING ORDER BY (timestamp DESC',
    ('model_id', 'feature_name', 'timestamp', 'value', 'metadata', 'user_id'),
    ('model_id', 'feature_name'),
    'timestamp',
    ('value', 'user_id'),
    partition_rows=1000,
    batch_rows=400,
    row=_feature_store_row,
)
WIDE = Layout(
    'wide_features',
    f'entity_id text, event_time timestamp, {", ".join(map(" ".join, zip(FEATURES, _WIDE_TYPES, strict=True)))}, '
    'PRIMARY KEY ((entity_id), event_time)) WITH CLUSTERING ORDER BY (event_time DESC',
    ('entity_id', 'event_time', *FEATURES),
    ('entity_id',),
    'event_time',
    tuple(FEATURES),
    partition_rows=100,
    batch_rows=100,
    row=_wide_row,
)
LAYOUTS = {layout.name: layout for layout in (FEATURE_STORE, WIDE)}


def layout_of(table: str) -> Layout:
    """Returns the layout of a table's name."""
    return LAYOUTS[table.rpartition('_')[0]]


def load(session: Session, keyspace: str, table: Table, count: Callable[[str], int]) -> None:
    """Makes a table and fills it; does nothing where it holds its rows already.

    Args:
      session: A session to the cluster.
      keyspace: Made where it is missing, with one copy of each row.
      table: The table.
      count: Counts the rows of a table of this keyspace.
    """
    session.execute(
        f'CREATE KEYSPACE IF NOT EXISTS {keyspace} WITH replication = '
        "{'class': 'SimpleStrategy', 'replication_factor': 1}"
    )
    session.execute(f'CREATE TABLE IF NOT EXISTS {keyspace}.{table.name} ({table.layout.ddl})', timeout=60)
    if count(table.name) == table.rows:
        return
    session.execute(f'TRUNCATE {keyspace}.{table.name}', timeout=120)
    with step(f'load {keyspace}.{table.name}') as progress:
        batches = ((batch, None) for batch in _batches(session, keyspace, table))
        # Lazily: the batches of a whole table would not fit in memory.
        loaded = execute_concurrent(session, batches, concurrency=IN_FLIGHT, results_generator=True)
        for done, _ in enumerate(loaded, 1):
            progress.update(f'{min(done * table.layout.batch_rows, table.rows):,} rows')


def _batches(session: Session, keyspace: str, table: Table) -> Iterator[BatchStatement]:
    layout = table.layout
    marks = ', '.join('?' * len(layout.columns))
    insert = session.prepare(f'INSERT INTO {keyspace}.{table.name} ({", ".join(layout.columns)}) VALUES ({marks})')
    left = table.rows
    for partition in itertools.count():
        rows = min(left, layout.partition_rows)
        if not rows:
            return
        for first in range(0, rows, layout.batch_rows):
            batch = BatchStatement(BatchType.UNLOGGED)
            for i in range(first, min(first + layout.batch_rows, rows)):
                batch.add(insert, layout.row(partition, i))
            yield batch
        left -= rows
