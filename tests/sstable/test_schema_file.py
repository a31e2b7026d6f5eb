"""schema.cql: what Cassandra writes into a snapshot, and what is refused."""

from __future__ import annotations

import pytest

from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.sstable import schema_file

TEXT = """
CREATE TYPE IF NOT EXISTS ks.pair (
    a int,
    "B ""c" frozen<list<text>>
);

/* a table */
CREATE TABLE IF NOT EXISTS ks."My t" (
    k1 int,
    "K 2" text,
    c timestamp,
    d frozen<map<int, text>>,
    s frozen<pair> static,
    "old" int,
    v map<text, frozen<tuple<int, text>>>,
    w vector<float, 3>,
    PRIMARY KEY ((k1, "K 2"), c, d)
) WITH ID = 55d1bcd0-cd0b-11f0-a6f7-1f0f0c0a0a0a
    AND CLUSTERING ORDER BY ("c" DESC, d ASC)
    AND comment = 'it''s; one -- of (these)'
    AND extensions = {};
ALTER TABLE ks."My t" DROP "old" USING TIMESTAMP 17;
ALTER TABLE ks."My t" DROP s USING TIMESTAMP 18;
ALTER TABLE ks."My t" ADD s frozen<pair> static;
"""


def test_the_table_and_what_was_dropped() -> None:
    found = schema_file.parse(TEXT)
    table = found.table
    assert (table.keyspace, table.name, table.partition_key, table.clustering) == (
        'ks',
        'My t',
        ('k1', 'K 2'),
        ('c', 'd'),
    )
    assert table.types == (
        ('k1', 'int'), ('K 2', 'text'), ('c', 'timestamp'), ('d', 'frozen<map<int, text>>'), ('s', 'frozen<pair>'),
        ('v', 'map<text, frozen<tuple<int, text>>>'), ('w', 'vector<float, 3>'),
    )  # fmt: skip
    assert (table.static, table.has_static, table.descending) == (('s',), True, True)
    assert found.user_types == {'pair': (('a', 'int'), ('B "c', 'frozen<list<text>>'))}
    assert found.dropped == {'old': 17, 's': 18}


def test_the_body_of_a_function_may_have_anything() -> None:
    body = "$$ return k.replace('\\'', '\"') + ';'; // it's that $$"
    function = f'CREATE FUNCTION other.f (k text) CALLED ON NULL INPUT RETURNS text LANGUAGE java AS {body};'
    found = schema_file.parse(f'{function}\n{TEXT}', ('ks', 'My t'))
    assert found == schema_file.parse(TEXT)


@pytest.mark.parametrize(
    'key', ['k int PRIMARY KEY, v int', 'k int, v int, PRIMARY KEY (k)', 'k int, v int, PRIMARY KEY ((k))']
)
def test_one_key(key: str) -> None:
    table = schema_file.parse(f'CREATE TABLE a.b ({key})').table
    assert (table.partition_key, table.clustering, table.descending) == (('k',), (), False)


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('', r'^schema.cql: got no CREATE TABLE, rule: the file that a snapshot has$'),
        ('CREATE TABLE a.b (k int PRIMARY KEY, n counter)', r'^a\.b: got a table of counters, rule: one without'),
        ('CREATE MATERIALIZED VIEW a.v AS SELECT k FROM a.b', r'^schema.cql: got a materialized view, rule: a table'),
        ('CREATE TABLE b (k int PRIMARY KEY)', r"^schema.cql: got 'b \( k int', rule: KEYSPACE\.NAME$"),
        (
            "CREATE TABLE a.b (k int PRIMARY KEY) WITH comment = 'x",
            r"^schema.cql: got \"'x\" at character 52, rule: CQL$",
        ),
        (
            'CREATE TABLE a.b (k int PRIMARY KEY); ALTER TABLE a.b DROP v',
            r'^schema.cql: got ALTER TABLE DROP v, rule: DROP',
        ),
    ],
)
def test_what_is_refused(text: str, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        schema_file.parse(text)


def test_a_type_that_is_not_declared() -> None:
    with pytest.raises(
        SchemaError, match=r'^schema.cql: got type nothing, rule: a type of CQL, or one that it declares$'
    ):
        schema_file.parse('CREATE TABLE a.b (k int PRIMARY KEY)').driver_type('nothing')
