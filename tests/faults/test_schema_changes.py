"""A table is altered amid a scan: the scan gives each row as it was, or fails; it is never short, nor a mixture."""

from __future__ import annotations

import itertools

import pytest
from cassandra.cluster import Session
from cassandra.concurrent import execute_concurrent_with_args
from cql_proxy import CqlProxy, Execute
from fault_place import MismatchError
from fault_results import note, outcome_of
from scans import read_rows

from tfx_cassandra.components.driver.connection import CassandraConnection

pytestmark = [pytest.mark.integration, pytest.mark.slow]

PAGE_ROWS = 100
ROWS_OF = [(k, n, f'{k} {n}') for k in range(200) for n in range(20)]
# What is done, and whether a scan that goes on would be of two different tables.
CHANGES = {
    'a column is added': (['ADD w int'], False),
    'a column that is not read is dropped': (['DROP spare'], False),
    'a column that is read is dropped': (['DROP v'], True),
    'a column that is read is dropped and added again': (['DROP v', 'ADD v text'], True),
    'a column that is read is renamed': (['RENAME n TO m'], True),
    'its options are changed': (["WITH comment = 'new'"], False),
}


def make(session: Session, table: str) -> None:
    session.execute(f'CREATE TABLE faults.{table} (k int, n int, v text, spare int, PRIMARY KEY (k, n))')
    insert = session.prepare(f'INSERT INTO faults.{table} (k, n, v) VALUES (?, ?, ?)')
    execute_concurrent_with_args(session, insert, ROWS_OF, concurrency=100)


@pytest.mark.parametrize('page', [1, 9, 30])
@pytest.mark.parametrize('change', CHANGES)
def test_a_scan_is_of_one_table(
    proxy: CqlProxy, proxied: CassandraConnection, session: Session, change: str, page: int
) -> None:
    statements, must_fail = CHANGES[change]
    table = f'altered_{list(CHANGES).index(change)}_{page}'
    make(session, table)
    pages = itertools.count(1)

    def rule(execute: Execute) -> None:
        if execute.token_range and next(pages) == page:
            for statement in statements:
                session.execute(f'ALTER TABLE faults.{table} {statement}', timeout=60)

    def scan() -> None:
        proxy.rule = rule
        if read_rows(proxied, table, columns=['k', 'n', 'v'], page_rows=PAGE_ROWS) != ROWS_OF:
            raise MismatchError('other rows than before')

    outcome = outcome_of(scan)
    note('read', change, outcome)
    assert next(pages) > page, 'the scan had ended'
    assert outcome.kind == ('error' if must_fail else 'equal'), outcome
