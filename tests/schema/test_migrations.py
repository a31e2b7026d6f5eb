"""What is added, what is refused with which steps, and the version: relations as values, no cluster needed."""

from __future__ import annotations

import dataclasses

import pytest

from tfx_cassandra.components import schema
from tfx_cassandra.components.schema import declaration, migrations
from tfx_cassandra.components.schema.tables import Column, Relation

VISITS = schema.table(
    'visits', 'A visit.', {'shop': 'text', 'at': 'timestamp', 'spent': 'double', 'name': 'text static'}, ('shop',),
    {'at': 'desc'}, {'gc_grace_seconds': 3600},
)  # fmt: skip
BY_DAY = schema.view('visits_by_time', 'By time.', VISITS, ('at', 'shop', 'spent'), ('at',), {'shop': 'asc'})
SPENT = schema.index('visits_spent', 'By amount.', 'visits', 'spent')
PLACE = schema.user_type('place', 'Where.', {'city': 'text', 'zip': 'int'})
DECLARED = [PLACE, VISITS, BY_DAY, SPENT]


def live(*relations: Relation) -> dict[str, Relation]:
    """Returns relations as a server has them: without CQL."""
    return {relation.name: dataclasses.replace(relation, cql='') for relation in relations}


def without(relation: Relation, *columns: str) -> Relation:
    kept = {name: column for name, column in relation.columns.items() if name not in columns}
    return dataclasses.replace(relation, columns=kept)


def changed(relation: Relation, name: str, column: Column) -> Relation:
    return dataclasses.replace(relation, columns={**relation.columns, name: column})


def added(there: dict[str, Relation]) -> list[str]:
    return [addition.cql for addition in migrations.additions(DECLARED, there, 'shop')]


def refused(there: dict[str, Relation]) -> list[migrations.Refusal]:
    return list(migrations.refusals(DECLARED, there, 'shop'))


def test_everything_is_added_to_nothing_in_order() -> None:
    assert [cql.partition('\n')[2].partition('(')[0] for cql in added({})] == [
        'CREATE TYPE IF NOT EXISTS "shop".place ',
        'CREATE TABLE IF NOT EXISTS "shop".visits ',
        'CREATE MATERIALIZED VIEW IF NOT EXISTS "shop".visits_by_time AS\nSELECT at, shop, spent FROM "shop".visits\n'
        'WHERE at IS NOT NULL AND shop IS NOT NULL\nPRIMARY KEY ',
        'CREATE INDEX IF NOT EXISTS visits_spent ON "shop".visits ',
    ]
    assert refused({}) == []


def test_nothing_is_added_to_what_is_declared() -> None:
    assert added(live(*DECLARED)) == []
    assert refused(live(*DECLARED)) == []


def test_what_is_not_declared_is_left_alone() -> None:
    more = [changed(VISITS, 'note', Column('text')), PLACE, BY_DAY, SPENT, dataclasses.replace(VISITS, name='mine')]
    assert added(live(*more)) == []
    assert refused(live(*more)) == []


def test_missing_columns_and_fields_are_added() -> None:
    there = live(without(PLACE, 'zip'), without(VISITS, 'spent', 'name'), BY_DAY, SPENT)
    assert added(there) == [
        'ALTER TYPE "shop".place ADD IF NOT EXISTS zip int',
        'ALTER TABLE "shop".visits ADD IF NOT EXISTS spent double',
        'ALTER TABLE "shop".visits ADD IF NOT EXISTS name text static',
    ]
    assert refused(there) == []


