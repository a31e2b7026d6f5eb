"""Reading a verdict file: what a push needs of it, and what is refused."""

from __future__ import annotations

import io
import json
import pathlib
import subprocess
import sys
from unittest import mock

import pytest
import tensorflow as tf
from tfx.dsl.io import fileio

from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.experiment.verdict_file import read_verdict, treatment_verdicts

ARM = {'model_id': 'm', 'version': '1', 'verdict': 'ship'}


def saved(folder: pathlib.Path, content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / 'verdict.json').write_bytes(text)
    return str(folder)


def test_each_version_of_the_model_has_its_verdict(tmp_path: pathlib.Path) -> None:
    others = [{**ARM, 'version': '2', 'verdict': 'harm'}, {**ARM, 'model_id': 'rival', 'version': '3'}]
    uri = saved(tmp_path, {'experiment_id': 'e', 'treatments': [ARM, *others]})
    assert treatment_verdicts(uri, 'e', 'm') == {'1': 'ship', '2': 'harm'}
    assert treatment_verdicts(uri, 'e', 'rival') == {'3': 'ship'}


@pytest.mark.parametrize(
    'content',
    [
        b'', b'{', bytes(range(256)), b'[' * 100_000, 5, [], {}, {'experiment_id': 'e'},
        {'experiment_id': 'e', 'treatments': 5}, {'experiment_id': 'e', 'treatments': [5]},
        {'experiment_id': 'e', 'treatments': [{**ARM, 'version': ['1']}]},
        {'experiment_id': 'e', 'treatments': [{**ARM, 'version': 1}]},
        {'experiment_id': 'e', 'treatments': [{**ARM, 'model_id': {}}]},
        {'experiment_id': 'e', 'treatments': [{**ARM, 'verdict': []}]},
        {'experiment_id': 'e', 'treatments': [{**ARM, 'verdict': 'maybe'}]},
    ],
    ids=lambda content: repr(content)[:60],
)  # fmt: skip
def test_what_is_no_verdict_is_one_line(content: object, tmp_path: pathlib.Path) -> None:
    with pytest.raises(
        RegistryError, match=r"^verdict: got '.*verdict.json', rule: (JSON with|text in UTF-8) "
    ) as caught:
        treatment_verdicts(saved(tmp_path, content), 'e', 'm')
    assert '\n' not in str(caught.value)


def test_a_verdict_that_is_absent_of_another_experiment_or_model(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RegistryError, match=r"^verdict: got '.*', rule: a directory that holds verdict.json$"):
        treatment_verdicts(str(tmp_path), 'e', 'm')
    uri = saved(tmp_path, {'experiment_id': 'e', 'treatments': [ARM]})
    with pytest.raises(RegistryError, match=r"^verdict: got one of experiment 'e', rule: of 'f'$"):
        treatment_verdicts(uri, 'f', 'm')
    with pytest.raises(RegistryError, match=r"^verdict: got one on 'm', rule: on model 'n'$"):
        treatment_verdicts(uri, 'e', 'n')
    uri = saved(tmp_path, {'experiment_id': 'e', 'treatments': []})
    with pytest.raises(RegistryError, match=r"^verdict: got one on no model, rule: on model 'm'$"):
        treatment_verdicts(uri, 'e', 'm')


@pytest.mark.parametrize('prefix', ['', 'file://'])
def test_a_local_verdict_is_read_without_tensorflow(prefix: str, tmp_path: pathlib.Path) -> None:
    uri = prefix + saved(tmp_path, {'experiment_id': 'e', 'treatments': [ARM]})
    code = (
        'import sys; from tfx_cassandra.components.experiment.verdict_file import treatment_verdicts;'
        f'print(treatment_verdicts({uri!r}, "e", "m"), "tensorflow" in sys.modules)'
    )
    done = subprocess.run([sys.executable, '-c', code], capture_output=True, text=True, check=True)
    assert done.stdout == "{'1': 'ship'} False\n"


def test_a_remote_verdict_is_read_by_tfx(monkeypatch: pytest.MonkeyPatch) -> None:
    content = json.dumps({'experiment_id': 'e', 'treatments': [ARM]})
    monkeypatch.setattr(fileio, 'exists', lambda path: path == 'gs://bucket/a/verdict.json')
    monkeypatch.setattr(fileio, 'open', lambda path: io.StringIO(content))
    assert treatment_verdicts('gs://bucket/a', 'e', 'm') == {'1': 'ship'}
    with pytest.raises(
        RegistryError, match=r"^verdict: got 'gs://bucket/b', rule: a directory that holds verdict.json$"
    ):
        treatment_verdicts('gs://bucket/b', 'e', 'm')
    failure = tf.errors.UnavailableError(None, None, 'try\nagain')
    monkeypatch.setattr(fileio, 'exists', mock.Mock(side_effect=failure))
    with pytest.raises(RegistryError, match=r"^verdict: got 'gs://bucket/a/verdict.json', rule: readable .*try again"):
        read_verdict('gs://bucket/a')
