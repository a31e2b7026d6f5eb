"""Estimates the partitions of a table by rate and retention, and proposes the layout that keeps them small. Pure."""

from __future__ import annotations

import dataclasses
import datetime
import math
from typing import get_args

from cassandra.metadata import maybe_escape_name

from tfx_cassandra.components.cql.layout import MOST_SALTS, Bucket, Layout, Salt, Unit, parse
from tfx_cassandra.components.cql.values import has_one_form
from tfx_cassandra.components.errors import SchemaError, invalid
from tfx_cassandra.components.schema.relations import table
from tfx_cassandra.components.schema.tables import Relation

LIMIT = 100_000_000  # bytes of a partition; docs/schema.md says why
_LENGTHS = {
    'month': datetime.timedelta(31),
    'day': datetime.timedelta(1),
    'hour': datetime.timedelta(hours=1),
}


@dataclasses.dataclass(frozen=True)
class Workload:
    """What is written to a table.

    Attributes:
      row_bytes: Mean size of a row.
      rate: Rows a second of one entity: of one value of the partition key.
      retention: How long rows are kept.
      time_column: The column of the rows' times.
    """

    row_bytes: float
    rate: float
    retention: datetime.timedelta
    time_column: str

    def __post_init__(self) -> None:
        for field in ('row_bytes', 'rate'):
            if not 0 < getattr(self, field) < math.inf:
                raise invalid(field, getattr(self, field), 'above zero')
        if self.retention <= datetime.timedelta(0):
            raise invalid('retention', str(self.retention), 'longer than zero')

    def bytes_of(self, length: datetime.timedelta) -> float:
        """Returns the bytes of one entity's rows of a length of time; at most those of the retention."""
        return self.row_bytes * self.rate * min(length, self.retention).total_seconds()


@dataclasses.dataclass(frozen=True)
class Estimate:
    """The partitions of one entity under a layout.

    Attributes:
      layout: The layout.
      partition_bytes: Size of a full partition.
      partitions: Number of partitions that an entity has at once.
      salts: Number of partitions in which the rows of one moment may be.
    """

    layout: Layout
    partition_bytes: float
    partitions: int
    salts: int = 1


def estimates(live: Relation, workload: Workload, limit: float = LIMIT) -> list[Estimate]:
    """Returns the partitions of a table as it is, in ever smaller buckets, and in hours with a salt if they need one.

    The last one is the proposal: the coarsest layout whose partitions are under the limit.

    Args:
      live: The table.
      workload: What is written to it.
      limit: Bytes that a partition may have.

    Raises:
      SchemaError: The table has a layout, the time is no clustering column of type timestamp, or no layout keeps the
        limit.
      ValueError: The limit is not above zero.
    """
    if not limit > 0:
        raise invalid('limit', limit, 'above zero')
    if (present := parse(str(live.options.get('comment') or ''), live.name)).columns:
        raise SchemaError(f'{live.name}: got {str(present)!r}, rule: a table without a layout')
    column = live.columns.get(workload.time_column)
    if column is None or (column.kind, column.type) != ('clustering', 'timestamp'):
        rule = f'a clustering column of {live.name} of type timestamp'
        raise SchemaError(f'time column: got {workload.time_column!r}, rule: {rule}')
    whole = workload.bytes_of(workload.retention)
    found = [Estimate(Layout(), whole, 1)]
    for unit in get_args(Unit)[::-1]:
        if found[-1].partition_bytes <= limit:
            return found
        layout = Layout(Bucket(_new_name(live, 'bucket'), unit, workload.time_column))
        # Rows of the retention touch one more bucket than they fill.
        buckets = math.ceil(workload.retention / _LENGTHS[unit]) + 1
        found.append(Estimate(layout, workload.bytes_of(_LENGTHS[unit]), buckets))
    hours = found[-1]
    if hours.partition_bytes > limit:
        found.append(_salted(live, hours, limit))
    return found


def _salted(live: Relation, hours: Estimate, limit: float) -> Estimate:
    count = 2 ** math.ceil(math.log2(hours.partition_bytes / limit))
    if count > MOST_SALTS:
        got = f'{hours.partition_bytes / 1e6:,.0f} MB an hour'
        raise SchemaError(
            f'{live.name}: got {got}, rule: at most {MOST_SALTS * limit / 1e6:,.0f} MB an hour and entity'
        )
    columns = [name for name in _keys(live, 'clustering') if has_one_form(live.columns[name].type)]
    layout = Layout(hours.layout.bucket, Salt(_new_name(live, 'salt'), count, tuple(columns)))
    return Estimate(layout, hours.partition_bytes / count, hours.partitions * count, count)


def laid_out(live: Relation, name: str, layout: Layout) -> Relation:
    """Returns a table as a live one is, with a layout and another name.

    Args:
      live: The live table.
      name: Name of the new table.
      layout: The layout; its columns are new.
    """
    clustering = _keys(live, 'clustering')
    order = [*_keys(live, 'partition_key'), *clustering]
    order += [column for column in live.columns if column not in order]
    columns = {
        maybe_escape_name(column): live.columns[column].type + ' static' * (live.columns[column].kind == 'static')
        for column in order
    }
    options = {option: value for option, value in live.options.items() if option != 'comment' and value != {}}
    comment = str(live.options.get('comment') or '')
    return table(
        name,
        f'{live.name} with small partitions.',
        columns,
        [*map(maybe_escape_name, _keys(live, 'partition_key'))],
        {maybe_escape_name(column): live.columns[column].order for column in clustering},
        options,
        layout=layout,
        comment=comment,
    )


def _keys(live: Relation, kind: str) -> list[str]:
    found = [name for name, column in live.columns.items() if column.kind == kind]
    return sorted(found, key=lambda name: live.columns[name].position)


def _new_name(live: Relation, name: str) -> str:
    while name in live.columns:
        name += '_'
    return name
