"""What an evaluation of an A/B test reads, and how."""

from __future__ import annotations

import dataclasses

from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.experiment.design import Design
from tfx_cassandra.components.scan.fetch import ReadOptions
from tfx_cassandra.components.scan.options import ReadRequest


@dataclasses.dataclass(frozen=True)
class EvaluationOptions:
    """What ABEvaluator compares and where it reads; see the component for the fields.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    connection: CassandraConnection
    design: Design
    requests_table: str = 'inference_results'
    read: ReadOptions = dataclasses.field(default_factory=ReadOptions)
    shards: int = 64

    def __post_init__(self) -> None:
        ReadRequest(self.connection, self.requests_table)
        if not isinstance(self.shards, int) or self.shards < 1:
            raise invalid('shards', self.shards, 'an integer of at least 1')
