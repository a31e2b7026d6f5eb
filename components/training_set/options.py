"""Options of a training set: its tables, its times, and how they are read and joined."""

from __future__ import annotations

import dataclasses
import datetime
from typing import Any, Literal

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.tables import origin
from tfx_cassandra.components.checks import Count, check_fields
from tfx_cassandra.components.dataset.join.audit import AuditLimits
from tfx_cassandra.components.dataset.spec.label import LabelSource
from tfx_cassandra.components.dataset.spec.span import SpanRange
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import ReadRequest, Source
from tfx_cassandra.components.window import TimeWindow


@dataclasses.dataclass(frozen=True)
class TrainingSetOptions:
    """The arguments of CassandraExampleGen that define the rows of the examples; see there."""

    connection: CassandraConnection | None
    views: tuple[FeatureView, ...]
    window: TimeWindow | None
    labels: LabelSource | None = None
    read: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    availability_cut_off: bool = True
    join_plan: Literal['auto', 'scan', 'lookup'] = 'auto'
    limits: AuditLimits | None = None
    span: SpanRange | None = None
    as_of: datetime.datetime | None = None
    history: Count | None = None
    source: CassandraBackup | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        _ = self.origin

    @property
    def origin(self) -> CassandraConnection | Source:
        """Where the tables are read from."""
        return origin(self.connection, self.source)

    @property
    def sequences(self) -> tuple[str, ...]:
        """The features that are sequences: with `history` those of views with a time, otherwise none."""
        timed = [view for view in self.views if self.history is not None and view.timestamp_column is not None]
        return tuple(name for view in timed for name in view.example_names)

    @property
    def event_times(self) -> TimeWindow:
        """The window; a span must be resolved before (resolve.py)."""
        if self.window is None:
            raise invalid('window', None, 'resolved from its span before anything is read')
        return self.window

    @property
    def event_column(self) -> str | None:
        """The column of the events' times, which are the examples' times."""
        return self.labels.timestamp_column if self.labels is not None else self.views[0].timestamp_column

    def request(
        self, table: str, columns: tuple[str, ...], window: TimeWindow | None, time_column: str | None,
        filters: tuple[tuple[str, tuple[Any, ...]], ...], writetimes: tuple[str, ...] = (),
    ) -> ReadRequest:  # fmt: skip
        """Returns the request that reads one of the tables."""
        return ReadRequest(self.origin, table, columns, window, time_column, filters, self.read, writetimes, self.as_of)
