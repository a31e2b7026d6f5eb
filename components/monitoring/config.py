"""What is monitored: views of features, and models whose served features are compared with the training set."""

from __future__ import annotations

import dataclasses
import datetime
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from tfx_cassandra.components.checks import Name, Rule, TableName, check_fields
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.dataset.spec.view_json import view_of
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.monitoring.windows import Load

UNIT = 'unit'  # the column of the logs that holds the unit of a request

Hours = Annotated[datetime.timedelta, Rule('above zero', lambda length: length > datetime.timedelta(0))]


@dataclasses.dataclass(frozen=True)
class SkewCheck:
    """A model whose served features are compared with the training set.

    Attributes:
      model_id: The model in the logs.
      entity: Entity column of the views (or of the training set) -> where a logged request has it: 'unit', or the name
        of a served feature.
      table: Table of the logs.
      training_set: Folder of an Examples artifact, which then is the training set; None for the values that the views
        join to the entity and the time of a request.
      time: With training_set, its feature that holds the time in ms since 1970.
      tolerance: Largest relative difference of values that count as equal; a tf.Example has 32-bit floats.

    Raises:
      ValueError: A field breaks its rule.
    """

    model_id: Name
    entity: Annotated[Mapping[str, str], Rule('one entity column or more', bool)]
    table: TableName = 'inference_results'
    training_set: Name | None = None
    time: Name = 'timestamp'
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        check_fields(self, 'skew.')


@dataclasses.dataclass(frozen=True)
class Monitoring:
    """What is monitored, and how.

    Attributes:
      views: Views with a timestamp column; empty for every feature of the table feature_store.
      skew: Models whose served features are compared.
      current: Length of the window that ends now.
      reference: Length of the window before it, which the current one is compared with.
      load: How much a round may ask of the cluster.

    Raises:
      ValueError: A field breaks its rule.
    """

    views: tuple[FeatureView, ...] = ()
    skew: tuple[SkewCheck, ...] = ()
    current: Hours = datetime.timedelta(hours=1)
    reference: Hours = datetime.timedelta(hours=24)
    load: Load = dataclasses.field(default_factory=Load)

    def __post_init__(self) -> None:
        check_fields(self)
        for view in self.views:
            if view.timestamp_column is None:
                raise invalid(f'view {view.name}', None, 'a view with a timestamp_column, to be monitored')
        names = [view.name for view in self.views]
        if len(set(names)) < len(names):
            raise invalid('views', names, 'each name once')


def parse(path: Path, option: str = 'config', **fields: Any) -> Monitoring:
    """Reads views and skew checks from a JSON file `{"views": [...], "skew": [...]}`; the other fields are given.

    A view has the fields of FeatureView (`ttl_seconds` for its ttl), a skew check those of SkewCheck.

    Args:
      path: The file.
      option: The option that names it, in messages.
      fields: The fields of Monitoring that the file does not have.

    Raises:
      ValueError: The file is not such JSON, or a field breaks its rule; the message names it.
    """
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except ValueError as error:
        raise invalid(option, str(path), f'JSON ({error})') from error
    if not isinstance(found, dict) or not set(found) <= {'views', 'skew'}:
        raise invalid(option, str(path), 'an object with "views", "skew" or both')
    views = tuple(view_of(f'views[{i}]', view) for i, view in enumerate(_list(path, found, 'views')))
    return Monitoring(views, tuple(map(_skew, _list(path, found, 'skew'))), **fields)


def _list(path: Path, found: dict[str, Any], field: str) -> list[Any]:
    items = found.get(field, [])
    if not isinstance(items, list):
        raise invalid(field, items, f'a list in {path}')
    return items


def _skew(fields: Any) -> SkewCheck:
    names = {field.name for field in dataclasses.fields(SkewCheck)}
    if not isinstance(fields, dict) or not {'model_id', 'entity'} <= set(fields) <= names:
        raise invalid('skew', fields, f'an object with model_id and entity, and of {", ".join(sorted(names))} alone')
    return SkewCheck(**fields)
