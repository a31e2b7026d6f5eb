"""What is asked of a ring is an error of one line where its nodes do not answer."""

from __future__ import annotations

import contextlib
import types

import pytest
from cassandra import DriverException

from tfx_cassandra.components.driver import ring
from tfx_cassandra.components.driver.connection import CassandraConnection
from tfx_cassandra.components.errors import UnavailableError


def test_nodes_that_stop_answering_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def refresh(force_token_rebuild: bool) -> None:
        raise DriverException('Node list was not refreshed. See log for details.')

    session = types.SimpleNamespace(cluster=types.SimpleNamespace(refresh_nodes=refresh))
    monkeypatch.setattr(ring.connections, 'session', lambda *_: contextlib.nullcontext(session))
    said = r'^contact_points: got 127\.0\.0\.1, rule: nodes that answer \(.*Node list was not refreshed'
    with pytest.raises(UnavailableError, match=said):
        ring.ring_facts(CassandraConnection(('127.0.0.1',), keyspace='ks'), ())
