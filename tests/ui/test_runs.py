"""Runs and ledgers from files, and the ring that is drawn of them."""

from __future__ import annotations

import json
import math
import os
import pathlib
import re
import xml.etree.ElementTree

import pytest
import status_data

from tfx_cassandra.components.scan.ring import MAX_TOKEN, MIN_TOKEN
from tfx_cassandra.components.ui import ring, runs


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp('runs')
    status_data.write_runs(path)
    return path


def named(found: tuple[runs.Run, ...], start: str) -> runs.Run:
    (run,) = [run for run in found if run.name.startswith(start)]
    return run


def test_a_run_with_its_ledgers(folder: pathlib.Path) -> None:
    run = named(runs.last_runs(str(folder), 10), 'flight-delay')
    assert (run.state, [task.name for task in run.tasks]) == ('SUCCEEDED', ['CassandraExampleGen', 'Trainer'])
    assert run.ended - run.started == status_data.HOUR
    (examples,) = run.examples
    assert (examples.fingerprint, examples.window) == (status_data.FINGERPRINT, status_data.WINDOW)
    assert examples.splits == {'train': 33_000, 'eval': 16_400}
    flights, weather, planes = examples.ledgers
    assert (flights.rows, len(flights.areas), flights.whole, flights.by_key) == (51_675, 26, True, False)
    assert (len(weather.areas), weather.whole) == (2000, True)
    assert (planes.by_key, planes.whole) == (True, True)
    assert ring.verdict(planes) == '3 partitions, each read once by its key'


def test_a_gap_is_found_and_drawn(folder: pathlib.Path) -> None:
    run = named(runs.last_runs(f'file://{folder}/', 10), 'broken')
    (flights, *_) = run.examples[0].ledgers
    assert (len(flights.missing), flights.whole) == (1, False)
    assert ring.verdict(flights) == '1 gap, 3.85% of the ring'
    assert str(ring.ring(flights)).count('stroke="#b3261e"') == 1
    assert named((run,), 'broken').tasks[-1].error.endswith(status_data.SCRIPT)


def test_what_is_read_twice_is_an_overlap() -> None:
    coverage = status_data.coverage()
    coverage['reads'].append(coverage['reads'][3])
    (ledger,) = runs.examples_of('', {**coverage, 'window': '', 'examples': {}}).ledgers
    assert ring.verdict(ledger) == '1 overlap'
    assert str(ring.ring(ledger)).count('stroke="#b3261e"') == 1


def test_a_torn_file_is_a_line_of_its_own(folder: pathlib.Path) -> None:
    found = runs.last_runs(str(folder), 10)
    assert len(found) == 3
    (error,) = named(found, 'torn').errors
    assert error.startswith(f'{folder}/torn/summary.json: JSONDecodeError')


@pytest.mark.parametrize(
    'content',
    ['[]', '{"tasks": []}', '{"tasks": {"a": 1}}', '{"tasks": {"a": {"outputs": {"artifacts": {"x": [1]}}}}}',
     '[' * 9999,
     '{"tasks": {"a": {"outputs": {"artifacts": {"x": [{"uri": "/no", "metadata": {"fingerprint": 1}}]}}}}}', '\x00'],
)  # fmt: skip
def test_files_of_others_are_errors_of_their_own_run(content: str, tmp_path: pathlib.Path) -> None:
    (tmp_path / 'r').mkdir()
    (tmp_path / 'r' / 'summary.json').write_text(content)
    (run,) = runs.last_runs(str(tmp_path), 1)
    assert run.errors
    assert '\n' not in run.errors[0]


@pytest.mark.parametrize(
    'change',
    [
        {'reads': 1},
        {'reads': [{}]},
        {'rows': None},
        {'examples': []},
        {'views': [1]},
        {'fingerprint': None, 'reads': [[]]},
    ],
)
def test_a_ledger_that_is_none_is_an_error(change: dict[str, object], tmp_path: pathlib.Path) -> None:
    content = {**status_data.coverage(), 'window': '', 'examples': {}, **change}
    uri = tmp_path / 'CassandraExampleGen' / 'examples' / '7'
    uri.mkdir(parents=True)
    (uri / runs.COVERAGE_FILE).write_text(json.dumps(content))
    (run,) = runs.last_runs(str(tmp_path), 5)
    assert run.errors[0].startswith(f'{uri}/coverage.json: ')


