"""LocalDagRunner for real, on a pipeline of two small components; the log, in processes of their own."""

import io
import pathlib
import re
import subprocess
import sys

import pytest
from tfx import v1 as tfx
from tfx.dsl.component.experimental.decorators import component

from tfx_cassandra.pipelines import local_runner


@component
def First(number: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Integer]) -> None:
    number.value = 7


@component
def Second(
    number: tfx.dsl.components.InputArtifact[tfx.types.standard_artifacts.Integer],
    fail: tfx.dsl.components.Parameter[bool],
    twice: tfx.dsl.components.OutputArtifact[tfx.types.standard_artifacts.Integer],
) -> None:
    number.read()
    if fail:
        raise RuntimeError('the second is broken')
    twice.value = 2 * number.value


def two_components(folder, fail=False, enable_cache=False):
    first = First()
    second = Second(number=first.outputs['number'], fail=fail)
    metadata = tfx.orchestration.metadata.sqlite_metadata_connection_config(str(folder / 'metadata.sqlite'))
    return tfx.dsl.Pipeline('two', str(folder / 'root'), metadata, [first, second], enable_cache=enable_cache)


def outputs(folder):
    return local_runner.last_outputs(folder / 'metadata.sqlite', folder / 'root')


def lines_of(pipeline):
    terminal = io.StringIO()
    local_runner.run(pipeline, terminal)
    return re.sub(r'\d+\.\d s', 'N s', terminal.getvalue()).splitlines()


def test_each_component_is_one_line(tmp_path):
    assert lines_of(two_components(tmp_path)) == ['First ... N s', 'Second ... N s']


def test_a_reused_component_says_so_and_keeps_its_artifacts(tmp_path):
    lines_of(two_components(tmp_path))
    first = outputs(tmp_path)
    assert lines_of(two_components(tmp_path, enable_cache=True)) == ['First: reused ... N s', 'Second: reused ... N s']
    assert {key: reused.id for key, reused in outputs(tmp_path).items()} == {
        key: made.id for key, made in first.items()
    }
    assert set(first) == {('First', 'number'), ('Second', 'twice')}
    assert pathlib.Path(first['Second', 'twice'].uri).read_text() == '14'


def test_the_outputs_are_those_of_the_latest_run(tmp_path):
    lines_of(two_components(tmp_path))
    earlier = outputs(tmp_path)
    lines_of(two_components(tmp_path))
    later = outputs(tmp_path)
    assert set(earlier) == set(later) == {('First', 'number'), ('Second', 'twice')}
    assert all(later[key].id > earlier[key].id for key in earlier)


def test_a_component_that_fails_is_named_and_its_error_comes_through(tmp_path):
    terminal = io.StringIO()
    with pytest.raises(RuntimeError, match='the second is broken'):
        local_runner.run(two_components(tmp_path, fail=True), terminal)
    assert re.fullmatch(r'First \.\.\. .* s\nSecond \.\.\. failed after .* s\n', terminal.getvalue())


NOISY = """
import os, pathlib, subprocess, sys
from tfx_cassandra.pipelines import local_runner
print('before')
terminal = local_runner.output_to(pathlib.Path(sys.argv[1]))
print('from python'); print('an error', file=sys.stderr)
os.write(2, b'from c++\\n')
subprocess.run(['echo', 'from a child'], check=True)
print('a step', file=terminal)
"""


def test_only_what_is_meant_for_the_terminal_gets_there(tmp_path):
    log = tmp_path / 'logs' / 'run.log'
    for _ in range(2):
        run = subprocess.run([sys.executable, '-c', NOISY, str(log)], capture_output=True, text=True, check=True)
        assert (run.stdout, run.stderr) == ('before\na step\n', '')
    once = {'from python', 'an error', 'from c++', 'from a child'}
    assert set(log.read_text().splitlines()) == once
    assert log.read_text().count('from c++') == 2  # the second run appends
