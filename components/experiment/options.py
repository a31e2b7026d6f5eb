"""Options of the evaluation of an A/B test."""

from __future__ import annotations

import dataclasses
import datetime

from tfx_cassandra.components.checks import Count, TableName, check_fields
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.experiment.design import Design
from tfx_cassandra.components.scan.fetch import ReadOptions


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """The design and the read options of an evaluation; see ABEvaluator for the fields.

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
