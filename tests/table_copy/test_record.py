"""The record of a copy: what it keeps, and whose it is."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tfx_cassandra.components.table_copy.record import Record

WHAT = {'source': ['k.a', '1'], 'target': ['k.b', '2'], 'ranges': 4}


def test_what_was_done_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / 'copy.json'
    record = Record(path, WHAT)
    record.done(2, 10)
    record.done(0, 0)
    assert Record(path, WHAT).rows == {2: 10, 0: 0}
    assert [each.name for each in tmp_path.iterdir()] == ['copy.json']
    kept_nowhere = Record(None, WHAT)
    kept_nowhere.done(1, 1)
    assert kept_nowhere.rows == {1: 1}


def test_a_record_of_another_copy_is_refused(tmp_path: Path) -> None:
    path = tmp_path / 'copy.json'
    Record(path, WHAT).done(2, 10)
    with pytest.raises(ValueError, match='a checkpoint of the same copy; it differs in target, ranges'):
        Record(path, {**WHAT, 'target': ['k.b', '3'], 'ranges': 8})
    for damaged in ('', '[]', '{"version": 1, "what": {}, "rows": {"a": 1}}'):
        path.write_text(damaged)
        with pytest.raises(
            ValueError, match=re.escape(f'checkpoint: got {str(path)!r}, rule: a checkpoint of a copy (')
        ):
            Record(path, WHAT)
