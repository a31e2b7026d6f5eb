"""The declared tables as literal values, replication, and what `print` emits; no cluster needed."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from types import SimpleNamespace

import pytest
from cassandra import ConsistencyLevel, DriverException, InvalidRequest, OperationTimedOut, Unavailable
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionShutdown
from cassandra.protocol import ConfigurationException

from tfx_cassandra.components import schema
from tfx_cassandra.components.cli.main import top
from tfx_cassandra.components.driver.errors import DRIVER_ERRORS, one_line
from tfx_cassandra.components.errors import SchemaError
from tfx_cassandra.components.schema import declaration, tables
from tfx_cassandra.components.schema.tables import Column, Relation

# name -> (columns as 'name type', partition key, clustering with order, declared options)
CONTRACT = {
    'feature_store': (
        'model_id text, feature_name text, timestamp timestamp, value double, metadata map<text, text>, user_id text',
        ['model_id', 'feature_name'],
        [('timestamp', 'desc')],
        {'compaction': ('1', 'DAYS'), 'gc_grace_seconds': 864000, 'default_time_to_live': 0},
    ),
    'entity_features': (
        'entity_id text, model_id text, feature_name text, timestamp timestamp, value double, metadata map<text, text>',
        ['entity_id', 'model_id', 'feature_name'],
        [('timestamp', 'desc')],
        {'compaction': ('1', 'DAYS'), 'gc_grace_seconds': 864000, 'default_time_to_live': 0},
    ),
    'model_metrics': (
        'model_id text, metric_name text, timestamp timestamp, value double, tags map<text, text>',
        ['model_id', 'metric_name'],
        [('timestamp', 'desc')],
        {'compaction': ('1', 'HOURS'), 'gc_grace_seconds': 864000, 'default_time_to_live': 2592000},
    ),
    'inference_results': (
        'model_id text, request_id uuid, timestamp timestamp, input_hash text, prediction double, confidence double, '
        'features list<frozen<map<text, double>>>, version text, experiment_id text, unit text',
        ['model_id'],
        [('timestamp', 'desc'), ('request_id', 'asc')],
        {'compaction': ('1', 'MINUTES'), 'gc_grace_seconds': 864000, 'default_time_to_live': 0},
    ),
    'inference_results_bucketed': (
        'model_id text, bucket text, request_id uuid, timestamp timestamp, input_hash text, prediction double, '
        'confidence double, features list<frozen<map<text, double>>>, version text, experiment_id text, unit text',
        ['model_id', 'bucket'],
        [('timestamp', 'desc'), ('request_id', 'asc')],
        {'compaction': ('1', 'DAYS'), 'gc_grace_seconds': 864000, 'default_time_to_live': 2592000},
    ),
    'inference_outcomes': (
        'model_id text, bucket text, timestamp timestamp, request_id uuid, outcome text, value double',
        ['model_id', 'bucket'],
        [('timestamp', 'desc'), ('request_id', 'asc'), ('outcome', 'asc')],
        {'compaction': ('1', 'DAYS'), 'gc_grace_seconds': 864000, 'default_time_to_live': 2592000},
    ),
    'model_versions': (
        'experiment_id text, model_id text, version text, created_at timestamp, metrics map<text, double>, '
        'ab_test_group text, digest text, model_uri text, pipeline_run text, examples_fingerprint text, '
        'examples_window text, examples_backup text, gates set<text>, evaluation_uri text, verdict text',
        ['experiment_id'],
        [('created_at', 'desc'), ('model_id', 'asc')],
        {'compaction': None, 'gc_grace_seconds': 864000, 'default_time_to_live': 0},
    ),
    'model_claims': (
        'experiment_id text, model_id text, digest text, last_version bigint static, version bigint, '
        'created_at timestamp, attempted_at timestamp',
        ['experiment_id', 'model_id'],
        [('digest', 'asc')],
        {'compaction': None, 'gc_grace_seconds': 864000, 'default_time_to_live': 0},
    ),
    'model_aliases': (
        'experiment_id text, alias text, number bigint, model_id text, version text, action text, reason text, '
        'moved_at timestamp, before bigint, move_id uuid',
        ['experiment_id'],
        [('alias', 'asc'), ('number', 'desc')],
        {'compaction': None, 'gc_grace_seconds': 864000, 'default_time_to_live': 0},
    ),
    'layout_buckets': (
        'table_name text, bucket timestamp',
        ['table_name'],
        [('bucket', 'desc')],
        {'compaction': None, 'gc_grace_seconds': 864000, 'default_time_to_live': 0},
    ),
    'schema_migrations': (
        'scope text, number int, owner text static, last_number int static, digest text, applied_at timestamp, '
        'applied_by text, package text, statements int',
        ['scope'],
        [('number', 'desc')],
        {'compaction': None, 'gc_grace_seconds': 864000, 'default_time_to_live': 0},
    ),
    'feature_by_user': (
        'user_id text, model_id text, feature_name text, timestamp timestamp, value double',
        ['user_id'],
        [('model_id', 'asc'), ('feature_name', 'asc'), ('timestamp', 'desc')],
        {},
    ),
}


def _columns(relation: Relation) -> str:
    static = {True: ' static', False: ''}
    return ', '.join(f'{name} {c.type}{static[c.kind == "static"]}' for name, c in relation.columns.items())


def _ordered(relation: Relation, kind: str) -> list[tuple[str, Column]]:
    return sorted(((n, c) for n, c in relation.columns.items() if c.kind == kind), key=lambda pair: pair[1].position)


def test_the_declared_relations_are_those_of_the_contract() -> None:
    assert [(relation.kind, relation.name) for relation in declaration.declared(sai=True)] == [
        *(('table', name) for name in CONTRACT if name != 'feature_by_user'),
        ('view', 'feature_by_user'),
        ('index', 'feature_store_metadata'),
    ]


@pytest.mark.parametrize('name', CONTRACT)
def test_a_declared_relation_is_as_in_the_contract(name: str) -> None:
    relation = {relation.name: relation for relation in declaration.declared()}[name]
    columns, partition, clustering, options = CONTRACT[name]
    assert _columns(relation) == columns
    assert [name for name, _ in _ordered(relation, 'partition_key')] == partition
    assert [(name, column.order) for name, column in _ordered(relation, 'clustering')] == clustering
    declared = dict(relation.options)
    compaction = declared.pop('compaction', None)
    expected = dict(options)
    window = expected.pop('compaction', None)
    assert declared == expected
    assert compaction == (
        window
        and {
            'class': 'TimeWindowCompactionStrategy',
            'compaction_window_size': window[0],
            'compaction_window_unit': window[1],
        }
    )


def test_statements_are_complete_and_quoted() -> None:
    statements = schema.statements('ml_features', schema.NetworkReplication({'dc1': 3}), sai=True)
    assert statements[0] == (
        'CREATE KEYSPACE IF NOT EXISTS "ml_features" WITH replication = '
        "{'class': 'NetworkTopologyStrategy', 'dc1': '3'} AND durable_writes = true"
    )
    assert len(statements) == 1 + len(CONTRACT) + 1
    assert all('IF NOT EXISTS' in statement for statement in statements)
    assert not any('{keyspace}' in statement or ';' in statement for statement in statements)
    assert sum('"ml_features".feature_store' in statement for statement in statements) == 3  # table, view and index


def test_views_and_indexes_are_left_out_on_demand() -> None:
    text = '\n'.join(schema.statements('k', schema.SimpleReplication(1), views=False))
    assert 'CREATE MATERIALIZED VIEW' not in text
    assert 'CREATE INDEX' not in text


@pytest.mark.parametrize('keyspace', ['', 'a b', 'a"; DROP KEYSPACE b', 'a-b', 'ä', 'x' * 49])
def test_a_keyspace_name_that_could_end_its_quotes_is_refused(keyspace: str) -> None:
    with pytest.raises(ValueError, match=r'^keyspace: got .*, rule: 1 to 48 letters'):
        schema.statements(keyspace, schema.SimpleReplication(1))


def test_a_data_center_with_a_quote_stays_one_text() -> None:
    assert "'o''hare': '2'" in schema.statements('k', schema.NetworkReplication({"o'hare": 2}))[0]


@pytest.mark.parametrize(
    ('text', 'replication'),
    [
        ('simple:1', schema.SimpleReplication(1)),
        ('dc1:3', schema.NetworkReplication((('dc1', 3),))),
        ('dc1:3,dc2:2', schema.NetworkReplication({'dc1': 3, 'dc2': 2})),
        (' dc1:3 , dc2:2 ', schema.NetworkReplication({'dc1': 3, 'dc2': 2})),
        ('us:east:3', schema.NetworkReplication({'us:east': 3})),
    ],
)
def test_replication_is_parsed(text: str, replication: schema.Replication) -> None:
    assert schema.parse_replication(text) == replication


@pytest.mark.parametrize(
    'text', ['', 'dc1', 'dc1:', ':3', 'dc1:x', 'dc1:-1', 'dc1:0', 'simple:0', 'dc1:1,', 'dc1:1,dc1:2', 'class:1']
)
def test_invalid_replication_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=', rule: '):
        schema.parse_replication(text)


@pytest.mark.parametrize('factors', [{}, (), {'': 1}, {'dc1': True}, {'dc1': '3'}, (('dc1', 1), ('dc1', 1))])
def test_network_replication_checks_its_factors(factors: Mapping[str, int]) -> None:
    with pytest.raises(ValueError, match=r'^factors.*, rule: '):
        schema.NetworkReplication(factors)


@pytest.mark.parametrize('factor', [0, -1, True, '1', 1.0])
def test_simple_replication_checks_its_factor(factor: int) -> None:
    with pytest.raises(ValueError, match=r'^factor: got .*, rule: a number of copies, from 1'):
        schema.SimpleReplication(factor)


def test_a_difference_reads_as_one_line() -> None:
    assert str(schema.Difference('t.c', 'int', 'double')) == 't.c: got int, declared double'


@pytest.mark.parametrize(
    ('error', 'line'),
    [
        (InvalidRequest('Materialized\nviews are  disabled'), 'InvalidRequest: Materialized views are disabled'),
        (NoHostAvailable('no', {'a': OSError('x'), 'b': OSError('x')}), 'OSError: x'),
        (NoHostAvailable('no', [OSError('x')]), 'OSError: x'),
        (NoHostAvailable('none', {}), "NoHostAvailable: ('none', {})"),
    ],
)
def test_a_driver_error_reads_as_one_line(error: Exception, line: str) -> None:
    assert one_line(error) == line


@pytest.mark.parametrize(
    'error',
    [
        DriverException('x'),
        NoHostAvailable('x', {}),
        ConnectionShutdown('x'),
        OperationTimedOut(),
        ConfigurationException(0x2300, 'x', None),
        Unavailable('x', consistency=ConsistencyLevel.ONE),
    ],
)
def test_every_error_of_the_driver_has_a_message(error: Exception) -> None:
    assert isinstance(error, DRIVER_ERRORS)


@pytest.fixture
def command() -> Callable[..., int]:
    """Runs `tfx-cassandra schema ...` as the command line does."""

    def run(*words: str) -> int:
        return top.main(['schema', *words], 'tfx-cassandra', standalone_mode=False)

    return run


def test_print_emits_the_statements(command: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert command('print', '--keyspace', 'k', '--replication', 'dc1:3,dc2:2', '--no-views') == 0
    out = capsys.readouterr().out
    expected = schema.statements('k', schema.NetworkReplication({'dc1': 3, 'dc2': 2}), views=False)
    assert out == ''.join(f'{statement};\n\n' for statement in expected)


def test_print_defaults_to_three_copies_in_the_local_data_center(
    command: Callable[..., int], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv('CASSANDRA_LOCAL_DATACENTER', 'east')
    assert command('print') == 0
    assert "'east': '3'" in capsys.readouterr().out


def test_print_refuses_bad_replication(command: Callable[..., int]) -> None:
    with pytest.raises(ValueError, match=r'^replication: got '):
        command('print', '--replication', 'three')


@dataclasses.dataclass(frozen=True)
class _Host:
    host_id: int
    datacenter: str = 'dc1'
    is_up: bool | None = True


def test_schema_statements_go_to_the_same_node_whatever_a_session_has_connected_to() -> None:
    # When a session reaches its nodes cannot be set on a real one.
    elsewhere, down, first, second, third = _Host(1, 'dc2'), _Host(2, is_up=False), _Host(3), _Host(4), _Host(5)
    connected = iter([[third], [third, second], [third, second, first]])
    session = SimpleNamespace(
        cluster=SimpleNamespace(
            metadata=SimpleNamespace(all_hosts=lambda: [third, elsewhere, down, second, first]),
        ),
        get_pool_state=lambda: next(connected),
    )
    assert tables.coordinator(session) == first


@pytest.mark.parametrize('hosts', [[], [_Host(1)], [_Host(1, is_up=False)]])
def test_schema_statements_go_nowhere_without_a_connection(hosts: list[_Host], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, '_COORDINATOR_PAUSE', 0)
    cluster = SimpleNamespace(metadata=SimpleNamespace(all_hosts=lambda: hosts))
    session = SimpleNamespace(cluster=cluster, get_pool_state=lambda: [])
    with pytest.raises(SchemaError, match='any node: no connection to the node that runs schema statements'):
        tables.coordinator(session)


def test_a_table_renders_every_part() -> None:
    made = declaration.table(
        'visits', "A user's visit.", {'user': 'text', 'name': 'text static', 'at': 'timestamp', 'n': 'int'},
        ('user',), {'at': 'desc'}, {'default_time_to_live': 60},
    )  # fmt: skip
    assert made.cql == (
        "-- A user's visit.\n"
        'CREATE TABLE IF NOT EXISTS {keyspace}.visits (\n    user text,\n    name text static,\n'
        '    at timestamp,\n    n int,\n    PRIMARY KEY ((user), at)\n'
        ') WITH CLUSTERING ORDER BY (at DESC)\n   AND default_time_to_live = 60'
    )
    assert made.columns == {
        'user': Column('text', 'partition_key', 0),
        'name': Column('text', 'static'),
        'at': Column('timestamp', 'clustering', 0, 'desc'),
        'n': Column('int'),
    }
