"""What an evaluation of an A/B test reads, and how."""

from __future__ import annotations

import dataclasses
import datetime

from tfx_cassandra.components.checks import Count, TableName, check_fields
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.experiment.design import Design
from tfx_cassandra.components.scan.fetch import ReadOptions


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What ABEvaluator compares and where it reads; see the component for the fields.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    connection: CassandraConnection
    design: Design
    requests_table: TableName = 'inference_results'
    read: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    shards: Count = 64
    as_of: datetime.datetime | None = None

    def __post_init__(self) -> None:
        check_fields(self)
