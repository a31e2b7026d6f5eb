"""Claims and rows on a real node."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from cassandra import ConsistencyLevel, WriteTimeout, WriteType
from cassandra.cluster import Session
from cassandra.query import BatchStatement

from tfx_cassandra.components import protos
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError, SchemaError, UnavailableError
from tfx_cassandra.components.pusher.config import PusherConfig
from tfx_cassandra.components.registry import claims as model_claims
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import Claim, ModelRegistry, ModelVersion
from tfx_cassandra.components.window import TimeWindow
from tfx_cassandra.proto import cassandra_pb2

pytestmark = pytest.mark.integration


@pytest.fixture
def registry(connection: CassandraConnection) -> Iterator[ModelRegistry]:
    with ModelRegistry(connection) as opened:
        yield opened


@pytest.fixture
def experiment(request: pytest.FixtureRequest) -> str:
    return request.node.name


def claims(session: Session, connection: CassandraConnection, experiment: str, model: str = 'delay') -> list:
    """What plain CQL reads of a model's claims: (digest, version, created_at, last_version)."""
    cql = f'SELECT digest, version, created_at, last_version FROM "{connection.keyspace}".model_claims'
    return list(map(tuple, session.execute(f'{cql} WHERE experiment_id = %s AND model_id = %s', (experiment, model))))


def test_the_same_files_have_the_same_claim_for_ever(registry: ModelRegistry, experiment: str) -> None:
    before = int(time.time())
    first = registry.claim(experiment, 'delay', 'aa')
    assert before <= first.version <= time.time()
    assert first.created_at == moment(first.version)
    later = registry.claim(experiment, 'delay', 'bb')
    assert later.version > first.version
    assert registry.claim(experiment, 'delay', 'aa') == first


def test_models_and_experiments_do_not_share_claims(registry: ModelRegistry, experiment: str) -> None:
    registry.claim(experiment, 'delay', 'aa')
    last = registry.claim(experiment, 'delay', 'bb').version
    assert registry.claim(experiment, 'other', 'bb').version <= last
    assert registry.claim(f'{experiment} 2', 'delay', 'bb').version <= last


