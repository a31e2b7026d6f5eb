"""The wait for a table that another applier creates: when the server makes it usable cannot be set on a real one."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from cassandra import InvalidRequest
from cassandra.cluster import NoHostAvailable
from cassandra.protocol import ServerError

from tfx_cassandra.components.schema import applied


def test_a_statement_is_prepared_as_soon_as_its_table_can_be_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied, '_PAUSE', 0)
    error = ServerError(0, 'java.lang.IllegalArgumentException: Unknown CF 44c1d180', None)
    half_made = NoHostAvailable('', {'node': error})
    outcomes = iter([InvalidRequest('table does not exist'), half_made, 'prepared'])

    def prepare(cql: str) -> str:
        outcome = next(outcomes)
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    assert applied._prepared(SimpleNamespace(prepare=prepare), 'SELECT') == 'prepared'


def test_a_table_that_never_comes_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(applied, '_TABLE_SECONDS', 0)

    def prepare(cql: str) -> str:
        raise InvalidRequest('table does not exist')

    with pytest.raises(InvalidRequest):
        applied._prepared(SimpleNamespace(prepare=prepare), 'SELECT')
