"""One value of a feature: its checks, and how it is built from a row."""

from __future__ import annotations

import dataclasses
import datetime
import numbers
from collections.abc import Mapping
from typing import Any

from tfx_cassandra.components.driver.responses import checked_row, utc
from tfx_cassandra.components.errors import invalid
from tfx_cassandra.components.window import aware, whole_milliseconds

_KEY_BYTES = 65535  # Cassandra's limit for a partition key


@dataclasses.dataclass(frozen=True)
class FeatureValue:
    """The value of a feature at a point in time.

    Attributes:
      model_id: The model or feature group that the feature belongs to.
      feature_name: The feature.
      timestamp: Aware datetime in whole milliseconds, the precision of Cassandra.
      value: The value; None means that it is known to be missing.
      metadata: Texts by name, or None. metadata['user_id'] also fills the column user_id, the key of the view
        feature_by_user.
      entity_id: The entity that the value belongs to, which is then in the table entity_features; None for
        feature_store.
      written_at: Since when the value has been known, such as the time of its record in a log; aware datetime. Of two
        writes to one row the later counts, in whatever order they arrive. None for the time of the write. It is not
        read back.

    Raises:
      ValueError: A field breaks its rule; the message names field, value and rule.
    """

    model_id: str
    feature_name: str
    timestamp: datetime.datetime
    value: float | None
    metadata: Mapping[str, str] | None = None
    entity_id: str | None = None
    written_at: datetime.datetime | None = None

    def __post_init__(self) -> None:
        checked_key('model_id', self.model_id)
        checked_key('feature_name', self.feature_name)
        if self.entity_id is not None:
            checked_key('entity_id', self.entity_id)
        # Truncating would let two values of one millisecond overwrite each other silently.
        whole_milliseconds('timestamp', self.timestamp)
        if self.value is not None:
            object.__setattr__(self, 'value', _double(self.value))
        if self.written_at is not None:
            object.__setattr__(self, 'written_at', aware('written_at', self.written_at))
        if self.metadata is not None:
            for name, text in self.metadata.items():
                _check_text('metadata', name)
                _check_text(f'metadata[{name!r}]', text)

    @property
    def user_id(self) -> str | None:
        """The user that the value is about, if the metadata name one."""
        return (self.metadata or {}).get('user_id') or None

    @classmethod
    def from_row(cls, row: Any, entity_id: str | None = None) -> FeatureValue:
        """Builds the value from a row of the package's session, with the columns named as the fields are.

        Raises:
          ValueError: The row has a value that no FeatureValue can hold, such as a timestamp after the year 9999.
        """
        checked_row(row)
        metadata = None if row.metadata is None else dict(row.metadata)
        return cls(row.model_id, row.feature_name, utc('timestamp', row.timestamp), row.value, metadata, entity_id)


def checked_key(field: str, value: object) -> str:
    """Returns a value that can be part of a partition key; raises ValueError naming `field` if it cannot."""
    if not isinstance(value, str) or not 0 < _bytes(value) <= _KEY_BYTES:
        shown = value[:60] if isinstance(value, str) else value
        raise invalid(field, shown, f'a text of 1 to {_KEY_BYTES} bytes of UTF-8')
    return value


def _double(value: object) -> float:
    rule = 'a real number that a double can hold, or None if it is missing'
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise invalid('value', value, rule)
    try:
        return float(value)
    except OverflowError as error:
        raise invalid('value', f'{type(value).__name__} beyond 1.8e308', rule) from error


def _check_text(field: str, value: object) -> None:
    if not isinstance(value, str) or _bytes(value) < 0:
        raise invalid(field, value, 'a text that UTF-8 can encode')


def _bytes(value: str) -> int:
    try:
        return len(value.encode())
    except UnicodeEncodeError:  # half of a surrogate pair
        return -1
