"""Aliases and added metrics on a real node."""

from __future__ import annotations

import dataclasses
import functools
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from cassandra import ConsistencyLevel, ReadTimeout, WriteTimeout, WriteType
from cassandra.cluster import Session

from tfx_cassandra.components import protos
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.pusher.config import PusherConfig
from tfx_cassandra.components.registry import session as registry_session
from tfx_cassandra.components.registry.claims import moment
from tfx_cassandra.components.registry.registry import AliasMove, ModelRegistry, ModelVersion
from tfx_cassandra.proto import cassandra_pb2

pytestmark = pytest.mark.integration

FIRST = 1_700_000_000


@pytest.fixture
def registry(connection: CassandraConnection) -> Iterator[ModelRegistry]:
    with ModelRegistry(connection) as opened:
        yield opened


@pytest.fixture
def experiment(request: pytest.FixtureRequest, registry: ModelRegistry) -> str:
    """An experiment with four versions of a model, '1700000000' to '1700000003'."""
    name = request.node.name
    for number in range(FIRST, FIRST + 4):
        registry.record(
            ModelVersion(name, 'delay', str(number), moment(number), {'auc': 0.75}, 'B', digest=str(number))
        )
    return name


def version(number: int) -> str:
    return str(FIRST + number)


def named(moves: tuple[AliasMove, ...]) -> list[int]:
    """What an alias named, newest first, as numbers of the fixture's versions."""
    return [int(move.version) - FIRST for move in moves]


def test_an_alias_names_what_it_was_promoted_to_last(registry: ModelRegistry, experiment: str) -> None:
    assert registry.alias(experiment, 'champion') is None
    assert registry.history(experiment, 'champion') == ()
    first = registry.promote(experiment, 'champion', 'delay', version(0), reason='it is the first')
    second = registry.promote(experiment, 'champion', 'delay', version(2))
    registry.promote(experiment, 'challenger', 'delay', version(3))
    assert registry.alias(experiment, 'champion') == second
    assert registry.history(experiment, 'champion') == (second, first)
    assert (first.reason, first.before, second.before, first.action) == ('it is the first', None, 1, 'promote')
    assert {move.alias: move.version for move in registry.aliases(experiment)} == {
        'champion': version(2),
        'challenger': version(3),
    }


def test_promoting_again_changes_nothing(registry: ModelRegistry, experiment: str) -> None:
    first = registry.promote(experiment, 'champion', 'delay', version(0), expected=None)
    assert registry.promote(experiment, 'champion', 'delay', version(0), expected=None, reason='again') == first
    assert registry.history(experiment, 'champion') == (first,)


def test_rollbacks_go_back_one_promotion_each(registry: ModelRegistry, experiment: str) -> None:
    for number in (0, 1, 2):
        registry.promote(experiment, 'champion', 'delay', version(number))
    assert registry.rollback(experiment, 'champion').version == version(1)
    assert registry.rollback(experiment, 'champion', reason='worse').version == version(0)
    with pytest.raises(RegistryError, match=r"^alias: got 'champion', rule: a version before version '1700000000'"):
        registry.rollback(experiment, 'champion')
    registry.promote(experiment, 'champion', 'delay', version(3))
    assert registry.rollback(experiment, 'champion').version == version(0)
    history = registry.history(experiment, 'champion')
    assert named(history) == [0, 3, 0, 1, 2, 1, 0]
    assert [move.number for move in history] == [7, 6, 5, 4, 3, 2, 1]
    assert [move.action for move in history] == ['rollback', 'promote', 'rollback', 'rollback'] + ['promote'] * 3


def test_what_was_not_expected_is_not_moved(registry: ModelRegistry, experiment: str) -> None:
    first = registry.promote(experiment, 'champion', 'delay', version(0))
    second = registry.promote(experiment, 'champion', 'delay', version(1), expected=first)
    rule = (
        r"rule: still version '1700000000' of 'delay' \(move 1\), but it is version '1700000001' of 'delay' \(move 2\)"
    )
    with pytest.raises(RegistryError, match=f"^alias: got 'champion', {rule}"):
        registry.promote(experiment, 'champion', 'delay', version(2), expected=first)
    with pytest.raises(RegistryError, match='rule: still nothing, but'):
        registry.promote(experiment, 'champion', 'delay', version(2), expected=None)
    with pytest.raises(RegistryError, match=rule):
        registry.rollback(experiment, 'champion', expected=first)
    assert registry.history(experiment, 'champion') == (second, first)