@pytest.mark.parametrize(
    ('relation', 'difference', 'first', 'last'),
    [
        (
            changed(VISITS, 'spent', Column('float')),
            'visits.spent: got float, declared double',
            'tfx-cassandra schema apply --keyspace shop_2',
            'DROP TABLE "shop".visits when nothing reads it',
        ),
        (
            changed(VISITS, 'at', Column('timestamp', 'clustering', 0, 'asc')),
            'visits.at: got clustering column 0, asc, declared clustering column 0, desc',
            'tfx-cassandra schema apply --keyspace shop_2',
            'DROP TABLE "shop".visits when nothing reads it',
        ),
        (
            without(VISITS, 'at'),
            'visits.at: got nothing, declared timestamp, clustering column 0, desc',
            'tfx-cassandra schema apply --keyspace shop_2',
            'DROP TABLE "shop".visits when nothing reads it',
        ),
        (
            changed(VISITS, 'name', Column('text')),
            'visits.name: got regular column, declared static column',
            'tfx-cassandra schema apply --keyspace shop_2',
            'DROP TABLE "shop".visits when nothing reads it',
        ),
        (
            without(BY_DAY, 'spent'),
            'visits_by_time.spent: got nothing, declared double, regular column',
            'stop the readers of "shop".visits_by_time',
            'tfx-cassandra schema apply --keyspace shop -- the server builds it anew from its table',
        ),
        (
            dataclasses.replace(SPENT, source='visits (name) using sai'),
            'visits_spent: got visits (name) using sai, declared visits (spent) using sai',
            'stop the readers of "shop".visits_spent',
            'tfx-cassandra schema apply --keyspace shop -- the server builds it anew from its table',
        ),
        (
            dataclasses.replace(VISITS, name='visits_by_time'),
            'visits_by_time: got table, declared view',
            'move what needs table "shop".visits_by_time to another name',
            'tfx-cassandra schema apply --keyspace shop',
        ),
        (
            changed(PLACE, 'zip', Column('text', 'field')),
            'place.zip: got text, declared int',
            'declare a new type in the place of place',
            'declare a new type in the place of place',
        ),
    ],
)
def test_a_change_that_is_no_addition_is_refused_with_steps(
    relation: Relation, difference: str, first: str, last: str
) -> None:
    there = {**live(*DECLARED), **live(relation)}
    assert added(there) == []
    (refusal,) = refused(there)
    assert str(refusal.difference) == difference
    assert refusal.difference.kind == 'definition'
    assert refusal.steps[0].startswith(first)
    assert refusal.steps[-1].startswith(last)
    assert str(refusal).splitlines()[:2] == [difference, f'  1. {refusal.steps[0]}']


def test_an_option_is_left_with_its_statement() -> None:
    options = {**VISITS.options, 'gc_grace_seconds': 0}
    (left,) = refused({**live(*DECLARED), **live(dataclasses.replace(VISITS, options=options))})
    assert left.difference.kind == 'option'
    assert left.steps == ('ALTER TABLE "shop".visits WITH gc_grace_seconds = 3600',)


def test_a_compaction_is_left_with_its_statement_and_its_cost() -> None:
    (windows,) = [relation for relation in declaration.TABLES if relation.name == 'model_metrics']
    there = dataclasses.replace(windows, options={**windows.options, 'compaction': {'class': 'x.SizeTiered'}})
    (left,) = migrations.refusals([windows], live(there), 'k')
    assert left.steps == (
        """ALTER TABLE "k".model_metrics WITH compaction = {'class': 'TimeWindowCompactionStrategy', """
        """'compaction_window_size': '1', 'compaction_window_unit': 'HOURS'}"""
        ' -- every SSTable of the table is compacted anew',
    )


def test_a_version_depends_on_the_statements_and_not_on_their_comments() -> None:
    version = migrations.digest(DECLARED)
    assert version == migrations.digest([dataclasses.replace(PLACE, cql=f'-- More.\n{PLACE.cql}'), *DECLARED[1:]])
    assert version != migrations.digest(DECLARED[:-1])
    assert version != migrations.digest(DECLARED[::-1])
    assert len(version) == 64


def test_no_statement_of_an_addition_drops_or_alters_what_is_there() -> None:
    there = live(*(without(relation, *list(relation.columns)[-1:]) for relation in declaration.TABLES[:4]))
    everything = declaration.declared(sai=True)
    for addition in migrations.additions(everything, there, 'k'):
        statement = ' '.join(line for line in addition.cql.splitlines() if not line.startswith('--'))
        assert statement.startswith(('CREATE ', 'ALTER TABLE "k".'))
        assert ' IF NOT EXISTS ' in statement
        assert not any(word in statement.split() for word in ('DROP', 'TRUNCATE', 'RENAME', 'DELETE'))
