"""What features are looked up for examples that are there already."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from tfx_cassandra.components.backup.backup import CassandraBackup
from tfx_cassandra.components.backup.tables import origin
from tfx_cassandra.components.checks import Rule, check_fields
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.scan.options import Source

LATEST = 'latest'


@dataclasses.dataclass(frozen=True)
class RetrievalOptions:
    """The arguments of CassandraFeatureRetrieval that say what is looked up; see there."""

    connection: CassandraConnection | None
    views: tuple[FeatureView, ...]
    as_of: Annotated[str, Rule("'latest' or the name of a feature", bool)] = LATEST
    missing: Literal['absent', 'error'] = 'absent'
    consistency: Consistency = 'LOCAL_QUORUM'
    source: CassandraBackup | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        _ = self.origin
        names = [view.name for view in self.views]
        if not names or len(set(names)) < len(names):
            raise invalid('views', names, 'one or more views, each name once')
        features = [name for view in self.views for name in view.example_names]
        if clash := sorted({name for name in features if features.count(name) > 1}):
            raise invalid('views', clash, 'no two features with the same name; a prefix tells them apart')

    @property
    def origin(self) -> CassandraConnection | Source:
        """Where the tables are read from."""
        return origin(self.connection, self.source)

    @property
    def live(self) -> CassandraConnection:
        """The connection; only where there is no other source."""
        if self.connection is None:
            raise invalid('connection', None, 'given, to look up by key')
        return self.connection
