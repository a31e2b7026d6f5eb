"""A view as JSON of a file that people write."""

from __future__ import annotations

import json
from typing import Any

from tfx_cassandra.components import protos
from tfx_cassandra.components.cql.values import alternatives
from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.proto import cassandra_pb2


def view_of(field: str, fields: Any) -> FeatureView:
    """Returns the view of an object with the fields of FeatureView, `ttl_seconds` for its ttl.

    Args:
      field: Names the object in messages.
      fields: The object; a feature may be its name alone, and `where` an object, column -> value or values.

    Raises:
      ValueError: It is no such object, or a field breaks its rule; the message names it.
    """
    if not isinstance(fields, dict):
        raise invalid(field, fields, 'an object with the fields of FeatureView')
    message = {name: value for name, value in fields.items() if value is not None}
    if isinstance(features := message.get('features'), list):
        message['features'] = [{'name': name} if isinstance(name, str) else name for name in features]
    where = message.pop('where', {})
    if not isinstance(where, dict):
        raise invalid(f'{field}.where', where, 'an object, column -> value or values')
    message['where_json'] = json.dumps([[column, alternatives(value)] for column, value in where.items()])
    return protos.from_json(FeatureView, cassandra_pb2.FeatureView, json.dumps(message), field)
