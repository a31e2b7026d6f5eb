"""What features are looked up for examples that are there already."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Literal

from tfx_cassandra.components.checks import Rule, check_fields
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.driver.connection import CassandraConnection, Consistency
from tfx_cassandra.components.errors import invalid

LATEST = 'latest'


@dataclasses.dataclass(frozen=True)
class RetrievalOptions:
    """The arguments of CassandraFeatureRetrieval that say what is looked up; see there."""

    connection: CassandraConnection
    views: tuple[FeatureView, ...]
    as_of: Annotated[str, Rule("'latest' or the name of a feature", bool)] = LATEST
    missing: Literal['absent', 'error'] = 'absent'
    consistency: Consistency = 'LOCAL_QUORUM'

    def __post_init__(self) -> None:
        check_fields(self)
        names = [view.name for view in self.views]
        if not names or len(set(names)) < len(names):
            raise invalid('views', names, 'one or more views, each name once')
        features = [name for view in self.views for name in view.example_names]
        if clash := sorted({name for name in features if features.count(name) > 1}):
            raise invalid('views', clash, 'no two features with the same name; a prefix tells them apart')