def test_only_recorded_versions_are_promoted(registry: ModelRegistry, experiment: str) -> None:
    for model, unknown in (('delay', '17'), ('other', version(0)), ('delay', 'v1'), ('delay', '9' * 30)):
        with pytest.raises(RegistryError, match=f"^version: got '{unknown}', rule: a recorded version of '{model}'"):
            registry.promote(experiment, 'champion', model, unknown)
    with pytest.raises(RegistryError, match=r"^alias: got 'champion', rule: an alias of experiment"):
        registry.rollback(experiment, 'champion')
    with pytest.raises(ValueError, match=r"^alias: got '', rule: a non-empty text"):
        registry.promote(experiment, '', 'delay', version(0))
    assert registry.aliases(experiment) == ()


@pytest.mark.parametrize('field', ['experiment_id', 'model_id', 'version'])
@pytest.mark.parametrize('value', ['', None, 17])
def test_a_version_is_named_by_texts(field: str, value: Any, registry: ModelRegistry) -> None:
    key = {'experiment_id': 'e', 'model_id': 'delay', 'version': '17', field: value}
    for use in (
        registry.get,
        functools.partial(registry.promote, alias='champion'),
        functools.partial(registry.add_metrics, metrics={}),
    ):
        with pytest.raises(ValueError, match=f'^{field}: got {value!r}, rule: a non-empty text'):
            use(**key)


@pytest.mark.parametrize('field', ['experiment_id', 'alias'])
def test_a_rollback_needs_every_part_of_its_key(field: str, registry: ModelRegistry) -> None:
    key = {'experiment_id': 'e', 'alias': 'champion', field: ''}
    with pytest.raises(ValueError, match=f"^{field}: got '', rule: a non-empty text"):
        registry.rollback(**key)


class Unread:
    """A session whose reads fail the first times."""

    def __init__(self, session: Session, failures: int) -> None:
        self._session, self._left = session, failures

    def execute(self, statement: Any, *values: object, **options: object) -> Any:
        if self._left and 'SELECT' in statement.query_string:
            self._left -= 1
            raise ReadTimeout('no answer', consistency=ConsistencyLevel.SERIAL)
        return self._session.execute(statement, *values, **options)


