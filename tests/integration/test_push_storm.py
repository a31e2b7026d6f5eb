"""Many processes push the same and different models at once; some are killed at every step, and run again.

A process that polls the serving directories as TensorFlow Serving does must never see a version that is not whole.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import pathlib
import random
import re
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest
from cassandra.cluster import Session
from exec_properties import stored
from tfx.proto import pusher_pb2

from tfx_cassandra.components import schema
from tfx_cassandra.components.devcluster.cluster import DevCluster
from tfx_cassandra.components.driver import connection as connections
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.pusher.config import to_properties
from tfx_cassandra.components.registry.registry import AliasMove, ModelRegistry

pytestmark = pytest.mark.integration

KILLED = -9

# Imports TFX once. Then, batch after batch, forks one pusher an order; all begin when the last one stands ready.
PUSHERS = """
import json, os, signal, sys, threading, traceback
from tfx.dsl.components.base.base_executor import BaseExecutor
from tfx.types import standard_artifacts
from tfx_cassandra.components.pusher import executor
from tfx_cassandra.components.registry import publish
from tfx_cassandra.components.registry.claims import ModelClaims
from tfx_cassandra.components.registry.registry import ModelRegistry

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

def after(owner, name, call=1, to=''):
    # Dies after the call-th call of a function, of those whose arguments name the target.
    original, made = getattr(owner, name), []
    def wrapped(*args, **kwargs):
        result = original(*args, **kwargs)
        made.extend([name] * any(to in str(each) for each in args))
        if len(made) == call:
            die()
        return result
    setattr(owner, name, wrapped)

STEPS = {
    'gates': lambda: after(executor.Executor, 'CheckBlessing'),
    'digest': lambda: after(publish, 'content_digest'),
    'before claim': lambda: setattr(ModelRegistry, 'claim', die),
    'before claim is written': lambda: after(ModelClaims, '_read_claim'),
    'claim': lambda: after(ModelRegistry, 'claim'),
    'half copy': lambda: after(publish.fileio, 'copy', 2, '.pushing-'),
    'copy': lambda: after(publish.io_utils, 'copy_dir', 1, '.pushing-'),
    'before rename': lambda: setattr(publish.fileio, 'rename', die),
    'rename': lambda: after(publish.fileio, 'rename'),
    'publish': lambda: after(publish, 'publish'),
    'before record': lambda: setattr(ModelRegistry, 'record', die),
    'record': lambda: after(ModelRegistry, 'record'),
    'before alias': lambda: setattr(ModelRegistry, 'advance', die),
    'alias': lambda: after(ModelRegistry, 'advance'),
    'half archive': lambda: after(publish.fileio, 'copy', 2, '/pushed/'),
    'archive': lambda: after(publish.io_utils, 'copy_dir', 1, '/pushed/'),
}

def push(order):
    step = order['step']
    if isinstance(step, float):
        threading.Timer(step, die).start()
    elif step:
        STEPS[step]()
    model, pushed = standard_artifacts.Model(), standard_artifacts.PushedModel()
    model.uri, pushed.uri = order['model'], order['pushed']
    context = BaseExecutor.Context(pipeline_run_id=order['run'])
    executor.Executor(context).Do({'model': [model]}, {'pushed_model': [pushed]}, order['properties'])

def push_all(orders):
    ready, go = os.pipe()
    pids = []
    for order in orders:
        pids.append(os.fork())
        if pids[-1] == 0:
            os.close(go)
            os.read(ready, 1)
            try:
                push(order)
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
    os.close(go)
    return [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids]

print(json.dumps([push_all(orders) for orders in json.load(sys.stdin)]))
"""

STEPS = re.findall(r"^    '([a-z ]+)': lambda", PUSHERS, re.MULTILINE)

# Looks at directories as TensorFlow Serving does: only at names that are integers. Knows nothing of the pusher's code.
POLLER = """
import hashlib, json, os, sys, time

def look(directory):
    files = {}
    for folder, _, names in os.walk(directory):
        for name in names:
            path = os.path.join(folder, name)
            with open(path, 'rb') as file:
                content = file.read()
            files[os.path.relpath(path, directory)] = f'{len(content)}\\0{hashlib.sha256(content).hexdigest()}'
    return hashlib.sha256(''.join(f'{path}\\0{files[path]}\\0' for path in sorted(files)).encode()).hexdigest()

