"""What the doctor takes from nodetool; tests/integration/test_doctor_ring.py runs a real one."""

from __future__ import annotations

import json
import shlex
import sys
from types import SimpleNamespace

import pytest
from doctor_facts import reading

from tfx_cassandra.components.doctor import tablestats
from tfx_cassandra.components.doctor.asked import Asked

TABLE = {
    'sstable_count': 2,
    'compacted_partition_maximum_bytes': 60_000_000,
    'droppable_tombstone_ratio': '0.25000',
}
OUTPUT = 'WARN of the JVM\n' + json.dumps({'total_number_of_tables': 9, 'shop': {'tables': {'events': TABLE}}})
HOST = SimpleNamespace(endpoint=SimpleNamespace(address='127.0.0.1'))


def command(code: str) -> str:
    """A command that runs Python code and is told the address."""
    return f'{shlex.quote(sys.executable)} -c {shlex.quote(code)} {{address}}'


def test_what_nodetool_knows_is_added() -> None:
    asked = Asked()
    code = f'import sys; assert sys.argv[1:] == ["127.0.0.1", "tablestats", "-F", "json", "shop"]; print({OUTPUT!r})'
    stats = tablestats.read(asked, command(code), HOST, 'shop')  # type: ignore[arg-type]
    found = stats.added_to(reading(max_partition=50_000_000))
    assert (found.max_partition, found.droppable) == (60_000_000, 0.25)
    assert stats.added_to(reading(max_partition=70_000_000)).max_partition == 70_000_000
    assert stats.added_to(reading(table='other')) == reading(table='other')
    assert asked.unread == ()


@pytest.mark.parametrize('ratio', ['NaN', None, 'much'])
def test_a_share_that_is_no_number_is_none(ratio: object) -> None:
    stats = tablestats.Stats({'events': {'droppable_tombstone_ratio': ratio}})
    assert stats.added_to(reading()) == reading()


@pytest.mark.parametrize(
    ('code', 'reason'),
    [
        ('import sys; sys.exit("nodetool: Failed to connect")', 'exit code 1: nodetool: Failed to connect'),
        ('print("no JSON")', "got 'no JSON"),
        ('print("{}")', "got '{}"),
    ],
)
def test_a_nodetool_that_fails_is_told(code: str, reason: str) -> None:
    asked = Asked()
    stats = tablestats.read(asked, command(code), HOST, 'shop')  # type: ignore[arg-type]
    assert stats.added_to(reading()) == reading()
    (unread,) = asked.unread
    assert unread.what.startswith('nodetool tablestats on ')
    assert reason in unread.reason
    assert unread.needs == 'a nodetool that reaches JMX of the node'


def test_a_nodetool_that_is_not_there_is_told() -> None:
    asked = Asked()
    tablestats.read(asked, 'no-such-nodetool -h {address}', HOST, 'shop')  # type: ignore[arg-type]
    assert 'No such file' in asked.unread[0].reason


def test_a_command_names_the_node() -> None:
    with pytest.raises(ValueError, match=r"nodetool: got 'nodetool', rule: a command with \{address\}"):
        tablestats.check('nodetool')
