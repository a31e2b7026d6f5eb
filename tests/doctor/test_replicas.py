"""Replication and consistency: every pair of levels against a count of all choices of replicas, and the defaults."""

from __future__ import annotations

import ast
import inspect
import itertools
from collections.abc import Iterator

import pytest
from doctor_facts import healthy, node, table, with_nodes

from tfx_cassandra.components import doctor
from tfx_cassandra.components.doctor import replicas
from tfx_cassandra.components.doctor.facts import Facts, Keyspace
from tfx_cassandra.components.doctor.replicas import USES, Use
from tfx_cassandra.components.feature_store.client import FeatureStore
from tfx_cassandra.components.inference_log.logger import InferenceLogger
from tfx_cassandra.components.scan.fetch import ReadOptions

LEVELS = ('ONE', 'TWO', 'LOCAL_ONE', 'QUORUM', 'LOCAL_QUORUM', 'ALL')


def keyspace(**copies: int) -> Keyspace:
    return Keyspace('shop', 'NetworkTopologyStrategy', copies)


def answers(level: str, centers: list[str]) -> Iterator[set[int]]:
    """Yields every smallest set of replicas that satisfies a level for a client in dc1; `centers` is one a replica."""
    local = [number for number, center in enumerate(centers) if center == 'dc1']
    everyone = list(range(len(centers)))
    counted = local if level.startswith('LOCAL_') else everyone
    needed = {'ONE': 1, 'LOCAL_ONE': 1, 'TWO': 2, 'ALL': len(counted)}.get(level, len(counted) // 2 + 1)
    if level == 'EACH_QUORUM':
        each = [[n for n in everyone if centers[n] == center] for center in sorted(set(centers))]
        choices = [list(itertools.combinations(group, len(group) // 2 + 1)) for group in each]
        yield from (set(itertools.chain(*choice)) for choice in itertools.product(*choices))
        return
    yield from map(set, itertools.combinations(counted, needed))


@pytest.mark.parametrize(
    'copies',
    [
        {'dc1': 1}, {'dc1': 2}, {'dc1': 3}, {'dc1': 5}, {'dc1': 3, 'dc2': 3}, {'dc1': 3, 'dc2': 1},
        {'dc1': 1, 'dc2': 2}, {'dc1': 2, 'dc2': 2, 'dc3': 1},
    ],
)  # fmt: skip
@pytest.mark.parametrize(('write', 'read'), itertools.product((*LEVELS, 'EACH_QUORUM'), LEVELS))
def test_levels_meet_exactly_if_every_choice_of_replicas_meets(copies: dict[str, int], write: str, read: str) -> None:
    centers = [center for center, count in copies.items() for _ in range(count)]
    written, asked = list(answers(write, centers)), list(answers(read, centers))
    if not written or not asked:  # TWO of one replica
        return
    seen = replicas.overlap(keyspace(**copies), 'dc1', write, read)
    assert seen is not None
    meets = all(one & other for one in written for other in asked)
    assert (seen.written + seen.read > seen.copies) == meets


def consistency(facts: Facts, write: str, read: str) -> list[str]:
    return [finding.severity for finding in replicas.consistency(facts, [Use('clients', (), write, read)])]


@pytest.mark.parametrize(
    ('copies', 'write', 'read', 'severities'),
    [
        ({'dc1': 3}, 'LOCAL_QUORUM', 'LOCAL_QUORUM', []),
        ({'dc1': 3}, 'LOCAL_ONE', 'LOCAL_QUORUM', ['warning']),
        ({'dc1': 3}, 'ONE', 'ALL', []),
        ({'dc1': 1}, 'LOCAL_ONE', 'LOCAL_ONE', []),
        ({'dc1': 3, 'dc2': 3}, 'LOCAL_QUORUM', 'LOCAL_QUORUM', ['info']),  # between the data centers
        ({'dc1': 3, 'dc2': 3}, 'EACH_QUORUM', 'LOCAL_QUORUM', []),
        ({'dc1': 3, 'dc2': 3}, 'LOCAL_QUORUM', 'QUORUM', ['warning']),
        ({'dc2': 3}, 'LOCAL_QUORUM', 'LOCAL_QUORUM', []),  # `replication` says that there are none
    ],
)
def test_consistency(copies: dict[str, int], write: str, read: str, severities: list[str]) -> None:
    nodes = tuple(node(number) for number in range(1, 4))
    assert consistency(healthy(keyspace=keyspace(**copies), nodes=nodes), write, read) == severities


def test_a_mismatch_is_told_with_its_numbers() -> None:
    facts = healthy(tables=(table(name='inference_results'), table(name='feature_store'), table(name='mine')))
    (finding,) = replicas.consistency(facts)
    assert (finding.severity, finding.where) == ('info', 'shop: inference_results')
    assert finding.seen == (
        'InferenceLogger and ABEvaluator write LOCAL_ONE (1) and read LOCAL_QUORUM (2): R + W = 3 <= RF 3 in dc1, '
        'so a read may miss what was written'
    )


def test_the_levels_are_the_defaults_of_the_code() -> None:
    levels = {use.name: (use.write, use.read) for use in USES}
    store = inspect.signature(FeatureStore).parameters['consistency'].default
    scan = ReadOptions().consistency
    assert levels['FeatureStore'] == (store, store)
    assert levels['InferenceLogger and ABEvaluator'] == (
        inspect.signature(InferenceLogger).parameters['consistency'].default, default('ab_evaluator/component.py'),
    )  # fmt: skip
    assert levels['WriteToCassandra and ReadFromCassandra'] == (default('write/transform.py'), scan)
    assert levels['ModelRegistry'][0] == 'SERIAL'
    assert 'ConsistencyLevel.SERIAL' in source('registry/session.py')


def source(path: str) -> str:
    folder = inspect.getfile(doctor).rpartition('doctor')[0]
    with open(f'{folder}{path}') as file:
        return file.read()


def default(path: str) -> str:
    """Returns the default of the arguments named `consistency` in a module, without importing Beam and TFX."""
    found = set()
    for function in ast.walk(ast.parse(source(path))):
        if isinstance(function, ast.FunctionDef):
            arguments = function.args
            pairs = [
                *zip(arguments.args[::-1], arguments.defaults[::-1], strict=False),
                *zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True),
            ]
            found |= {
                value.value for name, value in pairs if name.arg == 'consistency' and isinstance(value, ast.Constant)
            }
    (only,) = found - {None}
    return str(only)


@pytest.mark.parametrize(
    ('strategy', 'copies', 'nodes', 'severities', 'seen'),
    [
        ('NetworkTopologyStrategy', {'dc1': 3}, 3, [], ''),
        ('NetworkTopologyStrategy', {'dc1': 1}, 1, [], ''),
        ('NetworkTopologyStrategy', {'dc1': 1}, 3, ['warning'], '1 replicas in dc1, which has 3 nodes: a node that is'),
        (
            'NetworkTopologyStrategy',
            {'dc1': 2},
            3,
            ['warning'],
            '2 replicas in dc1, which has 3 nodes: QUORUM needs both',
        ),
        ('NetworkTopologyStrategy', {'dc1': 2}, 2, [], ''),
        ('NetworkTopologyStrategy', {'dc1': 3}, 2, ['warning'], '3 replicas in dc1, which has 2 nodes: ALL fails'),
        ('NetworkTopologyStrategy', {'dc1': 3}, 1, ['error'], '3 replicas in dc1, which has 1 nodes: QUORUM needs 2'),
        (
            'NetworkTopologyStrategy',
            {'dc2': 3},
            3,
            ['error', 'error'],
            '0 replicas in dc1, the data center of the client',
        ),
        ('SimpleStrategy', {'dc1': 1}, 1, [], ''),
        ('SimpleStrategy', {'dc1': 3}, 3, ['info'], 'SimpleStrategy on 3 nodes in 1 data centers'),
    ],
)
def test_replication(strategy: str, copies: dict[str, int], nodes: int, severities: list[str], seen: str) -> None:
    facts = healthy(keyspace=Keyspace('shop', strategy, copies), nodes=tuple(node(n) for n in range(1, nodes + 1)))
    found = list(replicas.replication(facts))
    assert [finding.severity for finding in found] == severities
    if found:
        assert found[0].seen.startswith(seen)
        assert found[0].changes[0] == (
            "ALTER KEYSPACE \"shop\" WITH replication = {'class': 'NetworkTopologyStrategy', "
            f"'dc1': '{min(3, nodes)}'}}"
        )


@pytest.mark.parametrize(
    ('down', 'copies', 'write', 'severities'),
    [
        ([], {'dc1': 3}, 'LOCAL_QUORUM', []),
        ([3], {'dc1': 3}, 'LOCAL_QUORUM', []),
        ([2, 3], {'dc1': 3}, 'LOCAL_QUORUM', ['error', 'error']),
        ([3], {'dc1': 3}, 'ALL', ['error']),
        ([3], {'dc1': 1}, 'LOCAL_ONE', ['error', 'error']),
        ([3], {'dc1': 2}, 'LOCAL_QUORUM', ['error', 'error']),
    ],
)
def test_availability(down: list[int], copies: dict[str, int], write: str, severities: list[str]) -> None:
    nodes = [node(number, down='gone' * (number in down)) for number in (1, 2, 3)]
    facts = with_nodes(*nodes, keyspace=keyspace(**copies))
    found = list(replicas.availability(facts, [Use('clients', (), write, 'LOCAL_QUORUM')]))
    assert [finding.severity for finding in found] == severities


def test_another_data_center_that_is_down_does_not_stop_local_levels() -> None:
    facts = with_nodes(node(1), node(2), node(3), node(4, 'dc2', down='gone'), keyspace=keyspace(dc1=3, dc2=1))
    assert list(replicas.availability(facts, [Use('clients', (), 'LOCAL_QUORUM', 'LOCAL_QUORUM')])) == []
    found = list(replicas.availability(facts, [Use('clients', (), 'ALL', 'QUORUM')]))
    assert [finding.seen.partition(',')[0] for finding in found] == ['clients writes ALL (4 of 4 replicas)']
