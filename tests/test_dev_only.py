"""The tests refuse a cluster that may hold anything of value."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import live_cluster
import pytest
from dev_only import ANY_CLUSTER, check_expendable


class _Session:
    def __init__(self, name: str) -> None:
        self._name = name

    def execute(self, cql: str) -> Any:
        assert cql == 'SELECT cluster_name FROM system.local'
        return types.SimpleNamespace(one=lambda: types.SimpleNamespace(cluster_name=self._name))


def test_a_development_cluster_is_expendable() -> None:
    check_expendable(_Session('tfx-cassandra'), {})


@pytest.mark.parametrize(
    'environ', [{}, {'TFX_CASSANDRA_TEST_ANY_CLUSTER': '0'}, {'TFX_CASSANDRA_TEST_ANY_CLUSTER': ''}]
)
def test_any_other_cluster_is_not(environ: dict) -> None:
    with pytest.raises(RuntimeError, match=r"^cluster_name: got 'Production', rule: 'tfx-cassandra', a development"):
        check_expendable(_Session('Production'), environ)


def test_any_other_cluster_is_where_the_environment_says_so() -> None:
    check_expendable(_Session('Production'), {'TFX_CASSANDRA_TEST_ANY_CLUSTER': '1'})


def test_the_integration_tests_check_a_cluster_before_they_use_it(monkeypatch: pytest.MonkeyPatch) -> None:
    session = contextlib.nullcontext(_Session('Production'))
    monkeypatch.setattr(live_cluster.connections, 'session', lambda _: session)
    monkeypatch.delenv(ANY_CLUSTER, raising=False)
    with pytest.raises(RuntimeError, match=r"^cluster_name: got 'Production'"):
        live_cluster.cluster_connection.__wrapped__()