def test_the_last_ones_come_first(tmp_path: pathlib.Path) -> None:
    for number in range(5):
        uri = tmp_path / 'ExampleGen' / 'examples' / str(number)
        uri.mkdir(parents=True)
        path = uri / runs.COVERAGE_FILE
        path.write_text(json.dumps({**status_data.coverage(4), 'window': '', 'examples': {'train': 1}}))
        os.utime(path, (1_700_000_000 + number, 1_700_000_000 + number))
    found = runs.last_runs(str(tmp_path), 2)
    assert [run.name for run in found] == ['ExampleGen/examples/4', 'ExampleGen/examples/3']
    assert found[0].ended.timestamp() == 1_700_000_004


def test_a_folder_that_is_not_there(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError, match='rule: a folder'):
        runs.last_runs(str(tmp_path / 'no'), 1)
    assert runs.last_runs(str(tmp_path), 1) == ()


def test_the_name_of_the_file_is_that_of_its_writer() -> None:
    # The writer imports TFX, which takes seconds, and so is not imported for the page.
    writer = pathlib.Path(runs.__file__).parents[1] / 'training_set' / 'report.py'
    assert f"\nCOVERAGE_FILE = '{runs.COVERAGE_FILE}'\n" in writer.read_text()


@pytest.mark.parametrize('splits', [1, 2, 26, 5000])
def test_the_arcs_are_the_ring(splits: int) -> None:
    (ledger,) = runs.examples_of('', {**status_data.coverage(splits), 'window': '', 'examples': {}}).ledgers
    drawn = xml.etree.ElementTree.fromstring(str(ring.ring(ledger)))
    arcs = [path.get('d') for path in drawn.iter('path') if path.get('stroke') != '#5b6472']
    assert len(arcs) <= max(361, 2)
    turned = 0.0
    for arc in arcs:
        x1, y1, _, _, _, large, _, x2, y2 = map(float, re.findall(r'-?[\d.]+', arc))
        angle = math.degrees(math.atan2(x2 - 110, 110 - y2) - math.atan2(x1 - 110, 110 - y1)) % 360
        assert (angle > 180.01) <= bool(large)
        turned += angle
    assert turned == pytest.approx(360, abs=1)


def test_the_top_of_the_ring_is_its_smallest_token() -> None:
    assert (ring._degrees(MIN_TOKEN), round(ring._degrees(-1)), ring._degrees(MAX_TOKEN)) == (
        0,
        180,
        pytest.approx(360),
    )


def test_runs_of_a_file_system_that_tfx_knows(folder: pathlib.Path) -> None:
    import tensorflow as tf
    from tfx.dsl.io import filesystem_registry
    from tfx.dsl.io.plugins.tensorflow_gfile import TensorflowFilesystem

    class Ram(TensorflowFilesystem):
        """TensorFlow's file system in memory, in the place of a cloud's."""

        SUPPORTED_SCHEMES = ['ram://']

    filesystem_registry.DEFAULT_FILESYSTEM_REGISTRY.register(Ram, priority=9)
    for path in folder.rglob('*.json'):
        name = f'ram://runs/{path.relative_to(folder)}'
        tf.io.gfile.makedirs(name.rpartition('/')[0])
        with tf.io.gfile.GFile(name, 'w') as file:
            file.write(path.read_text().replace(str(folder), 'ram://runs'))
    found = runs.last_runs('ram://runs', 10)
    assert [run.name for run in found] == ['torn', 'flight-delay-20260102T000000', 'broken-20260101T000000']
    assert [len(run.examples) for run in found] == [0, 1, 1]
    assert found[0].errors[0].startswith('ram://runs/torn/summary.json: JSONDecodeError')