def test_versions_only_grow_when_a_clock_goes_back(
    registry: ModelRegistry, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = []
    for number, now in enumerate((2_000_000_000.0, 1_000_000_000.0, 2_000_000_000.5, 2_000_000_009.0)):
        monkeypatch.setattr(model_claims.time, 'time', lambda now=now: now)
        versions.append(registry.claim(experiment, 'delay', f'digest {number}').version)
    assert versions == [2_000_000_000, 2_000_000_001, 2_000_000_002, 2_000_000_009]


CLAIMER = """
import json, sys
from tfx_cassandra.components import protos
from tfx_cassandra.components.pusher.config import PusherConfig
from tfx_cassandra.components.registry.registry import ModelRegistry
from tfx_cassandra.proto import cassandra_pb2
settings = protos.from_json(PusherConfig, cassandra_pb2.PusherConfig, sys.argv[1])
with ModelRegistry(settings.connection) as registry:
    print('ready', flush=True)
    for digest in json.loads(sys.stdin.readline()):
        print(registry.claim(settings.experiment_id, settings.model_id, digest).version, flush=True)
"""


def test_eight_processes_agree(connection: CassandraConnection, session: Session, experiment: str) -> None:
    """Each process claims three digests that all claim and two of its own, in an order of its own."""
    settings = protos.to_json(PusherConfig(connection, experiment, 'delay'), cassandra_pb2.PusherConfig)
    shared, processes, wanted = ['s0', 's1', 's2'], [], []
    for number in range(8):
        turn = number % 3
        wanted.append([*shared[turn:], f'own {number} a', *shared[:turn], f'own {number} b'])
        command = [sys.executable, '-c', CLAIMER, settings]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == 'ready\n'
    for process, digests in zip(processes, wanted, strict=True):
        assert process.stdin is not None
        process.stdin.write(json.dumps(digests) + '\n')
        process.stdin.flush()
    answers = [list(map(int, process.communicate(timeout=120)[0].split())) for process in processes]

    version_of: dict[str, set[int]] = {}
    for digests, versions in zip(wanted, answers, strict=True):
        assert len(versions) == len(digests)
        for digest, version in zip(digests, versions, strict=True):
            version_of.setdefault(digest, set()).add(version)
    assert all(len(versions) == 1 for versions in version_of.values())
    assert len({version for versions in version_of.values() for version in versions}) == 3 + 8 * 2
    rows = claims(session, connection, experiment)
    assert {digest: {version} for digest, version, _, _ in rows} == version_of
    assert {last for _, _, _, last in rows} == {max(version for _, version, _, _ in rows)}
    assert len({created_at for _, _, created_at, _ in rows}) == len(rows)


def test_thirty_two_threads_with_different_models_all_get_a_version(registry: ModelRegistry, experiment: str) -> None:
    """Claims that contend settle, and each process sees its own grow."""
    barrier, results = threading.Barrier(32), {}

    def claim(number: int) -> None:
        barrier.wait()
        results[number] = registry.claim(experiment, 'delay', f'digest {number}').version

    threads = [threading.Thread(target=claim, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(results.values())) == 32
    assert registry.claim(experiment, 'delay', 'after all').version > max(results.values())


class Overtaken:
    """A session whose user is overtaken: another pusher claims just before a chosen statement is executed."""

    def __init__(self, session: Session, statement: object, overtake: Callable[[], Claim]) -> None:
        self._session = session
        self._statement = statement
        self._overtake = overtake
        self.overtaker: Claim | None = None

    def execute(self, statement: Any, *values: object, **options: object) -> Any:
        if self.overtaker is None and (statement is self._statement or isinstance(statement, BatchStatement)):
            self.overtaker = self._overtake()
        return self._session.execute(statement, *values, **options)


@pytest.mark.parametrize('before', ['last', 'batch'])
@pytest.mark.parametrize('digest', ['aa', 'bb'])
def test_a_pusher_that_is_overtaken_sees_it(
    before: str, digest: str, registry: ModelRegistry, connection: CassandraConnection, experiment: str
) -> None:
    with ModelRegistry(connection) as other:
        overtaken = Overtaken(
            registry._session.driver,
            registry._session.prepared.get(before),
            lambda: other.claim(experiment, 'delay', digest),
        )
        registry._session.driver = overtaken
        claim = registry.claim(experiment, 'delay', 'aa')
        assert overtaken.overtaker is not None
        assert (claim == overtaken.overtaker) is (digest == 'aa')
        assert other.claim(experiment, 'delay', 'aa') == claim
        assert other.claim(experiment, 'delay', digest) == overtaken.overtaker


class Lossy:
    """A session that loses the answer to the first write, before or after the node has applied it."""

    def __init__(self, session: Session, *, applied: bool) -> None:
        self._session = session
        self._applied = applied
        self._lost = False

    def execute(self, statement: Any, *values: object, **options: object) -> Any:
        if self._lost or not (isinstance(statement, BatchStatement) or 'INSERT' in statement.query_string):
            return self._session.execute(statement, *values, **options)
        self._lost = True
        if self._applied:
            self._session.execute(statement, *values, **options)
        raise WriteTimeout('the answer was lost', consistency=ConsistencyLevel.SERIAL, write_type=WriteType.CAS)


@pytest.mark.parametrize('applied', [True, False])
def test_a_write_whose_outcome_is_unknown_is_settled(
    applied: bool, registry: ModelRegistry, connection: CassandraConnection, session: Session, experiment: str
) -> None:
    whole = registry._session.driver
    registry._session.driver = Lossy(whole, applied=applied)
    claim = registry.claim(experiment, 'delay', 'aa')
    version = ModelVersion(experiment, 'delay', str(claim.version), claim.created_at, digest='aa')
    registry._session.driver = Lossy(whole, applied=applied)
    assert registry.record(version) == version
    registry._session.driver = whole
    created_at = claim.created_at.replace(tzinfo=None)
    assert claims(session, connection, experiment) == [('aa', claim.version, created_at, claim.version)]
    assert registry.list(experiment) == (version,)


def full(experiment: str, model: str, claim: Claim, digest: str) -> ModelVersion:
    return ModelVersion(
        experiment, model, str(claim.version), claim.created_at, {'auc': 0.75, 'precision{class_id=3}': 0.5}, 'B',
        digest, f'/serving/{claim.version}', 'run-7', 'f00d', '2013-01-01T00:00+00:00/2013-02-01T00:00+00:00',
        ('model_blessing', 'verdict'), '/evaluation', 'ship',
    )  # fmt: skip


def test_a_row_reads_back_as_it_was_recorded(
    registry: ModelRegistry, connection: CassandraConnection, session: Session, experiment: str
) -> None:
    claim = registry.claim(experiment, 'delay', 'aa')
    version = full(experiment, 'delay', claim, 'aa')
    assert registry.record(version) == version
    assert registry.get(experiment, 'delay', version.version) == version
    cql = f'SELECT * FROM "{connection.keyspace}".model_versions WHERE experiment_id = %s'
    (row,) = session.execute(cql, (experiment,))
    stored = {'created_at': version.created_at.replace(tzinfo=None), 'gates': set(version.gates)}
    assert row._asdict() == dataclasses.asdict(version) | stored


def test_the_first_record_stays_and_what_others_add_survives(
    registry: ModelRegistry, connection: CassandraConnection, session: Session, experiment: str
) -> None:
    version = full(experiment, 'delay', registry.claim(experiment, 'delay', 'aa'), 'aa')
    registry.record(version)
    cql = f'UPDATE "{connection.keyspace}".model_versions SET metrics = metrics + %s WHERE experiment_id = %s'
    key = (experiment, version.created_at, version.model_id)
    session.execute(f'{cql} AND created_at = %s AND model_id = %s', ({'lift': 0.1}, *key))
    stored = registry.record(dataclasses.replace(version, metrics={'auc': 0.1}, pipeline_run='run-8'))
    assert stored == dataclasses.replace(version, metrics={'lift': 0.1, **version.metrics})
    assert registry.list(experiment) == (stored,)


def test_a_key_that_holds_another_version_is_an_error(registry: ModelRegistry, experiment: str) -> None:
    version = full(experiment, 'delay', registry.claim(experiment, 'delay', 'aa'), 'aa')
    registry.record(version)
    with pytest.raises(RegistryError, match=r"^version: got '\d+' with digest 'bb', rule: .* is free, but it holds"):
        registry.record(dataclasses.replace(version, digest='bb'))
    assert registry.list(experiment) == (version,)


def test_reading_by_version_model_and_window(registry: ModelRegistry, experiment: str) -> None:
    start = 1_700_000_000
    rows = [
        full(experiment, model, Claim(start + second, moment(start + second)), f'{model} {second}')
        for second, model in ((0, 'delay'), (1, 'delay'), (1, 'other'), (2, 'other'))
    ]
    for row in rows:
        registry.record(row)
    delay_0, delay_1, other_1, other_2 = rows
    assert registry.list(experiment) == (other_2, delay_1, other_1, delay_0)
    assert registry.list(experiment, TimeWindow(moment(start), moment(start + 2))) == (delay_1, other_1, delay_0)
    assert registry.list(experiment, TimeWindow(moment(start + 2), moment(start + 3))) == (other_2,)
    assert registry.latest(experiment, 'delay') == delay_1
    assert registry.get(experiment, 'other', str(start + 1)) == other_1
    assert registry.get(experiment, 'delay', str(start + 2)) is None
    assert registry.latest(experiment, 'none') is None
    assert registry.list('no such experiment') == ()


def test_rows_that_others_wrote_are_listed(
    registry: ModelRegistry, connection: CassandraConnection, session: Session, experiment: str
) -> None:
    """The table is a contract: any client may have inserted a version by the contract's columns alone."""
    columns = 'experiment_id, model_id, version, created_at'
    cql = f'INSERT INTO "{connection.keyspace}".model_versions ({columns}) VALUES (%s, %s, %s, %s)'
    session.execute(cql, (experiment, 'delay', 'v1.2', moment(1_700_000_000)))
    assert registry.latest(experiment, 'delay') == ModelVersion(experiment, 'delay', 'v1.2', moment(1_700_000_000))


def test_a_row_without_a_version_hides_no_other(
    registry: ModelRegistry,
    connection: CassandraConnection,
    session: Session,
    experiment: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    whole = full(experiment, 'delay', Claim(1_700_000_000, moment(1_700_000_000)), 'aa')
    registry.record(whole)
    cql = f'INSERT INTO "{connection.keyspace}".model_versions (experiment_id, model_id, created_at) VALUES'
    session.execute(f'{cql} (%s, %s, %s)', (experiment, 'rival', moment(1_700_000_001)))
    assert registry.list(experiment) == (whole,)
    (record,) = [record for record in caplog.records if record.name.startswith('tfx_cassandra')]
    assert f"('{experiment}', 2023-11-14 22:13:21, 'rival')" in record.getMessage()
    assert registry.get(experiment, 'rival', '1700000001') is None
    with pytest.raises(RegistryError, match=r"^version: got '1700000001', rule: the row \(.*, rival\) is free"):
        registry.record(full(experiment, 'rival', Claim(1_700_000_001, moment(1_700_000_001)), 'aa'))


def test_a_keyspace_without_the_tables_is_one_line(connection: CassandraConnection) -> None:
    absent = dataclasses.replace(connection, keyspace='No Such "Keyspace')
    with pytest.raises(SchemaError, match=r'^keyspace: got .*, rule: a keyspace with the schema applied') as caught:
        ModelRegistry(absent).__enter__()
    assert '\n' not in str(caught.value)


def test_an_unreachable_cluster_is_one_line() -> None:
    with pytest.raises(UnavailableError, match=r'^contact_points: got 127\.0\.0\.1:9, rule:') as caught:
        ModelRegistry(CassandraConnection(port=9, connect_timeout=2)).__enter__()
    assert '\n' not in str(caught.value)


def test_a_claim_says_when_a_push_last_began(registry: ModelRegistry, experiment: str) -> None:
    first = registry.claim(experiment, 'delay', 'aa')
    (before,) = registry.claims(experiment, 'delay')
    assert (before.digest, before.claim) == ('aa', first)
    time.sleep(0.01)
    registry.claim(experiment, 'delay', 'aa')
    second = registry.claim(experiment, 'delay', 'bb')
    latest, after = registry.claims(experiment, 'delay')
    assert (latest.claim, after.claim) == (second, first)
    assert after.attempted_at > before.attempted_at


def test_a_released_claim_is_gone_and_its_number_is_not_used_again(registry: ModelRegistry, experiment: str) -> None:
    first = registry.claim(experiment, 'delay', 'aa')
    (held,) = registry.claims(experiment, 'delay')
    assert registry.release(experiment, 'delay', held)
    assert registry.claims(experiment, 'delay') == ()
    assert registry.claimed(experiment, 'delay', 'aa') is None
    assert registry.claim(experiment, 'delay', 'bb').version > first.version
    assert registry.claim(experiment, 'delay', 'aa').version > first.version


def test_a_claim_that_a_pusher_renewed_is_not_released(registry: ModelRegistry, experiment: str) -> None:
    first = registry.claim(experiment, 'delay', 'aa')
    (held,) = registry.claims(experiment, 'delay')
    time.sleep(0.01)
    registry.claim(experiment, 'delay', 'aa')
    assert not registry.release(experiment, 'delay', held)
    assert registry.claimed(experiment, 'delay', 'aa') == first


def test_a_row_that_repair_wrote_is_completed_by_the_next_push(registry: ModelRegistry, experiment: str) -> None:
    pushed = dataclasses.replace(
        full(experiment, 'delay', registry.claim(experiment, 'delay', 'aa'), 'aa'), verdict=None
    )
    key = (experiment, 'delay', pushed.version)
    registry.record(ModelVersion(*key, pushed.created_at, digest='aa', model_uri='/serving', pipeline_run='repair'))
    registry.add_metrics(*key, {'lift': 0.1}, verdict='hold')
    complete = dataclasses.replace(pushed, metrics={**pushed.metrics, 'lift': 0.1}, verdict='hold')
    assert registry.record(pushed) == complete
    assert registry.record(dataclasses.replace(pushed, pipeline_run='run-8', ab_test_group='A')) == complete


@pytest.mark.parametrize('moment_cql', ['1700000000000000', '-9223372036854775808', 'blobAsTimestamp(0x)'])
def test_a_row_that_python_cannot_hold_hides_no_other(
    registry: ModelRegistry,
    session: Session,
    connection: CassandraConnection,
    experiment: str,
    moment_cql: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    versions = (
        f'INSERT INTO "{connection.keyspace}".model_versions (experiment_id, model_id, version, created_at) VALUES'
    )
    session.execute(f"{versions} (%s, 'delay', '1', {moment_cql})", (experiment,))
    session.execute(f"{versions} (%s, 'delay', '2', 253402300799999)", (experiment,))  # the last that a datetime holds
    session.execute(f"{versions} (%s, 'delay', '3', 1700000000000)", (experiment,))
    for _ in range(3):
        assert [row.version for row in registry.list(experiment)] == ['2', '3']
    assert registry.latest(experiment, 'delay').created_at.isoformat() == '9999-12-31T23:59:59.999000+00:00'
    assert registry.get(experiment, 'delay', '1') is None
    assert registry.recorded(experiment, 'delay', '3').version == '3'
    assert 'rule: a moment of the years 1 to 9999' in caplog.text


def test_an_alias_whose_moment_python_cannot_hold_is_still_an_alias(
    registry: ModelRegistry, session: Session, connection: CassandraConnection, experiment: str
) -> None:
    version = registry.record(
        ModelVersion(experiment, 'delay', '1', moment(1), digest='aa', metrics={'not a number': float('nan')})
    )
    registry.promote(experiment, 'champion', 'delay', version.version)
    where = 'WHERE experiment_id = %s AND alias = %s AND number = 1'
    spoilt = f'UPDATE "{connection.keyspace}".model_aliases SET moved_at = 1700000000000000 {where}'
    session.execute(f'{spoilt} IF EXISTS', (experiment, 'champion'))
    move = registry.alias(experiment, 'champion')
    assert (move.version, move.moved_at) == ('1', None)
    assert registry.aliases(experiment) == registry.history(experiment, 'champion') == (move,)
    assert registry.promote(experiment, 'champion', 'delay', '1', expected=move) == move


def test_a_claim_that_others_spoilt_hides_no_other(
    registry: ModelRegistry, session: Session, connection: CassandraConnection, experiment: str
) -> None:
    kept, spoilt = registry.claim(experiment, 'delay', 'aa'), registry.claim(experiment, 'delay', 'bb')
    where = 'WHERE experiment_id = %s AND model_id = %s AND digest = %s IF EXISTS'
    update = f'UPDATE "{connection.keyspace}".model_claims SET'
    session.execute(f'{update} created_at = 1700000000000000 {where}', (experiment, 'delay', 'bb'))
    session.execute(f'{update} attempted_at = 1700000000000000 {where}', (experiment, 'delay', 'aa'))
    (held,) = registry.claims(experiment, 'delay')
    assert (held.claim, held.attempted_at) == (kept, None)
    assert not registry.release(experiment, 'delay', held)
    assert registry.claimed(experiment, 'delay', 'aa') == kept
    with pytest.raises(
        RegistryError, match=rf'^version: got {spoilt.version} of .*created_at: got 1700000000000000 ms'
    ):
        registry.claimed(experiment, 'delay', 'bb')