stop, *bases = sys.argv[1:]
polls, loads, digests, served = 0, 0, {base: {} for base in bases}, {base: [] for base in bases}
while not os.path.exists(stop):
    for base in bases:
        versions = [name for name in (os.listdir(base) if os.path.isdir(base) else []) if name.isdigit()]
        for version in versions:
            seen = digests[base].setdefault(version, [])
            if len(seen) < 20 or polls % 100 == 0:
                seen.append(look(os.path.join(base, version)))
                loads += 1
        highest = max(map(int, versions), default=None)
        if highest is not None and (not served[base] or served[base][-1] != highest):
            served[base].append(highest)
    polls += 1
    time.sleep(0.004)
found = {base: {version: sorted(set(seen)) for version, seen in digests[base].items()} for base in bases}
print(json.dumps({'polls': polls, 'loads': loads, 'digests': found, 'served': served}))
"""


@dataclasses.dataclass(frozen=True)
class Storm:
    """Pushes of 2 model ids, each into a serving directory of its own, by `processes` at once."""

    folder: pathlib.Path
    connection: CassandraConnection
    experiment: str
    processes: int
    files: int = 24

    MODEL_IDS = ('delay', 'fare')

    @property
    def bases(self) -> dict[str, pathlib.Path]:
        return {model_id: self.folder / 'serving' / model_id for model_id in self.MODEL_IDS}

    def model(self, number: int) -> pathlib.Path:
        """Files as those of a SavedModel, different for each number."""
        directory = self.folder / 'models' / f'{number}' / 'Format-Serving'
        if not directory.exists():
            (directory / 'variables').mkdir(parents=True)
            (directory / 'saved_model.pb').write_bytes(random.Random(number).randbytes(20_000))
            for each in range(self.files):
                (directory / 'variables' / f'{each}').write_bytes(random.Random(f'{number} {each}').randbytes(4_000))
        return directory.parent

    def order(self, number: int, copy: int, step: str | float | None) -> dict:
        """The push of a model by the copy-th of its pushers."""
        model_id = self.MODEL_IDS[number % 2]
        filesystem = pusher_pb2.PushDestination.Filesystem(base_directory=str(self.bases[model_id]))
        config = to_properties(
            self.connection, 1000, experiment_id=self.experiment, model_id=model_id, ab_test_group=None,
            alias=f'live {model_id}',
        )  # fmt: skip
        return {
            'model': str(self.model(number)),
            'pushed': str(self.folder / 'pushed' / f'{number}-{copy}'),
            'run': f'run-{number}-{copy}',
            'step': step,
            'properties': stored({**config, 'push_destination': pusher_pb2.PushDestination(filesystem=filesystem)}),
        }

    def run(self, batches: list[list[dict]]) -> list[int]:
        """Pushes all orders of a batch at once, batch after batch; returns the exit codes."""
        done = subprocess.run(
            [sys.executable, '-c', PUSHERS], input=json.dumps(batches), capture_output=True, text=True, timeout=3000
        )
        assert done.returncode == 0, done.stderr[-3000:]
        codes = list(itertools.chain(*json.loads(done.stdout.splitlines()[-1])))
        assert set(codes) <= {0, KILLED}, done.stderr[-3000:]
        return codes


def rounds(storm: Storm, number: int) -> list[list[dict]]:
    """Each round has new models with four pushers each.

    Of 5 in 8 models all pushers die at one step, so that it is reached whoever comes first; of the others two run
    through, one dies at some step and one at some moment.
    """
    chance, cycle, models = random.Random(7), itertools.cycle(STEPS), storm.processes // 4
    made = []
    for first in range(0, number * models, models):
        orders = []
        for model in range(first, first + models):
            if (model - first) % 8 < 5 and (models > 2 or model == first):
                plan: list[str | float | None] = [next(cycle)] * 4
            else:
                plan = [None, None, chance.choice(STEPS), chance.uniform(0.5, 8.0)]
            orders += [storm.order(model, copy, step) for copy, step in enumerate(plan)]
        chance.shuffle(orders)
        made.append(orders)
    return made


def storm_and_rerun(storm: Storm, session: Session, number: int) -> dict[str, object]:
    """Runs the rounds under a poller, then every push again; checks what is there, and returns the figures."""
    begun = time.monotonic()
    planned = rounds(storm, number)
    again = [[{**order, 'step': None, 'run': f'{order["run"]} again'} for order in orders] for orders in planned]
    stop = storm.folder / 'stop'
    command = [sys.executable, '-c', POLLER, str(stop), *map(str, storm.bases.values())]
    poller = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        codes = storm.run([*planned, *again])
    finally:
        stop.touch()
        seen = json.loads(poller.communicate(timeout=60)[0])
    check(storm, session, planned, seen)
    orders = [*itertools.chain(*planned)]
    assert set(codes[len(orders) :]) == {0}
    died = [order['step'] for order, code in zip(orders, codes, strict=False) if code == KILLED]
    return {
        'processes at once': storm.processes,
        'pushes': len(codes),
        'killed': len(died),
        'steps a process died at': len({step for step in died if isinstance(step, str)}),
        'steps': len(STEPS),
        'models': len({order['model'] for order in orders}),
        'polls': seen['polls'],
        'directories loaded by the poller': seen['loads'],
        'seconds': round(time.monotonic() - begun),
    }


def plain_digest(directory: pathlib.Path) -> str:
    """The documented digest, written another way than the pusher's."""
    total = hashlib.sha256()
    for path in sorted(str(path.relative_to(directory)) for path in directory.rglob('*') if path.is_file()):
        content = (directory / path).read_bytes()
        total.update(f'{path}\0{len(content)}\0{hashlib.sha256(content).hexdigest()}\0'.encode())
    return total.hexdigest()


