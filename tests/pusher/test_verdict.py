"""What a push reads of a verdict, and what it refuses."""

from __future__ import annotations

import json
import pathlib

import pytest

from tfx_cassandra.components.errors import RegistryError
from tfx_cassandra.components.pusher.verdict import verdicts

ARM = {'model_id': 'm', 'version': '1', 'verdict': 'ship'}


def saved(folder: pathlib.Path, content: object) -> str:
    text = content if isinstance(content, bytes) else json.dumps(content).encode()
    (folder / 'verdict.json').write_bytes(text)
    return str(folder)


def test_each_version_of_the_model_has_its_verdict(tmp_path: pathlib.Path) -> None:
    others = [{**ARM, 'version': '2', 'verdict': 'harm'}, {**ARM, 'model_id': 'rival', 'version': '3'}]
    uri = saved(tmp_path, {'experiment_id': 'e', 'treatments': [ARM, *others]})
    assert verdicts(uri, 'e', 'm') == {'1': 'ship', '2': 'harm'}
    assert verdicts(uri, 'e', 'rival') == {'3': 'ship'}


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
    with pytest.raises(RegistryError, match=r"^verdict: got '.*verdict.json', rule: JSON with ") as caught:
        verdicts(saved(tmp_path, content), 'e', 'm')
    assert '\n' not in str(caught.value)


def test_a_verdict_that_is_absent_of_another_experiment_or_model(tmp_path: pathlib.Path) -> None:
    with pytest.raises(RegistryError, match=r"^verdict: got '.*verdict.json', rule: readable"):
        verdicts(str(tmp_path), 'e', 'm')
    uri = saved(tmp_path, {'experiment_id': 'e', 'treatments': [ARM]})
    with pytest.raises(RegistryError, match=r"^verdict: got one of experiment 'e', rule: of 'f'$"):
        verdicts(uri, 'f', 'm')
    with pytest.raises(RegistryError, match=r"^verdict: got one on 'm', rule: on model 'n'$"):
        verdicts(uri, 'e', 'n')
    uri = saved(tmp_path, {'experiment_id': 'e', 'treatments': []})
    with pytest.raises(RegistryError, match=r"^verdict: got one on no model, rule: on model 'm'$"):
        verdicts(uri, 'e', 'm')