def test_a_rollback_reads_again_what_it_could_not_read(
    registry: ModelRegistry, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in (0, 1):
        registry.promote(experiment, 'champion', 'delay', version(number))
    whole = registry._session.driver
    registry._session.driver = Unread(whole, 1)
    assert registry.rollback(experiment, 'champion').version == version(0)
    registry._session.driver = Unread(whole, 1000)
    monkeypatch.setattr(registry_session, 'SETTLE_SECONDS', 0.5)
    with pytest.raises(
        RegistryError, match=r"^alias: got 'champion', rule: its moves can be read within [\d.]+ s, \d+ attempts "
    ):
        registry.rollback(experiment, 'champion')


@pytest.mark.parametrize('moved_by', ['promote', 'advance'])
def test_a_move_reads_again_whether_its_version_is_recorded(
    moved_by: str, registry: ModelRegistry, experiment: str
) -> None:
    whole = registry._session.driver
    registry._session.driver = Unread(whole, 1)
    getattr(registry, moved_by)(experiment, 'champion', 'delay', version(1))
    registry._session.driver = whole
    assert named(registry.history(experiment, 'champion')) == [1]


def test_a_push_moves_an_alias_once_and_forward(registry: ModelRegistry, experiment: str) -> None:
    registry.advance(experiment, 'champion', 'delay', version(1))
    registry.advance(experiment, 'champion', 'delay', version(2))
    registry.advance(experiment, 'champion', 'delay', version(0))  # a push that was repeated late
    assert named(registry.history(experiment, 'champion')) == [2, 1]
    registry.rollback(experiment, 'champion')
    registry.advance(experiment, 'champion', 'delay', version(2))  # it was rolled back, and stays so
    assert named(registry.history(experiment, 'champion')) == [1, 2, 1]
    registry.advance(experiment, 'champion', 'delay', version(3))
    assert named(registry.history(experiment, 'champion')) == [3, 1, 2, 1]


class Lossy:
    """A session that loses the answer to the first write, before or after the node has applied it."""

    def __init__(self, session: Session, applied: bool) -> None:
        self._session, self._applied, self._lost = session, applied, False

    def execute(self, statement: Any, *values: object, **options: object) -> Any:
        if self._lost or 'SELECT' in statement.query_string:
            return self._session.execute(statement, *values, **options)
        self._lost = True
        if self._applied:
            self._session.execute(statement, *values, **options)
        raise WriteTimeout('the answer was lost', consistency=ConsistencyLevel.SERIAL, write_type=WriteType.CAS)


@pytest.mark.parametrize('applied', [True, False])
def test_a_move_whose_outcome_is_unknown_is_made_once(applied: bool, registry: ModelRegistry, experiment: str) -> None:
    for number in (0, 1, 2):
        registry.promote(experiment, 'champion', 'delay', version(number))
    whole = registry._session.driver
    registry._session.driver = Lossy(whole, applied)
    registry.rollback(experiment, 'champion')
    registry._session.driver = Lossy(whole, applied)
    registry.promote(experiment, 'champion', 'delay', version(3))
    registry._session.driver = whole
    assert named(registry.history(experiment, 'champion')) == [3, 1, 2, 1, 0]


def test_a_move_that_was_made_and_overtaken_at_once_is_not_made_again(
    registry: ModelRegistry, connection: CassandraConnection, experiment: str
) -> None:
    registry.promote(experiment, 'champion', 'delay', version(0))
    with ModelRegistry(connection) as other:

        class Overtaken(Lossy):
            def execute(self, statement: Any, *values: object, **options: object) -> Any:
                try:
                    return super().execute(statement, *values)
                except WriteTimeout:
                    other.promote(experiment, 'champion', 'delay', version(2))
                    raise

        registry._session.driver = Overtaken(registry._session.driver, applied=True)
        assert registry.promote(experiment, 'champion', 'delay', version(1)).number == 2
        assert named(other.history(experiment, 'champion')) == [2, 1, 0]


class Late:
    """A session whose first write is applied only just before the second, as by the node that settles it then."""

    def __init__(self, session: Session) -> None:
        self._session, self._writes = session, []

    def execute(self, statement: Any, *values: object, **options: object) -> Any:
        if 'SELECT' in statement.query_string:
            return self._session.execute(statement, *values, **options)
        self._writes.append((statement, *values))
        if len(self._writes) == 1:
            raise WriteTimeout('the answer was lost', consistency=ConsistencyLevel.SERIAL, write_type=WriteType.CAS)
        return [self._session.execute(*write) for write in self._writes[-2:]][-1]


def test_a_move_that_is_applied_after_it_was_looked_for_is_made_once(registry: ModelRegistry, experiment: str) -> None:
    for number in (0, 1):
        registry.promote(experiment, 'champion', 'delay', version(number))
    whole = registry._session.driver
    registry._session.driver = Late(whole)
    back = registry.rollback(experiment, 'champion')
    registry._session.driver = Late(whole)
    forth = registry.promote(experiment, 'champion', 'delay', version(2), expected=back)
    registry._session.driver = Late(whole)
    last = registry.advance(experiment, 'champion', 'delay', version(3))
    registry._session.driver = whole
    assert registry.history(experiment, 'champion')[:3] == (last, forth, back)
    assert named(registry.history(experiment, 'champion')) == [3, 2, 0, 1, 0]


class Watched:
    """A session that keeps at what consistency each table was read."""

    def __init__(self, session: Session) -> None:
        self._session, self.reads = session, set()

    def execute(self, statement: Any, *values: object, **options: object) -> Any:
        if 'SELECT' in statement.query_string:
            self.reads.add(statement.consistency_level)
        return self._session.execute(statement, *values, **options)


def test_what_a_write_is_decided_by_is_read_with_serial(registry: ModelRegistry, experiment: str) -> None:
    registry.claim(experiment, 'delay', 'aa')
    (held,) = registry.claims(experiment, 'delay')
    registry.record(ModelVersion(experiment, 'delay', 'v1.2', moment(5)))
    registry._session.driver = watched = Watched(registry._session.driver)
    for name in (version(0), 'v1.2'):
        registry.promote(experiment, 'champion', 'delay', name)
        registry.advance(experiment, 'champion', 'delay', name)
        registry.add_metrics(experiment, 'delay', name, {'x': 1.0})
    registry.rollback(experiment, 'champion')
    assert registry.release(experiment, 'delay', held)
    assert watched.reads == {ConsistencyLevel.SERIAL}


MOVER = """
import json, sys
from tfx_cassandra.components import protos
from tfx_cassandra.components.pusher.config import PusherConfig
from tfx_cassandra.components.registry.registry import ModelRegistry
from tfx_cassandra.proto import cassandra_pb2
settings, versions = protos.from_json(PusherConfig, cassandra_pb2.PusherConfig, sys.argv[1]), json.loads(sys.argv[2])
with ModelRegistry(settings.connection) as registry:
    print('ready', flush=True)
    sys.stdin.readline()
    for version in versions:
        move = registry.promote(settings.experiment_id, 'champion', settings.model_id, version)
        print(move.number, move.version, flush=True)
"""


def test_movers_at_once_leave_a_history_without_gaps(
    registry: ModelRegistry, connection: CassandraConnection, experiment: str
) -> None:
    settings = protos.to_json(PusherConfig(connection, experiment, 'delay'), cassandra_pb2.PusherConfig)
    processes = []
    for number in range(4):
        versions = json.dumps([version((number + step) % 4) for step in range(4)])
        command = [sys.executable, '-c', MOVER, settings, versions]
        processes.append(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True))
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == 'ready\n'
    for process in processes:
        assert process.stdin is not None
        process.stdin.write('go\n')
        process.stdin.flush()
    answers = [process.communicate(timeout=120)[0].splitlines() for process in processes]
    history = registry.history(experiment, 'champion')
    assert [move.number for move in history] == list(range(len(history), 0, -1))
    assert {line for lines in answers for line in lines} == {f'{move.number} {move.version}' for move in history}
    assert all(len(lines) == 4 for lines in answers)
    # No move repeats the one before it, and each remembers where it came from.
    assert all(after.version != before.version for after, before in itertools.pairwise(history))
    assert [move.before for move in history] == [*range(len(history) - 1, 0, -1), None]