def check(storm: Storm, session: Session, planned: list[list[dict]], seen: dict) -> None:
    keyspace = storm.connection.keyspace
    with ModelRegistry(storm.connection) as registry:
        history = {name: registry.history(storm.experiment, f'live {name}') for name in storm.MODEL_IDS}
        held = {name: registry.claims(storm.experiment, name) for name in storm.MODEL_IDS}
    cql = f'SELECT model_id, version, digest, model_uri FROM "{keyspace}".model_versions WHERE experiment_id = %s'
    rows = list(session.execute(cql, (storm.experiment,)))
    for remainder, (model_id, base) in enumerate(storm.bases.items()):
        mine = [row for row in rows if row.model_id == model_id]
        digest_of = {row.version: row.digest for row in mine}
        numbers = {int(pathlib.Path(order['model']).name) for orders in planned for order in orders}
        models = {plain_digest(storm.model(n) / 'Format-Serving') for n in numbers if n % 2 == remainder}
        # One row, one claim and one directory a model, and nothing else.
        assert len(mine) == len(models)
        assert set(digest_of.values()) == models
        assert {str(each.claim.version): each.digest for each in held[model_id]} == digest_of
        assert {path.name: plain_digest(path) for path in base.iterdir()} == digest_of
        assert {row.model_uri for row in mine} == {str(base / version) for version in digest_of}
        # Whatever the poller loaded, at any moment, was the whole model of that version; what it served only grew.
        assert seen['digests'][str(base)] == {version: [digest] for version, digest in digest_of.items()}
        served = seen['served'][str(base)]
        assert all(earlier < later for earlier, later in itertools.pairwise(served))
        assert served[-1] == max(map(int, digest_of))
        # In the order in which Cassandra decided the claims, each version is greater than the last.
        cql = f'SELECT version, writetime(version) FROM "{keyspace}".model_claims'
        order = session.execute(f'{cql} WHERE experiment_id = %s AND model_id = %s', (storm.experiment, model_id))
        claims = sorted(order, key=lambda row: row[1])
        assert all(earlier[0] < later[0] for earlier, later in itertools.pairwise(claims))
        check_history(history[model_id], max(map(int, digest_of)))


def check_history(moves: tuple[AliasMove, ...], last: int) -> None:
    versions = [int(move.version) for move in reversed(moves)]
    assert [move.number for move in reversed(moves)] == list(range(1, len(moves) + 1))
    assert versions == sorted(set(versions))
    assert versions[-1] == last


def test_a_small_storm_of_pushers(connection: CassandraConnection, session: Session, tmp_path: pathlib.Path) -> None:
    patient = dataclasses.replace(connection, connect_timeout=60.0)  # so many at once take their time
    figures = storm_and_rerun(Storm(tmp_path, patient, 'small storm', 8), session, 2)
    assert figures['killed'] >= 4
    print(figures)  # noqa: T201


@pytest.fixture
def ring(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CassandraConnection]:
    """A ring of three nodes of its own, with three copies of everything."""
    monkeypatch.delenv('CASSANDRA_CONTACT_POINTS', raising=False)
    cluster = DevCluster(tmp_path / 'ring', nodes=3, subnet='127.0.21', jmx_port=7521, heap='512M')
    try:
        cluster.start()
        connection = CassandraConnection(
            cluster.contact_points, keyspace='storm', connect_timeout=60.0, request_timeout=60.0
        )
        schema.apply(connection, schema.NetworkReplication({'dc1': 3}))
        yield connection
    finally:
        cluster.stop()


@pytest.mark.slow
def test_a_storm_of_32_pushers_on_a_ring(ring: CassandraConnection, tmp_path: pathlib.Path) -> None:
    with connections.session(ring) as session:
        figures = storm_and_rerun(Storm(tmp_path, ring, 'storm', 32), session, 4)
    print(figures)  # noqa: T201
    assert figures['steps a process died at'] == figures['steps']
