"""The spine of a training set: whose example, of what time, with what labels."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Mapping
from typing import Annotated, Any

import pyarrow as pa
import pyarrow.compute as pc

from tfx_cassandra.components.checks import Name, Rule, TableName, check_fields
from tfx_cassandra.components.dataset.spec.rows import described
from tfx_cassandra.components.dataset.spec.view import restrictions
from tfx_cassandra.components.errors import DatasetError, invalid
from tfx_cassandra.components.window import EPOCH, MICROSECOND, aware

Delay = Annotated[datetime.timedelta, Rule('zero or more', lambda delay: delay >= datetime.timedelta(0))]
_SOME = Rule('one or more names', bool)


@dataclasses.dataclass(frozen=True)
class Label:
    """A label column that is more than its plain name.

    Attributes:
      name: The column.
      rename: Its name in the examples; None for its own.
      delay: How long after the event the label is known; None for the source's delay.
    """

    name: Name
    rename: Name | None = None
    delay: Delay | None = None

    def __post_init__(self) -> None:
        check_fields(self)


@dataclasses.dataclass(frozen=True)
class LabelSource:
    """Says which table holds the events that become examples: the spine of a point-in-time join.

    Attributes:
      table: Table of the connection's keyspace, or `keyspace.table`; each of its rows in the window is one example.
      entity_columns: Columns by which views are joined; at least one.
      timestamp_column: Column of type timestamp: the event time, as of which features are looked up.
      label_columns: Columns that come along as they are (labels, and whatever else was known at the event time): names,
        or Labels where a name is not enough.
      delay: How long after its event a label is known. A label that was not yet known at the reference time (`as_of`,
        else the start of the run) is missing in the example. None for known at once.
      where: Column -> value, or several values of which a row must have one, as in FeatureView.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    table: TableName
    entity_columns: Annotated[tuple[Name, ...], _SOME]
    timestamp_column: Name
    label_columns: Annotated[tuple[Name | Label, ...], _SOME]
    delay: Delay | None = None
    where: Mapping[str, Any] | tuple[tuple[str, tuple[Any, ...]], ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, 'where', restrictions(self.where))
        check_fields(self)
        plain = [n.name if isinstance(n, Label) and n == Label(n.name) else n for n in self.label_columns]
        object.__setattr__(self, 'label_columns', tuple(plain))
        if clash := sorted({name for name in self.example_names if self.example_names.count(name) > 1}):
            raise invalid('label_columns', clash, 'no two of entity, timestamp and labels with the same name')

    @property
    def labels(self) -> tuple[Label, ...]:
        """The labels, each with its delay."""
        full = (label if isinstance(label, Label) else Label(label) for label in self.label_columns)
        return tuple(
            dataclasses.replace(label, delay=self.delay if label.delay is None else label.delay) for label in full
        )

    @property
    def filters(self) -> tuple[tuple[str, tuple[Any, ...]], ...]:
        """(column, values) that a row of the spine has one of."""
        return restrictions(self.where)

    @property
    def columns(self) -> tuple[str, ...]:
        """The table's columns that are read."""
        names = (*self.entity_columns, self.timestamp_column, *(label.name for label in self.labels))
        return tuple(dict.fromkeys(names))

    @property
    def example_names(self) -> tuple[str, ...]:
        """The names of entity, timestamp and labels in the examples, in order."""
        labels = (label.rename or label.name for label in self.labels)
        return (*self.entity_columns, self.timestamp_column, *labels)


def spine(batch: pa.RecordBatch, source: LabelSource, reference: datetime.datetime) -> pa.RecordBatch:
    """Makes rows of the spine of rows as read.

    Args:
      batch: Rows with the source's columns.
      source: The label source.
      reference: Labels not known before this time are null.

    Returns:
      As many rows, with the columns `source.example_names`.

    Raises:
      DatasetError: A row has no entity or no time; the message shows it.
    """
    key = (*source.entity_columns, source.timestamp_column)
    for name in key:
        array = batch.column(batch.schema.get_field_index(name))
        if array.null_count:
            row = described(batch, pc.index(pc.is_null(array), True).as_py(), key)
            raise DatasetError(f'label source {source.table}: got {row}, rule: a value in {name} of every row')
    time = batch.column(batch.schema.get_field_index(source.timestamp_column))
    arrays = [batch.column(batch.schema.get_field_index(name)) for name in source.entity_columns]
    arrays.append(time)
    for label in source.labels:
        array = batch.column(batch.schema.get_field_index(label.name))
        if label.delay is not None:
            # In Python's integers, for a delay may reach back beyond the first year that its datetimes have.
            known = (aware('as_of', reference) - EPOCH) // MICROSECOND - label.delay // MICROSECOND
            latest = pa.scalar(known // 1000, pa.int64()).cast(time.type)
            # An index that is null takes a null, whatever the type.
            rows = pa.array(range(len(array)), pa.int64())
            array = array.take(pc.if_else(pc.less_equal(time, latest), rows, pa.scalar(None, pa.int64())))
        arrays.append(array)
    return pa.RecordBatch.from_arrays(arrays, names=list(source.example_names))