def test_metrics_and_a_verdict_are_added_to_the_row(registry: ModelRegistry, experiment: str) -> None:
    before = registry.get(experiment, 'delay', version(1))
    assert before is not None
    added = {'ab.lift': 0.02, 'ab.n': np.float32(5), 'auc': 0.8}
    for _ in range(2):
        after = registry.add_metrics(experiment, 'delay', version(1), added, 'treatment', 'ship')
        metrics = {'auc': 0.8, 'ab.lift': 0.02, 'ab.n': 5.0}
        assert after == dataclasses.replace(before, metrics=metrics, ab_test_group='treatment', verdict='ship')
    assert registry.add_metrics(experiment, 'delay', version(1), {'ab.n': 6}).metrics == metrics | {'ab.n': 6.0}
    kept = registry.get(experiment, 'delay', version(1))
    assert kept is not None
    assert (kept.ab_test_group, kept.verdict) == ('treatment', 'ship')
    assert registry.record(before) == kept


def test_metrics_of_a_version_that_others_wrote_are_added(
    registry: ModelRegistry, connection: CassandraConnection, experiment: str
) -> None:
    registry.record(ModelVersion(experiment, 'delay', 'v1.2', moment(5)))
    registry.record(ModelVersion(experiment, 'delay', '99', moment(7)))  # digits, and another moment
    for name in ('v1.2', '99'):
        assert registry.add_metrics(experiment, 'delay', name, {'x': 1.0}).metrics == {'x': 1.0}
    assert len(registry.list(experiment)) == 6


@pytest.mark.parametrize(
    ('arguments', 'message'),
    [
        ({'metrics': {'x': float('nan')}}, r"^metrics\['x'\]: got nan, rule: a finite number"),
        ({'metrics': {'x': float('inf')}}, r"^metrics\['x'\]: got inf, rule: a finite number"),
        ({'metrics': {'x': True}}, r"^metrics\['x'\]: got True, rule: a finite number"),
        ({'metrics': {'x': '1'}}, r"^metrics\['x'\]: got '1', rule: a finite number"),
        ({'metrics': {'': 1.0}}, r"^metrics: got '', rule: a non-empty text"),
        ({'verdict': 'maybe'}, r"^verdict: got 'maybe', rule: one of ship, hold, harm, invalid"),
        ({'ab_test_group': ''}, r"^ab_test_group: got '', rule: a non-empty text"),
    ],
)
def test_what_cannot_be_added_is_named(arguments: dict, message: str, registry: ModelRegistry, experiment: str) -> None:
    with pytest.raises(ValueError, match=message):
        registry.add_metrics(experiment, 'delay', version(0), **{'metrics': {}, **arguments})


def test_metrics_without_a_row_make_none(registry: ModelRegistry, experiment: str) -> None:
    with pytest.raises(RegistryError, match=r"^version: got '17', rule: a recorded version of 'delay' in experiment"):
        registry.add_metrics(experiment, 'delay', '17', {'x': 1.0})
    assert len(registry.list(experiment)) == 4


def test_metrics_of_a_row_that_is_gone_by_then_make_none(
    registry: ModelRegistry, experiment: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = ModelVersion(experiment, 'delay', '17', moment(17))
    with monkeypatch.context() as patch:
        patch.setattr(registry._versions, 'recorded', lambda *_: gone)
        registry.add_metrics(experiment, 'delay', '17', {'x': 1.0})
    assert len(registry.list(experiment)) == 4
