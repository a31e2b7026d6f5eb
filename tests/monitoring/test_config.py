"""The file of views and skew checks: what it may hold, and one line for what it may not."""

from __future__ import annotations

import datetime
import json
from pathlib import Path
from typing import Any

import pytest

from tfx_cassandra.components.dataset.spec.view import FeatureView
from tfx_cassandra.components.monitoring.config import Monitoring, SkewCheck, parse
from tfx_cassandra.components.monitoring.windows import Load

VIEW = {'name': 'v', 'table': 't', 'entity_columns': ['id'], 'timestamp_column': 'at', 'features': ['x']}
HOUR = datetime.timedelta(hours=1)


def parsed(folder: Path, content: Any) -> Monitoring:
    path = folder / 'config.json'
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return parse(path)


def test_views_and_checks(tmp_path: Path) -> None:
    found = parsed(
        tmp_path, {'views': [VIEW | {'ttl_seconds': 3600}], 'skew': [{'model_id': 'm', 'entity': {'id': 'unit'}}]}
    )
    assert found.views == (FeatureView('v', 't', ('id',), 'at', ('x',), ttl=HOUR),)
    path = tmp_path / 'config.json'
    path.write_text(json.dumps({'views': [VIEW | {'where': {'kind': [1, 2]}}]}))
    assert parse(path).views[0].where == (('kind', (1, 2)),)
    assert found.skew == (SkewCheck('m', {'id': 'unit'}),)
    assert parsed(tmp_path, {}) == Monitoring()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('{', 'config: got .*, rule: JSON'),
        ({'views': [1]}, r'views\[0\]: got 1, rule: an object with the fields of FeatureView'),
        ([], 'config: got .*, rule: an object with "views", "skew" or both'),
        ({'veiws': []}, 'config: got .*, rule: an object with'),
        ({'views': [VIEW | {'tabel': 't'}]}, r'views\[0\]: got '),
        ({'views': [VIEW | {'features': []}]}, 'features: got '),
        ({'views': [{**VIEW, 'timestamp_column': None}]}, 'view v: got None, rule: a view with a timestamp_column'),
        ({'views': [VIEW, VIEW]}, 'views: got .*, rule: each name once'),
        ({'skew': [{'model_id': 'm'}]}, 'skew: got .*, rule: an object with model_id and entity'),
        ({'skew': [{'model_id': 'm', 'entity': {}}]}, 'skew.entity: got {}, rule: one entity column or more'),
        ({'skew': [{'model_id': 'm', 'entity': {'a': 'b'}, 'tolerance': 'x'}]}, "skew.tolerance: got 'x', rule: a num"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_one_line(content: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=f'^{message}') as caught:
        parsed(tmp_path, content)
    assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
    ('kind', 'fields', 'message'),
    [
        (Monitoring, {'current': -HOUR}, 'current: got .*, rule: above zero'),
        (Monitoring, {'reference': datetime.timedelta(0)}, 'reference: got .*, rule: above zero'),
        (Load, {'rows_per_second': 0.0}, 'rows_per_second: got 0.0, rule: a number above 0'),
        (Load, {'max_rows': 0}, 'max_rows: got 0, rule: an integer of at least 1'),
    ],
)
def test_limits_and_windows_are_checked(kind: Any, fields: dict, message: str) -> None:
    with pytest.raises(ValueError, match=f'^{message}'):
        kind(**fields)
