"""What the doctor makes of the server's rows and errors; the queries are in tests/integration/test_doctor.py."""

from __future__ import annotations

import datetime
import uuid

import pytest
from cassandra import InvalidRequest, OperationTimedOut, Unauthorized
from cassandra.util import uuid_from_time

from tfx_cassandra.components.doctor import live
from tfx_cassandra.components.doctor.asked import Asked
from tfx_cassandra.components.doctor.facts import Unread


def test_the_id_of_a_table_tells_when_it_was_created() -> None:
    moment = datetime.datetime(2026, 3, 1, 12, 30, 15, 250_000, tzinfo=datetime.timezone.utc)
    created = live._created(uuid_from_time(moment.timestamp()))
    assert created is not None
    assert abs(created - moment) < datetime.timedelta(milliseconds=1)
    assert live._created(uuid.uuid3(uuid.NAMESPACE_DNS, 'k.t')) is None  # use_deterministic_table_id


@pytest.mark.parametrize(('text', 'copies'), [('3', 3), ('3/1', 3), ('1', 1)])
def test_copies(text: str, copies: int) -> None:
    assert live._copies(text) == copies


@pytest.mark.parametrize(
    ('tables', 'named'),
    [
        ((), ('shop', ())),
        (('a', 'b'), ('shop', ('a', 'b'))),
        (('other.a', 'other.b'), ('other', ('a', 'b'))),
        (('shop.a', 'b'), ('shop', ('a', 'b'))),
    ],
)
def test_tables_are_named_with_and_without_a_keyspace(
    tables: tuple[str, ...], named: tuple[str, tuple[str, ...]]
) -> None:
    assert live._named('shop', tables) == named


@pytest.mark.parametrize('tables', [('other.a', 'b'), ('a.x', 'b.x'), ('a.',), ('',)])
def test_tables_of_several_keyspaces_are_refused(tables: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match=r'^tables: got .*, rule: names of tables of one keyspace$'):
        live._named('shop', tables)


def test_what_was_not_read_is_told_once_with_its_nodes_and_what_it_needs() -> None:
    asked = Asked()
    denied = Unauthorized(
        'Error from server: code=2100 [Unauthorized] message="User doctor has no SELECT permission on '
        '<table system_views.settings> or any of its parents"'
    )
    for node in ('a:9042', 'b:9042', 'a:9042'):
        asked.failed('system_views.settings', denied, node)
    asked.failed('system_views.no', InvalidRequest('table no does not exist'), 'a:9042')
    asked.failed('system.local', OperationTimedOut('late'), 'b:9042')
    settings, missing, late = asked.unread
    assert settings.what == 'system_views.settings on a:9042, b:9042'
    assert settings.reason.endswith('User doctor has no SELECT permission on <table system_views.settings>')
    assert settings.needs == 'GRANT SELECT ON system_views.settings TO the role of the doctor'
    assert missing == Unread(
        'system_views.no on a:9042', 'InvalidRequest: table no does not exist', 'a release that has this table'
    )
    assert late.needs == ''
